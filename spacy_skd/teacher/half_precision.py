"""Transformers in half precision."""

import time
import warnings
from functools import cache
from typing import Any, List

import torch
from spacy.language import Language
from thinc.api import Model
from thinc.shims import PyTorchShim

# The shape of the matrix products that are timed, about that of a transformer's, and the number of
# rounds.
_ROWS, _WIDTH, _ROUNDS = 256, 384, 3


@cache
def has_fast_bfloat16(device: str) -> bool:
    """Find out whether products in bfloat16 are faster than in float32. Many CPUs have no
    instructions for them, and emulate them about sixty times slower.

    device (str): PyTorch's name of the device, such as "cpu" or "cuda".
    RETURNS (bool): For a CPU as measured, which takes a few milliseconds. For CUDA, whether the GPU
        is of the generation Ampere or later. False for any other device.
    """
    if device != "cpu":
        return device == "cuda" and torch.cuda.get_device_capability()[0] >= 8
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = (torch.ones(n, _WIDTH, dtype=dtype) for n in (_ROWS, _WIDTH))
        a @ b  # a warm-up
        rounds = []
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            a @ b
            rounds.append(time.perf_counter() - start)
        seconds[dtype] = min(rounds)
    return seconds[torch.bfloat16] < seconds[torch.float32]


def transformers_of(nlp: Language) -> List[Any]:
    """RETURNS (List[torch.nn.Module]): The PyTorch modules of a pipeline, each once."""
    models = [getattr(pipe, "model", None) for _, pipe in nlp.components]
    nodes = [node for model in models if isinstance(model, Model) for node in model.walk()]
    shims = [shim for node in nodes for shim in node.shims if isinstance(shim, PyTorchShim)]
    return list({id(shim._model): shim._model for shim in shims}.values())


def use_bfloat16(nlp: Language) -> None:
    """Run the PyTorch modules of a pipeline under bfloat16 autocast.

    Weights, gradients and the modules' output remain float32: numpy has no bfloat16, and the losses
    would lose precision.

    nlp (Language): The pipeline. spacy-transformers and spacy-curated-transformers put their models
        into PyTorch shims.
    RAISES (ValueError): If the pipeline has no such module.
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
