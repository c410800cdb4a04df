"""How many threads the CPU kernels use, and whether two calls may run at the same time."""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module

import numba

__all__ = ["exclusive", "most", "use"]

SPINS = "5000"
"""How often a thread of GNU OpenMP looks for work before it sleeps: some 20 µs, enough from one kernel to the next.

By itself it looks for milliseconds. Where the cores are not all ours, a thread that waits so keeps a core from the one
it waits for: ResNet-18 then took 60 to 190 ms instead of 20 to 24. Without any spinning LeNet took 0.4 ms instead of
0.06 (two cores of an AMD EPYC of the Zen 4 generation).
"""


def _load_openmp() -> None:
    """Load GNU OpenMP with that setting, unless the user made one; copies in other libraries are left alone."""
    if "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ:
        return
    os.environ["GOMP_SPINCOUNT"] = SPINS
    try:
        import_module("numba.np.ufunc.omppool")  # which loads the library, which reads the variable
    except ImportError:
        pass
    finally:
        del os.environ["GOMP_SPINCOUNT"]


_load_openmp()
_one_at_a_time = threading.RLock()
_shared: AbstractContextManager[object] | None = None
_here = threading.local()
"""count: what this thread last asked Numba for, which takes two microseconds to be asked."""


def most() -> int:
    """The most threads that kernels can use in this process."""
    return int(numba.config.NUMBA_NUM_THREADS)


def use(count: int) -> None:
    """Let the kernels that this thread starts from now on use so many threads (Numba keeps the number for each
    thread).
    """
    if getattr(_here, "count", 0) != count:
        numba.set_num_threads(count)
        _here.count = count


def exclusive() -> AbstractContextManager[object]:
    """A lock around kernel calls where Numba's threading layer allows only one caller, else nothing.

    The workqueue layer, which Numba falls back to where neither TBB nor OpenMP (libgomp) is found, ends the process
    when two threads start parallel kernels at once. Before the first kernel has run the layer is not known, so that
    one call runs alone too.
    """
    global _shared  # noqa: PLW0603 (a layer is chosen once, for the whole process)
    if _shared is None:
        try:
            layer = numba.threading_layer()
        except ValueError:
            return _one_at_a_time
        _shared = _one_at_a_time if layer == "workqueue" else nullcontext()
    return _shared
