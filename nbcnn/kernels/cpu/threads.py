"""How many threads the CPU kernels use, and whether two calls may run at the same time."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext

import numba

__all__ = ["exclusive", "most", "use"]

_one_at_a_time = threading.RLock()


def most() -> int:
    """The most threads that kernels can use in this process."""
    return int(numba.config.NUMBA_NUM_THREADS)


def use(count: int) -> None:
    """Let the kernels that this thread starts from now on use so many threads (Numba keeps the number for each
    thread).
    """
    numba.set_num_threads(count)


def exclusive() -> AbstractContextManager[object]:
    """A lock around kernel calls where Numba's threading layer allows only one caller, else nothing.

    The workqueue layer, which Numba falls back to where neither TBB nor OpenMP (libgomp) is found, ends the process
    when two threads start parallel kernels at once. Before the first kernel has run the layer is not known, so that
    one call runs alone too.
    """
    try:
        layer = numba.threading_layer()
    except ValueError:
        layer = "workqueue"
    return _one_at_a_time if layer == "workqueue" else nullcontext()
