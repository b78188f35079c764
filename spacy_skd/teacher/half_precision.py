"""Transformers in half precision."""

import time
import warnings
from functools import cache
from typing import Any, List

import torch
from spacy.language import Language
from thinc.api import Model
from thinc.shims import PyTorchShim

# The sides of a transformer's products, more or less, and how often one is timed.
_ROWS, _WIDTH, _ROUNDS = 256, 384, 3


@cache
def has_fast_bfloat16(device: str) -> bool:
    """Whether products in bfloat16 are faster than in float32. Many a processor has no
    instructions for them, and emulates them some sixty times slower: there is no telling but by
    trying, which takes a few milliseconds.

    device (str): PyTorch's name of it, such as "cpu" or "cuda".
    RETURNS (bool): For a CPU as measured, for CUDA by what the GPU is (Ampere or later); False for
        any other device.
    """
    if device != "cpu":
        return device == "cuda" and torch.cuda.get_device_capability()[0] >= 8
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = (torch.ones(n, _WIDTH, dtype=dtype) for n in (_ROWS, _WIDTH))
        a @ b  # the first one sets things up
        rounds = []
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            a @ b
            rounds.append(time.perf_counter() - start)
        seconds[dtype] = min(rounds)
    return seconds[torch.bfloat16] < seconds[torch.float32]


def transformers_of(nlp: Language) -> List[Any]:
    """RETURNS (List[torch.nn.Module]): A pipeline's PyTorch modules, each once."""
    models = [getattr(pipe, "model", None) for _, pipe in nlp.components]
    nodes = [node for model in models if isinstance(model, Model) for node in model.walk()]
    shims = [shim for node in nodes for shim in node.shims if isinstance(shim, PyTorchShim)]
    return list({id(shim._model): shim._model for shim in shims}.values())


def use_bfloat16(nlp: Language) -> None:
    """Run a pipeline's PyTorch modules, and nothing else in it, under bfloat16 autocast.

    Weights and gradients remain float32, and so does what the modules put out: numpy has no
    bfloat16, and the sums and logarithms of the losses would suffer from it.

    nlp (Language): The pipeline; spacy-transformers and spacy-curated-transformers put their
        models into PyTorch shims.
    RAISES (ValueError): If there is none in it.
    """
    modules = transformers_of(nlp)
    if not modules:
        raise ValueError(
            f"Half precision is for transformers, and the pipeline {nlp.pipe_names} has none: "
            "leave it out."
        )
    if not has_fast_bfloat16(next(modules[0].parameters()).device.type):
        warnings.warn(
            "This device has no fast products in bfloat16: half precision is slower here than "
            "float32, many times on most CPUs. Leave it out.",
            stacklevel=2,
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
