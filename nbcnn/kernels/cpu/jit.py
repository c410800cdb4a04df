"""How every CPU kernel is compiled: draft.py has the compiler itself, cache.py keeps what it made."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

import numba

from nbcnn.kernels.cpu.cache import KernelCache
from nbcnn.kernels.cpu.draft import ApartCompiler, KernelCompiler

__all__ = ["alone", "inlined", "kernel", "serial", "small_kernel"]

FASTMATH = {"nsz", "arcp", "contract", "afn", "reassoc"}
"""No nnan and no ninf: a NaN must stay a NaN, or a diverging run would look healthy."""

OPTIONS = {"fastmath": FASTMATH, "error_model": "numpy", "nogil": True, "no_cfunc_wrapper": True}


def _kernel(function: Callable[..., Any], **options: Any) -> Any:
    dispatcher = numba.njit(function, pipeline_class=KernelCompiler, **OPTIONS, **options)
    dispatcher._cache = KernelCache(function)
    return dispatcher


def kernel(function: Callable[..., Any]) -> Any:
    """Decorator of a kernel that the plan may bind: compiled on first use, in parallel over cores, cached on disk.

    Numba counts a prange in unsigned integers, which would compile whatever the index is passed to a second time, and
    turn arithmetic with other integers into floats: take `np.int64(index)` first.
    """
    return _kernel(function, parallel=True)


def small_kernel(function: Callable[..., Any]) -> Any:
    """Decorator of a kernel that the plan may bind, and that is too small to split."""
    return _kernel(function)


@cache
def alone(dispatcher: Any) -> Any:
    """The same kernel for one thread: to call a team together takes longer than a small call.

    Made when it is asked for, because its names are those that the module has by then.
    """
    function = dispatcher.py_func
    names = {**function.__globals__, "prange": range, "get_thread_id": _only_thread}
    copy = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    copy.__qualname__, copy.__module__ = f"{function.__qualname__}.alone", function.__module__
    return _kernel(copy)


def serial(function: Callable[..., Any]) -> Any:
    """Decorator of what runs inside one thread of a kernel: its body. Only compiled code can call it, and what is kept
    on disk is the kernel that it became a part of.
    """
    return numba.njit(function, no_cpython_wrapper=True, **OPTIONS)


def inlined(function: Callable[..., Any]) -> Any:
    """As `serial`, and a copy of it in every caller: for a loop over a register tile, which a call would pass through
    memory.
    """
    return numba.njit(function, no_cpython_wrapper=True, forceinline=True, **OPTIONS)


def apart(function: Callable[..., Any]) -> Any:
    """As `serial`, and never copied into its callers: for a loop whose registers their other variables would take."""
    return numba.njit(function, pipeline_class=ApartCompiler, no_cpython_wrapper=True, **OPTIONS)


@serial
def _only_thread() -> int:
    """The thread's number, where there is one."""
    return 0
