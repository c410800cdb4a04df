"""What a command says while kernels are compiled: one line, whatever the command."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from nbcnn.cli.console import note
from nbcnn.compilation import Compilation, watch_compilation

__all__ = ["announced", "kernels", "state"]

CLEAR = "\r\x1b[K"


def state(now: Compilation) -> str:
    """How far it is, in a few words."""
    return f"compiling {kernels(now.total)} for this machine, once: {now.done} done"


def kernels(count: int) -> str:
    """This many, in words."""
    return "1 kernel" if count == 1 else f"{count} kernels"


class _Line:
    """A line on the standard error that is written anew after each kernel; elsewhere than on a terminal, written
    once.
    """

    def __init__(self) -> None:
        self.start, self.open = 0.0, False

    def __call__(self, now: Compilation) -> None:
        live = sys.stderr.isatty()
        if now.done == 0:
            self.start = time.monotonic()
            if not now.kept:
                note("compiled kernels cannot be kept: set NUMBA_CACHE_DIR to a folder that can be written")
            if not live:
                note(f"compiling {kernels(now.total)} for this machine, once")
        if live:
            self.open = now.done < now.total
            done = f"note: compiled {kernels(now.total)} for this machine, once: {time.monotonic() - self.start:.1f} s"
            click.echo(CLEAR + (state(now) if self.open else done), err=True, nl=not self.open)

    def close(self) -> None:
        if self.open:
            click.echo("", err=True)


@contextmanager
def announced() -> Iterator[None]:
    """Say so on the standard error when something has to be compiled while this lasts."""
    line = _Line()
    try:
        with watch_compilation(line):
            yield
    finally:
        line.close()
