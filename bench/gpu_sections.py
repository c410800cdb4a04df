"""What the sections of `python -m bench gpu` share: items that are run one by one until the time is up.

An item that fails becomes a line that says why, and the next one is run.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from nbcnn.report.timing import Plan

__all__ = ["Item", "Settings", "results"]

LOST = (
    "ILLEGAL_ADDRESS",
    "ILLEGAL_INSTRUCTION",
    "LAUNCH_FAILED",
    "MISALIGNED_ADDRESS",
    "illegal memory access",
    "misaligned address",
    "unspecified launch failure",
)
"""Of messages after which a process can use the GPU no more."""


@dataclass(frozen=True)
class Settings:
    """quick: little of everything. trial: in the simulator, at its smallest. nets: only these networks; all when
    empty. plan: how much is timed.
    """

    precisions: tuple[str, ...]
    nets: tuple[str, ...]
    batch: int
    quick: bool
    trial: bool
    plan: Plan


@dataclass(frozen=True)
class Item:
    """One line of a report. make: measures it."""

    name: str
    make: Callable[[], dict[str, Any]]


def results(items: Iterable[Item], end: float, clock: Callable[[], float] = time.monotonic) -> Iterator[dict[str, Any]]:
    """The row of each item, with its name: what it measured, or {"error"} or {"left_out"} with the reason."""
    lost = ""
    for item in items:
        if lost:
            yield {"name": item.name, "left_out": lost}
        elif clock() >= end:
            yield {"name": item.name, "left_out": "there was no time for it (--minutes)"}
        else:
            row = _measured(item)
            if any(sign in row.get("error", "") for sign in LOST):
                lost = f"the GPU cannot be used any more after {item.name}"
            yield row


def _measured(item: Item) -> dict[str, Any]:
    start = time.monotonic()
    try:
        row = item.make()
    except Exception as error:  # whatever it is, the other items are still worth their time
        first = str(error).strip().partition("\n")[0]
        row = {"error": f"{type(error).__name__}: {first}", "traceback": traceback.format_exc()}
    return {"name": item.name, **row, "seconds": time.monotonic() - start}
