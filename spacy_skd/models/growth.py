"""Layers whose number of outputs follows the labels. Parameters for existing labels are kept."""

from typing import Any, Dict

from thinc.api import Model

# How much lower a new label scores than the mean of the old labels, in log space. So a rounding
# error can't put it first, even if the old labels all score the same.
BELOW_MEAN = 1.0


def grow(model: Model[Any, Any], nO: int, n_axes: Dict[str, int]) -> None:
    """Set a layer's number of outputs. The parameters of an initialized layer become the first
    corner of larger arrays of zeros, or are cut to smaller ones. Gradients, and the optimizer's
    averages of them, start anew.

    model (Model): The layer, changed in place.
    nO (int): The new number.
    n_axes (Dict[str, int]): For each parameter that grows, the number of its first axes that are
        outputs.
    """
    if model.has_dim("nO") and model.get_dim("nO") == nO:
        return
    params: Dict[str, Any] = {
        name: model.get_param(name) for name in model.param_names if model.has_param(name)
    }
    with_grad = {name for name in params if model.has_grad(name)}
    # thinc changes the dimensions of a layer only while it has no parameters.
    for name in params:
        model.set_param(name, None)
    model.set_dim("nO", nO, force=True)
    if params:
        # Optimizers keep averages of gradients by the layer's id, and the old shapes don't fit.
        with Model.global_id_lock:
            Model.global_id += 1
            model.id = Model.global_id
    for name, old in params.items():
        grows = n_axes.get(name, 0)
        new = model.ops.alloc((nO,) * grows + old.shape[grows:], dtype=old.dtype)
        corner = tuple(slice(min(sizes)) for sizes in zip(old.shape, new.shape))
        new[corner] = old[corner]
        model.set_param(name, new)
        if name in with_grad:
            model.set_grad(name, model.ops.alloc(new.shape, dtype=old.dtype))


def grow_linear(model: Model[Any, Any], nO: int) -> None:
    """Give a Linear layer more outputs.

    model (Model): The layer, initialized or not.
    nO (int): The new number of outputs.
    """
    grow(model, nO, {"W": 1, "b": 1})
