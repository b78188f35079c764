"""The devices of the tests: a test double, and a GPU where there is one."""

from contextlib import contextmanager, nullcontext

import numpy
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
from thinc.api import CupyOps, get_current_ops, set_current_ops
from thinc.util import has_cupy_gpu, has_torch_cuda_gpu

from spacy_skd.losses import tensors


class _Torch:
    """PyTorch with the double's device instead of CUDA."""

    autocast = staticmethod(lambda device_type, enabled: nullcontext())

    def device(self, kind, index=None):
        return torch.device("meta" if kind == "cuda" else kind)

    def __getattr__(self, name):
        return getattr(torch, name)


def torch2xp(tensor):
    on_device = isinstance(tensor, DeviceTensor)
    return DeviceArray(tensor._values.numpy()) if on_device else tensor.numpy()


@pytest.fixture
def double(monkeypatch):
    """The ops of the double, which thinc and PyTorch take for a GPU."""
    monkeypatch.setattr(thinc.util, "cupy", xp)
    monkeypatch.setattr(thinc.util, "has_cupy", True)
    monkeypatch.setattr(thinc.backends, "CupyOps", DeviceOps)
    monkeypatch.setattr(tensors, "torch", _Torch())
    monkeypatch.setattr(tensors, "torch2xp", torch2xp)
    with torch_on_device(), tensors_made_on_device(), use_ops_of(DeviceOps()):
        yield get_current_ops()


needs_gpu = pytest.mark.skipif(
    not (has_cupy_gpu and has_torch_cuda_gpu), reason="There is no GPU, or no cupy or CUDA PyTorch."
)


@pytest.fixture(params=["double", pytest.param("gpu", marks=needs_gpu)])
def ops(request):
    """The ops of the double, then those of a GPU where there is one."""
    if request.param == "double":
        yield request.getfixturevalue("double")
    else:
        with use_ops_of(CupyOps()):
            yield get_current_ops()


@pytest.fixture
def rng():
    return numpy.random.default_rng(0)


@contextmanager
def use_ops_of(ops):
    before = get_current_ops()
    set_current_ops(ops)
    yield
    set_current_ops(before)
