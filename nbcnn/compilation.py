"""Compiling what a plan needs before its first step, and telling who wants to know how far that is.

Machine code is kept on disk, so this happens once for a machine, a kernel and a type of arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbcnn.threads import get_num_threads

if TYPE_CHECKING:
    from nbcnn.binder import Call
    from nbcnn.kernels.cpu.ahead import Job

__all__ = ["Compilation", "compile_ahead", "lacking", "watch_compilation"]


@dataclass(frozen=True)
class Compilation:
    """How far it is. done: kernels compiled, of all that are lacking. kernel: the one that was done last, or "". kept:
    whether the disk takes what is compiled.
    """

    done: int
    total: int
    kernel: str
    kept: bool = True


Watcher = Callable[[Compilation], None]
_watcher: ContextVar[Watcher | None] = ContextVar("nbcnn_compilation_watcher", default=None)


@contextmanager
def watch_compilation(watcher: Watcher) -> Iterator[None]:
    """Call `watcher`, from any thread, when a plan of this context begins to compile, and after each kernel."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def lacking(calls: Iterable[Call]) -> list[Job]:
    """What has to be compiled before these calls can be made."""
    from nbcnn.kernels.cpu.ahead import missing

    return missing((c.kernel, [_stand_in(a) for a in c.args]) for c in calls if isinstance(c.kernel, str))


def compile_ahead(calls: Iterable[Call]) -> int:
    """Compile what these calls need and the disk does not have, in as many processes as there are threads; returns how
    many kernels that was.
    """
    from nbcnn.kernels.cpu.ahead import compile_all
    from nbcnn.kernels.cpu.cache import is_writable

    jobs = lacking(calls)
    if not jobs:
        return 0
    watcher, kept = _watcher.get(), is_writable()

    def report(done: int, total: int, kernel: str) -> None:
        if watcher is not None:
            watcher(Compilation(done, total, kernel, kept))

    compile_all(jobs, get_num_threads() if kept else 1, report)
    return len(jobs)


def _stand_in(argument: Any) -> Any:
    """Something of the type that the kernel will be given."""
    import numpy as np

    from nbcnn.binder import Buffer

    if not isinstance(argument, Buffer):
        return argument
    return np.empty(0, argument.dtype) if argument.array is None else argument.array
