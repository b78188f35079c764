"""Layers that multiply matrices with numpy's own BLAS where thinc would take BLIS.

The BLAS that numpy's wheels bring (OpenBLAS, or Accelerate on a Mac) is the faster one for the
products of a tok2vec: how much faster on a machine, `python -m benchmarks` measures.
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
    """Let layers multiply matrices with numpy's BLAS, if that is the faster one here.

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
    """Whether numpy's matrix product is taken for the faster one.

    Known by the library that numpy was built with, and not timed here: all processes of a machine
    choose alike. The environment variable SPACY_SKD_GEMM forces the choice.

    RETURNS (bool): True for numpy's, False for thinc's own, which is BLIS.
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
    """Let numpy's BLAS use one thread of the machine inside, as BLIS does, and then as many as
    before. Where the environment sets its number of threads, nothing is changed.

    The number belongs to the process: of blocks that overlap in several threads, the first sets it
    and the last resets it.
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
                    # Else only the thread that has set the number could reset it.
                    if hasattr(library, "clear_controlling_thread"):
                        library.clear_controlling_thread(force=True)
                _limits.restore_original_limits()
