"""What a training run tells of itself while it goes on and afterwards, its clock, and how it is interrupted."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Clock", "Epoch", "History", "Progress", "interrupts"]


@dataclass(frozen=True)
class Progress:
    """What a progress callback is told after every step. rate: samples a second. left: seconds, at the present rate."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    rate: float
    left: float


@dataclass(frozen=True)
class Epoch:
    """One epoch's result. loss: mean over its steps. accuracy: share of right answers on the validation data, or
    None.
    """

    number: int
    loss: float
    accuracy: float | None
    seconds: float


@dataclass
class History:
    """What `fit` did. interrupted: whether Ctrl-C, or SIGTERM, ended it early."""

    epochs: list[Epoch] = field(default_factory=list)
    interrupted: bool = False


class Clock:
    """Speed and time left. The first step, which compiles and plans, does not count."""

    def __init__(self, steps: int) -> None:
        self.steps, self.done, self.samples = steps, 0, 0
        self.start = time.monotonic()

    def tick(self, samples: int) -> None:
        self.done += 1
        if self.done == 1:
            self.start = time.monotonic()
        else:
            self.samples += samples

    @property
    def rate(self) -> float:
        return self.samples / max(time.monotonic() - self.start, 1e-9)

    @property
    def left(self) -> float:
        per_step = (time.monotonic() - self.start) / max(self.done - 1, 1)
        return per_step * (self.steps - self.done)


@contextmanager
def interrupts() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, or the first request to end (SIGTERM); the second has its usual effect.

    Only the main thread can listen.
    """
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, action in before.items():
            signal.signal(number, action)

    def handler(number: int, frame: Any) -> None:
        stopped.set()
        restore()

    for number in before:
        signal.signal(number, handler)
    try:
        yield stopped
    finally:
        restore()
