"""Models that grow when a label is added: new rows of zeros, the old ones untouched."""

from typing import Any, Tuple

from thinc.api import Model


def grow_param(model: Model[Any, Any], name: str, shape: Tuple[int, ...]) -> None:
    """Put a parameter into the first corner of a larger one of zeros.

    model (Model): The layer that has the parameter.
    name (str): The parameter's name.
    shape (Tuple[int, ...]): Its new shape, in no direction smaller than the old.
    """
    old: Any = model.get_param(name)
    new = model.ops.alloc(shape, dtype=old.dtype)
    new[tuple(slice(size) for size in old.shape)] = old
    model.set_param(name, new)
    if model.has_grad(name):
        model.set_grad(name, model.ops.alloc(shape, dtype=old.dtype))


def grow_linear(model: Model[Any, Any], nO: int) -> None:
    """Give a Linear layer more outputs.

    model (Model): The layer, initialized or not.
    nO (int): The new number of outputs.
    """
    model.set_dim("nO", nO, force=True)
    if model.has_param("W"):
        grow_param(model, "W", (nO, model.get_dim("nI")))
        grow_param(model, "b", (nO,))
