"""Taking turns: of several processes that want to compile the same kernel, one does, and the others wait for it.

A turn is a lock on a file beside the one that will be written (flock(2)). The system drops it with the process that
holds it, however that ends. Where there are no such locks, on some network folders or in one that cannot be written,
and where somebody keeps the turn for too long, nobody waits: then the same is compiled twice, and all is well too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

LOCKS = find_spec("fcntl") is not None  # not on Windows
if LOCKS:
    import fcntl

__all__ = ["turn"]

LONGEST_WAIT = 60.0
"""Seconds; a kernel takes a few. A process may have been stopped, or have left its lock to a child."""
PAUSE = 0.02


@contextmanager
def turn(target: Path) -> Iterator[None]:
    """While this lasts nobody else has the turn for this file, as far as that can be had.

    Who has one must not ask for another, so that nobody waits in a circle.
    """
    path = target.with_name(f"{target.name}.lock")
    descriptor = _take(path)
    try:
        yield
    finally:
        if descriptor is not None:
            with suppress(OSError):
                path.unlink()  # while it is ours; see _is_there
            with suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing alone would leave it to a forked process
            os.close(descriptor)


def _take(path: Path) -> int | None:
    """The descriptor of the lock; None where there is none to be had."""
    if not LOCKS:
        return None
    end = time.monotonic() + LONGEST_WAIT
    while time.monotonic() < end:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_there(path, descriptor):
                return descriptor
        except BlockingIOError:
            time.sleep(PAUSE)
        except OSError:
            os.close(descriptor)
            return None
        os.close(descriptor)
    return None


def _is_there(path: Path, descriptor: int) -> bool:
    """Whether this is still the file of that name: who had the turn before has removed it, and others may have locked
    a new one.
    """
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
