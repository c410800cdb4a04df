"""The timings of several sides, call by call: how many calls took how long, with quartiles and median below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nbcnn.report.html.drawing import WIDTH, dot, line, rect, svg, text
from nbcnn.report.html.element import Markup, join
from nbcnn.report.html.scale import Linear, linear_over
from nbcnn.report.numbers import number

__all__ = ["Calls", "calls_of", "distribution"]

LEFT, RIGHT, TOP, ROW, BELOW = 165, 24, 14, 64, 30
BINS = 110
FEW = 40
"""So few calls are drawn one by one."""
SHOWN = 0.98
"""The share of the calls that the axis reaches to; slower ones are counted at its end."""


@dataclass(frozen=True)
class Calls:
    """class_: that of a side."""

    name: str
    ms: np.ndarray
    class_: str


def calls_of(timings: Mapping[str, Mapping[str, object]], ours: str) -> list[Calls]:
    """The sides of a report's timings, ours first."""
    names = sorted(timings, key=lambda name: name != ours)
    found = []
    for index, name in enumerate(names):
        blocks = timings[name]["blocks_ms"]
        class_ = ("ours", "peer", "peer-2")[min(index, 2)]
        found.append(Calls(name, np.concatenate([np.asarray(block, float) for block in blocks]), class_))  # type: ignore[attr-defined]
    return found


def distribution(sides: Sequence[Calls]) -> Markup:
    ends = [float(np.quantile(side.ms, SHOWN)) for side in sides]
    starts = [float(side.ms.min()) for side in sides]
    x = linear_over([*ends, *starts], LEFT, WIDTH - RIGHT, zero=min(starts) < 0.4 * max(ends))
    rows = [_row(side, x, TOP + index * (ROW + BELOW)) for index, side in enumerate(sides)]
    bottom = TOP + len(sides) * (ROW + BELOW)
    grid = [line(x(value), TOP, x(value), bottom, "grid") for value in x.ticks()]
    ticks = [text(x(value), bottom + 18, x.label(value), "soft", "middle") for value in x.ticks()]
    title = text(x.stop, bottom + 36, "milliseconds a call", "soft", "end")
    return svg(bottom + 44, *grid, *rows, *ticks, title, label="How long the calls of each side took")


def _row(side: Calls, x: Linear, top: float) -> Markup:
    base = top + ROW
    low, middle, high = (float(v) for v in np.quantile(side.ms, (0.25, 0.5, 0.75)))
    shown, slower = side.ms[side.ms <= x.high], side.ms[side.ms > x.high]
    parts = [
        text(0, base - 14, side.name, "big"),
        text(0, base + 4, f"{len(side.ms):,} calls", "soft"),
        *(_dots(shown, x, base, side.class_) if len(shown) <= FEW else _bars(shown, x, base, side.class_)),
        line(x.start, base, x.stop, base, "axis"),
        rect(x(low), base + 5, x(high) - x(low), 6, side.class_, f"quartiles {number(low)} to {number(high)} ms", 3),
        line(x(middle), base + 1, x(middle), base + 15, "tick"),
    ]
    near_end = x(middle) > x.stop - 120
    anchor, shift = ("end", -7) if near_end else ("start", 7)
    parts.append(
        text(
            max(x(middle), x(low)) + shift if near_end else x(high) + 9,
            base + 13,
            f"{number(middle)} ms",
            "halo strong",
            anchor,
        )
    )
    if len(slower):
        told = f"{len(slower)} slower, up to {number(float(slower.max()))} ms"
        parts.append(text(x.stop, top + 8, told, "soft halo", "end"))
    return join(*parts)


def _bars(ms: np.ndarray, x: Linear, base: float, class_: str) -> list[Markup]:
    counts, edges = np.histogram(ms, bins=BINS, range=(x.low, x.high))
    tallest = max(int(counts.max()), 1)
    width = (x.stop - x.start) / BINS
    return [
        rect(x(float(edge)), base - (ROW - 8) * count / tallest, width - 0.7, (ROW - 8) * count / tallest, class_)
        for count, edge in zip(counts.tolist(), edges[:-1].tolist(), strict=True)
        if count
    ]


def _dots(ms: np.ndarray, x: Linear, base: float, class_: str) -> list[Markup]:
    """One on the other where they would overlap."""
    heights: dict[int, int] = {}
    parts = []
    for value in np.sort(ms).tolist():
        column = round(x(value) / 9)
        level = heights[column] = heights.get(column, -1) + 1
        parts.append(dot(x(value), base - 6 - min(level * 9, ROW - 12), 4.2, class_, f"{number(value)} ms"))
    return parts
