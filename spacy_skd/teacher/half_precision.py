"""Transformers in half precision."""

from typing import Any, List

import torch
from spacy.language import Language
from thinc.api import Model
from thinc.shims import PyTorchShim


def use_bfloat16(nlp: Language) -> None:
    """Run a pipeline's PyTorch modules, and nothing else in it, under bfloat16 autocast.

    Weights and gradients remain float32, and so does what the modules put out: numpy has no
    bfloat16, and the sums and logarithms of the losses would suffer from it.

    nlp (Language): The pipeline; spacy-transformers and spacy-curated-transformers put their
        models into PyTorch shims.
    RAISES (ValueError): If there is none in it.
    """
    models = [getattr(pipe, "model", None) for _, pipe in nlp.components]
    nodes = [node for model in models if isinstance(model, Model) for node in model.walk()]
    shims = [shim for node in nodes for shim in node.shims if isinstance(shim, PyTorchShim)]
    modules = list({id(shim._model): shim._model for shim in shims}.values())
    if not modules:
        raise ValueError(
            f"Half precision is for transformers, and the pipeline {nlp.pipe_names} has none: "
            "leave it out."
        )
    for module in modules:
        device = next(module.parameters()).device.type
        module.forward = torch.autocast(device, dtype=torch.bfloat16)(module.forward)
        module.register_forward_hook(_to_float32)


def _to_float32(module: Any, inputs: Any, output: Any) -> Any:
    return _cast(output)


def _cast(output: Any) -> Any:
    if torch.is_tensor(output):
        return output.float() if output.is_floating_point() else output
    if isinstance(output, (list, tuple)):
        cast: List[Any] = [_cast(item) for item in output]
        return type(output)(*cast) if hasattr(output, "_fields") else type(output)(cast)
    if isinstance(output, dict):  # also the outputs of transformers, which are ordered dicts
        for key, value in output.items():
            output[key] = _cast(value)
    elif hasattr(output, "__dataclass_fields__"):
        for name in output.__dataclass_fields__:
            setattr(output, name, _cast(getattr(output, name)))
    return output
