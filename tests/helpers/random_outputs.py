"""Heads start from zero scores, which no encoder's gradient goes through: tests that look at what
an untrained component does give it random ones."""

from typing import Any

import numpy


def randomize(pipe: Any, seed: int = 0) -> None:
    """Give the output layers of a component random parameters, the same each time."""
    rng = numpy.random.default_rng(seed)
    for name in ("emissions", "starts", "arcs", "labels"):
        if pipe.model.has_ref(name):
            layer = pipe.model.get_ref(name)
            for param in layer.param_names:
                values = rng.normal(size=layer.get_param(param).shape) * 0.3
                layer.set_param(param, layer.ops.asarray(values.astype("f")))
