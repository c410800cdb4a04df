"""From numbers to places in a picture."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from nbcnn.report.numbers import number

__all__ = ["Linear", "Log", "Scale", "linear_over", "log_over"]

STEPS = (1.0, 2.0, 5.0, 10.0)
FINE = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0)


@dataclass(frozen=True)
class Scale:
    """low to high become start to stop, in pixels."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        share = (self.project(value) - self.project(self.low)) / (self.project(self.high) - self.project(self.low))
        return self.start + share * (self.stop - self.start)

    def project(self, value: float) -> float:
        raise NotImplementedError

    def ticks(self) -> list[float]:
        """Round numbers from low to high, a handful."""
        raise NotImplementedError

    def label(self, value: float) -> str:
        """A tick in few digits."""
        return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


class Linear(Scale):
    """Equal steps."""

    def project(self, value: float) -> float:
        return value

    def ticks(self) -> list[float]:
        step = _step((self.high - self.low) / 6)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [k * step for k in range(first, last + 1)]


class Log(Scale):
    """Equal factors; low and high are above 0."""

    def project(self, value: float) -> float:
        return math.log10(max(value, 1e-300))

    def ticks(self) -> list[float]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        span = math.log10(self.high / self.low)
        steps = FINE if span < 0.7 else STEPS[:3] if span < 2 else STEPS[:1]
        found = [10.0**k * step for k in decades for step in steps]
        return [value for value in found if self.low * 0.999 <= value <= self.high * 1.001]

    def label(self, value: float) -> str:
        return (
            f"{value:,.0f}"
            if value >= 1000
            else number(value).rstrip("0").rstrip(".")
            if value < 100
            else f"{value:.0f}"
        )


def linear_over(values: Iterable[float], start: float, stop: float, *, zero: bool = True) -> Linear:
    """A scale that holds all values with some room above, and 0 unless told otherwise."""
    found = [v for v in values if math.isfinite(v)] or [1.0]
    low, high = (min(0.0, *found, 0.0) if zero else min(found)), max(found)
    if high <= low:
        low, high = (0.0, high * 2 or 1.0) if high >= 0 else (high * 2, 0.0)
    room = 0.04 * (high - low)
    return Linear(low if zero else max(low - room, 0.0 if low >= 0 else low - room), high + room, start, stop)


def log_over(values: Iterable[float], start: float, stop: float, room: float = 1.3) -> Log:
    """A scale over all positive values with a factor of room at both ends."""
    found = [v for v in values if v > 0 and math.isfinite(v)] or [1.0]
    return Log(min(found) / room, max(found) * room, start, stop)


def _step(rough: float) -> float:
    """The next round number from `rough` on: 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(max(rough, 1e-300)))
    return power * next(step for step in STEPS if step >= rough / power * (1 - 1e-9))
