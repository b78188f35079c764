"""Layers whose matrix products are computed by numpy's BLAS instead of thinc's BLIS.

The BLAS in numpy's wheels (OpenBLAS, or Accelerate on a Mac) is faster for the products of a
tok2vec. `python -m benchmarks` measures by how much.
"""

import os
import threading
from contextlib import contextmanager
from functools import cache
from typing import Any, Iterable, Iterator

import numpy
from thinc.api import Model, NumpyOps
from threadpoolctl import ThreadpoolController

GEMM = "SPACY_SKD_GEMM"  # the environment variable: "numpy" or "blis", for this process
THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "OMP_NUM_THREADS")
FAST_BLAS = ("openblas", "mkl", "accelerate")

_FAST_OPS = NumpyOps(use_blis=False)


def use_fast_ops(layers: Iterable[Model[Any, Any]]) -> None:
    """Let layers use numpy's BLAS, if it is the faster one.

    Layers with other ops than thinc's plain ones, a GPU's or Apple's, are left alone. To be called
    in each forward pass: a layer's ops are lost when a model is copied or moved to the CPU.

    layers (Iterable[Model]): The layers, changed in place.
    """
    if numpy_is_fast():
        for layer in layers:
            ops: Any = layer.ops
            if type(ops) is NumpyOps and ops.use_blis:
                layer.ops = _FAST_OPS


@cache
def numpy_is_fast() -> bool:
    """Find out whether numpy's BLAS is the faster one.

    The library that numpy was built with decides, and no measurement, so that all processes of a
    machine decide alike. The environment variable SPACY_SKD_GEMM replaces the decision.

    RETURNS (bool): True for numpy's BLAS, False for thinc's, which is BLIS.
    RAISES (ValueError): If the environment variable is neither "numpy" nor "blis".
    """
    forced = os.environ.get(GEMM, "")
    if forced not in ("", "numpy", "blis"):
        raise ValueError(f'{GEMM} is "{forced}" in the environment: set it to "numpy" or "blis".')
    if forced:
        return forced == "numpy"
    config: Any = numpy.show_config(mode="dicts")
    blas = config["Build Dependencies"]["blas"]["name"].lower()
    return any(name in blas for name in FAST_BLAS)


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


_lock = threading.Lock()
_n_inside = 0
_limits: Any = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let numpy's BLAS use one thread inside the context, as BLIS does. If the environment sets the
    number of threads, nothing changes.

    The number belongs to the process: if contexts of several threads overlap, the first one sets
    the number and the last one resets it.
    """
    global _n_inside, _limits
    if any(os.environ.get(name) for name in THREADS) or not numpy_is_fast():
        yield
        return
    with _lock:
        if _n_inside == 0:
            _limits = _blas().limit(limits=1)
        _n_inside += 1
    try:
        yield
    finally:
        with _lock:
            _n_inside -= 1
            if _n_inside == 0:
                for library in _blas().lib_controllers:
                    # Otherwise only the thread that has set the number can reset it.
                    if hasattr(library, "clear_controlling_thread"):
                        library.clear_controlling_thread(force=True)
                _limits.restore_original_limits()
