"""Definitions of losses, differentiated in double precision, to compare the losses with."""

from typing import Any, Callable, List, Tuple

import numpy
import torch
from numpy.testing import assert_allclose

from helpers.scores import arrays_of, tensors_of


def describe(objective: Any) -> str:
    settings = ", ".join(f"{name}={value}" for name, value in vars(objective).items())
    return f"{type(objective).__name__}({settings})"


def exact_gradient(loss: Callable[..., Any], scores: Any) -> Tuple[float, List[Any]]:
    """A function of the arrays of scores: its value, and its gradient by each array."""
    leaves = [tensor.requires_grad_() for tensor in tensors_of(scores)]
    # The value may depend on none of the arrays.
    value = loss(*leaves) + leaves[0].sum() * 0.0
    gradients = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    return float(value.detach()), [gradient.numpy() for gradient in gradients]


def assert_same_gradient(
    gradient: Any, expected: List[Any], rtol: float = 1e-5, atol: float = 1e-6
) -> None:
    for array, other in zip(arrays_of(gradient), expected, strict=True):
        assert array.dtype == numpy.float32
        assert_allclose(array, other, rtol=rtol, atol=atol)


def assert_same_loss(
    computed: Tuple[float, Any],
    expected: Tuple[float, List[Any]],
    rtol: float = 1e-6,
    atol: float = 1e-6,
    loss_atol: float = 0.0,
) -> None:
    """Compare a loss, and its gradient with ten times the relative tolerance."""
    assert_allclose(computed[0], expected[0], rtol=rtol, atol=loss_atol)
    assert_same_gradient(computed[1], expected[1], 10 * rtol, atol)
