from contextlib import nullcontext

import pytest
import thinc.backends
import thinc.util
import torch
from device_array import (
    DeviceArray,
    DeviceOps,
    DeviceTensor,
    tensors_made_on_device,
    torch_on_device,
    xp,
)
from thinc.api import get_current_ops, set_current_ops

from spacy_skd.losses import autograd


class _Torch:
    """PyTorch, with the double's device in the place of CUDA."""

    autocast = staticmethod(lambda device_type, enabled: nullcontext())

    def device(self, kind, index=None):
        return torch.device("meta" if kind == "cuda" else kind)

    def __getattr__(self, name):
        return getattr(torch, name)


def torch2xp(tensor):
    on_device = isinstance(tensor, DeviceTensor)
    return DeviceArray(tensor._values.numpy()) if on_device else tensor.numpy()


@pytest.fixture
def ops(monkeypatch):
    """The ops of the double, and thinc and PyTorch in the belief that it is a GPU."""
    monkeypatch.setattr(thinc.util, "cupy", xp)
    monkeypatch.setattr(thinc.util, "has_cupy", True)
    monkeypatch.setattr(thinc.backends, "CupyOps", DeviceOps)
    monkeypatch.setattr(autograd, "torch", _Torch())
    monkeypatch.setattr(autograd, "torch2xp", torch2xp)
    before = get_current_ops()
    set_current_ops(DeviceOps())
    with torch_on_device(), tensors_made_on_device():
        yield get_current_ops()
    set_current_ops(before)
