"""A test double of a GPU's arrays: cupy and CUDA tensors on a machine that has neither.

`DeviceArray` stands for a cupy array. It refuses every implicit copy to the host, as cupy does, and
also those that cupy allows but that wait for the device (float(), bool(), ...). It is no subclass
of numpy.ndarray, since numpy.asarray and the C functions accept every subclass.

`DeviceTensor` stands for a CUDA tensor: it refuses to be mixed with tensors of the host.
"""

import operator
from types import SimpleNamespace

import numpy
import torch
from thinc.api import NumpyOps, Ops
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

# The functions of cupy that we and thinc use. Look a function up in cupy's reference before you add
# it here.
_FUNCTIONS = """
    add argsort arange array asarray ascontiguousarray clip concatenate cumsum dot empty exp
    flatnonzero full
    isfinite matmul maximum minimum ones pad sqrt split take_along_axis where zeros
""".split()
_CONSTANTS = "bool_ finfo float32 float64 iinfo inf int32 int64 nan newaxis".split()
# The functions that copy from the host to the device.
_FROM_HOST = {"array", "asarray"}


def _refuse(*args, **kwargs):
    raise TypeError("An implicit copy of a device array to the host.")


def _host(value):
    """The numpy array of a device array, or of those in a list."""
    if isinstance(value, DeviceArray):
        return value._array
    if isinstance(value, (list, tuple)):
        return type(value)(_host(item) for item in value)
    if isinstance(value, numpy.ndarray):
        raise TypeError("A host array where a device array belongs.")
    return value


def _device(value):
    if isinstance(value, (numpy.ndarray, numpy.generic)):
        return DeviceArray(numpy.asarray(value))
    if isinstance(value, (list, tuple)):
        return type(value)(_device(item) for item in value)
    return value


def _on_device(function):
    def call(*args, **kwargs):
        out = kwargs.get("out")
        kwargs = {name: _host(value) for name, value in kwargs.items()}
        result = _device(function(*(_host(arg) for arg in args), **kwargs))
        return result if out is None else out

    return call


def _in_place(function):
    def call(array, other):
        function(array._array, _host(other))
        return array

    return call


class DeviceArray:
    """An array that is not on the host. `get` and `toDlpack` copy it to the host."""

    # Binary operators of numpy's arrays and scalars give way to ours; numpy's functions refuse.
    __array_ufunc__ = None
    __hash__ = None
    device = SimpleNamespace(id=0)

    def __init__(self, array):
        assert type(array) is numpy.ndarray
        self._array = array

    def get(self):
        return self._array.copy()

    def toDlpack(self):
        # Mixed case, since cupy calls it so.
        return torch.utils.dlpack.to_dlpack(torch.from_numpy(self._array))

    def __len__(self):
        return len(self._array)

    def __repr__(self):
        return f"DeviceArray(shape={self.shape}, dtype={self.dtype})"

    def __deepcopy__(self, memo):
        return self.copy()

    def __getitem__(self, index):
        return _device(self._array[_host(index)])

    def __setitem__(self, index, value):
        self._array[_host(index)] = _host(value)

    @property
    def T(self):
        return DeviceArray(self._array.T)

    shape = property(lambda self: self._array.shape)
    size = property(lambda self: self._array.size)
    ndim = property(lambda self: self._array.ndim)
    dtype = property(lambda self: self._array.dtype)
    # cupy's flags have no "writeable".
    flags = property(lambda self: _Flags(self._array.flags))


class _Flags:
    def __init__(self, flags):
        self.c_contiguous = flags.c_contiguous

    def __getitem__(self, name):
        return {"C_CONTIGUOUS": self.c_contiguous}[name]


for _name in "astype reshape transpose sum max min argmax argmin any all copy mean ravel".split():
    setattr(DeviceArray, _name, _on_device(getattr(numpy.ndarray, _name)))
for _name in "add sub mul truediv floordiv mod pow matmul and or xor".split():
    _operator = getattr(operator, f"__{_name}__")
    setattr(DeviceArray, f"__{_name}__", _on_device(_operator))
    setattr(DeviceArray, f"__r{_name}__", _on_device(lambda a, b, _f=_operator: _f(b, a)))

    setattr(DeviceArray, f"__i{_name}__", _in_place(getattr(operator, f"__i{_name}__")))
for _name in "lt le eq ne gt ge neg invert abs".split():
    setattr(DeviceArray, f"__{_name}__", _on_device(getattr(operator, f"__{_name}__")))
for _name in """
    __array__ __array_function__ __bool__ __complex__ __contains__ __float__ __index__ __int__
    __iter__ __reduce_ex__ item tobytes tolist
""".split():
    setattr(DeviceArray, _name, _refuse)


def _from_host(function):
    def call(data, dtype=None, order="K"):
        if isinstance(data, DeviceArray):
            data = data._array
        return DeviceArray(numpy.array(data, dtype=dtype, order=order))

    return call


xp = SimpleNamespace(
    ndarray=DeviceArray,
    **{name: getattr(numpy, name) for name in _CONSTANTS},
    **{
        name: (_from_host if name in _FROM_HOST else _on_device)(getattr(numpy, name))
        for name in _FUNCTIONS
    },
)
# Like cupy's, it wants its indices on the host.
xp.split = lambda array, at: _device(numpy.split(_host(array), at))
xp.random = SimpleNamespace(
    uniform=lambda *args: DeviceArray(numpy.random.default_rng(0).uniform(*args))
)


class DeviceOps(Ops):
    """What CupyOps is for cupy, as far as our layers use it."""

    name = "device_double"
    xp = xp

    def __init__(self):
        super().__init__("gpu", 0)

    def to_numpy(self, data, *, byte_order=None):
        data = data if isinstance(data, numpy.ndarray) else data.get()
        return data if byte_order is None else data.astype(data.dtype.newbyteorder(byte_order))

    def asarray(self, data, dtype=None):
        return xp.asarray(data, dtype=dtype)

    def scatter_add(self, table, indices, values):
        numpy.add.at(_host(table), _host(indices), _host(values))

    def reduce_mean(self, X, lengths):
        # cupy has a kernel for it.
        return _device(NumpyOps().reduce_mean(_host(X), _host(lengths)))


class DeviceTensor(torch.Tensor):
    """A tensor on the device "meta", which no host tensor can be mixed with; its values are kept
    beside it."""

    @staticmethod
    def __new__(cls, values):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            values.shape,
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device="meta",
        )

    def __init__(self, values):
        self._values = values

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError("A device tensor outside of torch_on_device.")

    def __repr__(self):
        return f"DeviceTensor(shape={tuple(self.shape)}, dtype={self.dtype})"


class tensors_made_on_device(TorchFunctionMode):
    """Makes torch.tensor copy from the host to the device where a dispatch mode sees it."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is torch.tensor and "device" in kwargs:
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        return func(*args, **kwargs)


class torch_on_device(TorchDispatchMode):
    """Computes on the host what device tensors and the device "meta" take part in."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        arguments, spec = tree_flatten((args, kwargs or {}))
        tensors = [a for a in arguments if isinstance(a, torch.Tensor)]
        on_device = any(isinstance(tensor, DeviceTensor) for tensor in tensors)
        named = (kwargs or {}).get("device")
        copies = func in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
        if on_device and not copies:
            # CUDA takes scalars from the host, nothing else.
            for tensor in tensors:
                if not isinstance(tensor, DeviceTensor) and tensor.ndim:
                    raise RuntimeError(f"{func}: a host tensor where a device tensor belongs.")
        to_device = on_device if named is None else torch.device(named).type == "meta"
        plain = [a._values if isinstance(a, DeviceTensor) else a for a in arguments]
        args, kwargs = tree_unflatten(plain, spec)
        if named is not None:
            kwargs["device"] = torch.device("cpu")
        result = func(*args, **kwargs)
        if func._schema.is_mutable:
            return arguments[0]
        return tree_map_only(torch.Tensor, DeviceTensor, result) if to_device else result
