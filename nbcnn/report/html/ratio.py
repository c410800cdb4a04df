"""Ratios to other sides: a dot and its range for each comparison; twice and half are as far from 1 as each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from nbcnn.report.html.drawing import WIDTH, dot, line, rect, svg, text
from nbcnn.report.html.element import Markup, join
from nbcnn.report.html.scale import Log, log_over

__all__ = ["Ratio", "block_ratios", "ratios"]

LEFT, RIGHT, TOP, ROW = 230, 70, 34, 30


@dataclass(frozen=True)
class Ratio:
    """ratio: the other side's time over ours; low, high: over blocks; each: of the blocks. class_, mark: how it is
    drawn.
    """

    label: str
    ratio: float
    low: float
    high: float
    class_: str = "ours"
    mark: str = "circle"
    tip: str = ""
    each: Sequence[float] = ()


def ratios(rows: Sequence[Ratio]) -> Markup:
    values = [v for row in rows for v in (row.ratio, row.low, row.high)]
    x = log_over([*values, 0.8, 1.25], LEFT, WIDTH - RIGHT, room=1.1)
    bottom = TOP + len(rows) * ROW
    parts = [rect(x(1), TOP - 4, x.stop - x(1), bottom - TOP + 8, "tint")]
    parts += [line(x(value), TOP - 4, x(value), bottom + 4, "grid") for value in x.ticks()]
    parts.append(line(x(1), TOP - 4, x(1), bottom + 4, "one"))
    parts += [
        text(x(1) + 8, TOP - 14, "nbcnn is faster →", "soft"),
        text(x(1) - 8, TOP - 14, "← slower", "soft", "end"),
    ]
    parts += [_row(row, x, TOP + index * ROW + ROW / 2) for index, row in enumerate(rows)]
    parts += [text(x(value), bottom + 22, f"{x.label(value)}×", "soft", "middle") for value in x.ticks()]
    return svg(bottom + 34, *parts, label="The other side's time over ours")


def block_ratios(
    timings: Mapping[str, Mapping[str, Any]], other: str = "onnxruntime", ours: str = "nbcnn"
) -> list[float]:
    """The ratios of the medians of neighbouring blocks."""
    pairs = zip(timings[other]["blocks_ms"], timings[ours]["blocks_ms"], strict=True)
    return [median(theirs) / median(mine) for theirs, mine in pairs]


def _row(row: Ratio, x: Log, y: float) -> Markup:
    return join(
        text(0, y + 4, row.label),
        line(x(row.low), y, x(row.high), y, f"stroke-{row.class_} whisker"),
        *(dot(x(ratio), y, 3, row.class_, f"{ratio:.2f}") for ratio in row.each),
        dot(x(row.ratio), y, 6.5, row.class_, row.tip, row.mark),
        text(WIDTH - RIGHT + 14, y + 4, f"{row.ratio:.2f}×", "strong"),
    )
