"""Fair timings of several sides that do the same work: in alternating blocks, never call by call.

The threads of each side spin for a while after a call, waiting for the next one, and would take the processor from the
other side. So each block pauses first, makes one call that is not timed, and then times calls of one side only.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["PAUSE", "Clock", "Comparison", "Plan", "Side", "Timing", "compare", "is_busy"]

PAUSE = 0.3
"""Seconds before each block; OpenMP's and onnxruntime's threads give up spinning well before."""


class Clock(Protocol):
    """Where time comes from: the time module, or a test's own clock."""

    def perf_counter(self) -> float: ...

    def sleep(self, seconds: float, /) -> None: ...


@dataclass(frozen=True)
class Side:
    """One of the things to compare: what it is called, and a call that does the work once."""

    name: str
    call: Callable[[], Any]


@dataclass(frozen=True)
class Plan:
    """How much is timed. blocks: of each side. calls: in a block; None makes as many as fit into `seconds`, between 3
    and 1000.
    """

    blocks: int = 4
    calls: int | None = None
    seconds: float = 2.0
    pause: float = PAUSE

    def calls_for(self, once: float) -> int:
        """Calls in a block of a side for which one call takes `once` seconds."""
        if self.calls is not None:
            return self.calls
        return max(3, min(1000, round(self.seconds / max(once, 1e-9))))


@dataclass
class Timing:
    """The timed calls of one side, in seconds, block by block."""

    name: str
    blocks: list[list[float]] = field(default_factory=list)

    @property
    def seconds(self) -> list[float]:
        return [t for block in self.blocks for t in block]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def minimum(self) -> float:
        return min(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The first and the third quartile."""
        found = sorted(self.seconds)
        if len(found) < 2:
            return found[0], found[0]
        low, _, high = statistics.quantiles(found, n=4, method="inclusive")
        return low, high

    def as_dict(self) -> dict[str, Any]:
        """For a JSON report, in milliseconds."""
        low, high = self.quartiles
        return {
            "median_ms": self.median * 1e3,
            "min_ms": self.minimum * 1e3,
            "quartiles_ms": [low * 1e3, high * 1e3],
            "calls": len(self.seconds),
            "blocks_ms": [[t * 1e3 for t in block] for block in self.blocks],
        }


@dataclass(frozen=True)
class Comparison:
    """The timings of all sides, by name, in the order in which they were given."""

    timings: Mapping[str, Timing]

    def __getitem__(self, name: str) -> Timing:
        return self.timings[name]

    def fastest(self, names: Sequence[str]) -> str:
        """The side of these with the smallest median."""
        return min(names, key=lambda name: self.timings[name].median)

    def ratio(self, other: str, ours: str) -> float:
        """The other's median time over ours: above 1, we are faster."""
        return self.timings[other].median / self.timings[ours].median

    def ratio_range(self, other: str, ours: str) -> tuple[float, float]:
        """The smallest and the largest ratio of medians of neighbouring blocks: how far the ratio can be trusted."""
        pairs = zip(self.timings[other].blocks, self.timings[ours].blocks, strict=True)
        ratios = [statistics.median(theirs) / statistics.median(mine) for theirs, mine in pairs]
        return min(ratios), max(ratios)


BUSY = 0.2


def is_busy(timing: Mapping[str, Any]) -> bool:
    """Whether a timing, as `as_dict` gives it, spreads so far that other work must have been in the way: its quartiles
    are further apart than BUSY of the median.
    """
    low, high = timing["quartiles_ms"]
    return bool(high - low > BUSY * timing["median_ms"])


def compare(sides: Sequence[Side], plan: Plan | None = None, clock: Clock = time) -> Comparison:
    """Time the sides in alternating blocks. A side's first untimed call also says how many calls its blocks get."""
    plan = plan or Plan()
    if len({side.name for side in sides}) != len(sides):
        raise ValueError(f"two sides have one name: {[side.name for side in sides]}")
    timings = {side.name: Timing(side.name) for side in sides}
    calls: dict[str, int] = {}
    for _ in range(plan.blocks):
        for side in sides:
            clock.sleep(plan.pause)
            once = _time_call(side, clock)
            count = calls.setdefault(side.name, plan.calls_for(once))
            timings[side.name].blocks.append([_time_call(side, clock) for _ in range(count)])
    return Comparison(timings)


def _time_call(side: Side, clock: Clock) -> float:
    start = clock.perf_counter()
    side.call()
    return clock.perf_counter() - start
