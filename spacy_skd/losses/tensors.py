"""Arrays to tensors and back: a loss on tensors becomes a loss on scores with a gradient."""

from dataclasses import dataclass, replace
from typing import Any, Callable, List, Tuple, TypeVar, Union, cast

import torch
from thinc.util import is_cupy_array, torch2xp, xp2torch
from torch import Tensor

from ..structures import ArcScores, ChainScores, SentenceGroup

ScoresT = TypeVar("ScoresT", ChainScores, ArcScores)


@dataclass
class ChainTensors:
    """The arrays of ChainScores as tensors, of the same names and shapes."""

    emissions: Tensor
    transitions: Tensor
    start: Tensor
    end: Tensor


@dataclass
class ArcTensors:
    """The floating point arrays of ArcScores as tensors, of the same names and shapes."""

    starts: Tensor
    labels: Tensor
    arcs: List[Tensor]


def floats(array: Any, device: torch.device) -> Tensor:
    """RETURNS (Tensor): float64, from an array of any floating point type, with the array's
    values in single precision."""
    return _single(array, device).double()


def integers(array: Any, device: torch.device) -> Tensor:
    """RETURNS (Tensor): int64, from an array of any integer type."""
    return cast(Tensor, xp2torch(array.astype("int64"), device=device))


def mask(array: Any, device: torch.device) -> Tensor:
    """RETURNS (Tensor): bool, from an array of bools."""
    # As bytes, since not every version of DLPack supports bool.
    return cast(Tensor, xp2torch(array.astype("uint8"), device=device)).bool()


def chain_tensors(scores: ChainScores, device: torch.device) -> ChainTensors:
    """RETURNS (ChainTensors): float64, the potentials of chains."""
    return cast(ChainTensors, _group(scores, [floats(array, device) for array in _arrays(scores)]))


def arc_tensors(scores: ArcScores, device: torch.device) -> ArcTensors:
    """RETURNS (ArcTensors): float64, the potentials of arcs, labels and sentence starts."""
    return cast(ArcTensors, _group(scores, [floats(array, device) for array in _arrays(scores)]))


def differentiate(loss: Callable[[Any], Tensor], scores: ScoresT) -> Tuple[float, ScoresT]:
    """Compute a loss and its gradient with respect to scores.

    Scores and gradient are in single precision, and the computation in double precision, also if
    the caller uses autocast, which would compute the loss in bfloat16.

    loss (Callable[[Any], Tensor]): ChainTensors or ArcTensors, float64, on the device of the
        scores, to a scalar.
    scores (ScoresT): The scores.
    RETURNS (Tuple[float, ScoresT]): The loss, and its gradient: float32, in the scores' array
        module, zeros where the loss does not depend on a score.
    """
    arrays = _arrays(scores)
    # The default of xp2torch is the device of thinc's current ops, and not that of the array.
    on_gpu = is_cupy_array(arrays[0])
    device = torch.device("cuda", arrays[0].device.id) if on_gpu else torch.device("cpu")
    leaves = [_single(array, device).detach().requires_grad_() for array in arrays]
    with torch.enable_grad(), torch.autocast(device.type, enabled=False):
        value = loss(_group(scores, [leaf.double() for leaf in leaves]))
        gradients = torch.autograd.grad(value, leaves, allow_unused=True)
    pairs = zip(leaves, gradients, strict=True)
    filled = [torch.zeros_like(leaf) if gradient is None else gradient for leaf, gradient in pairs]
    return float(value.detach()), _ungroup(scores, [torch2xp(g.contiguous()) for g in filled])


def parts_of(scores: ChainTensors) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """RETURNS (Tuple[Tensor, Tensor, Tensor, Tensor]): Emissions, transitions, start and end."""
    return scores.emissions, scores.transitions, scores.start, scores.end


def group_tensors(group: SentenceGroup, device: torch.device) -> Tuple[Tensor, Tensor, Tensor]:
    """RETURNS (Tuple[Tensor, Tensor, Tensor]): `tokens`, `is_token` and `is_arc` of a group of
    sentences."""
    return (
        integers(group.tokens, device),
        mask(group.is_token, device),
        mask(group.is_arc, device),
    )


def _single(array: Any, device: torch.device) -> Tensor:
    """RETURNS (Tensor): float32; shares the array's memory where it can."""
    array = array.astype("float32", copy=False)
    # Neither DLPack nor PyTorch takes every layout, nor read-only memory.
    if not (array.flags.c_contiguous and getattr(array.flags, "writeable", True)):
        array = array.copy()
    return cast(Tensor, xp2torch(array, device=device))


def _arrays(scores: Union[ChainScores, ArcScores]) -> List[Any]:
    if isinstance(scores, ChainScores):
        return [scores.emissions, scores.transitions, scores.start, scores.end]
    return [scores.starts, scores.labels, *scores.arcs]


def _group(
    scores: Union[ChainScores, ArcScores], tensors: List[Tensor]
) -> Union[ChainTensors, ArcTensors]:
    if isinstance(scores, ChainScores):
        return ChainTensors(*tensors)
    return ArcTensors(tensors[0], tensors[1], tensors[2:])


def _ungroup(scores: Any, arrays: List[Any]) -> Any:
    if isinstance(scores, ChainScores):
        emissions, transitions, start, end = arrays
        return ChainScores(emissions, transitions, start, end, scores.lengths)
    return replace(scores, starts=arrays[0], labels=arrays[1], arcs=arrays[2:])
