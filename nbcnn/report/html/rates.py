"""Bars of several sides for each of several works, with a line for the most that the machine can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nbcnn.report.html.drawing import WIDTH, line, rect, svg, text
from nbcnn.report.html.element import Markup
from nbcnn.report.html.scale import linear_over
from nbcnn.report.numbers import number

__all__ = ["Bar", "rates"]

LEFT, RIGHT, TOP, BAR, GAP = 230, 70, 30, 11, 14


@dataclass(frozen=True)
class Bar:
    value: float
    class_: str
    tip: str


def rates(rows: Sequence[tuple[str, Sequence[Bar]]], unit: str, most: float | None, most_name: str) -> Markup:
    """rows: name and bars, ours first. most: where the line is."""
    x = linear_over([*(bar.value for _, bars in rows for bar in bars), most or 0.0], LEFT, WIDTH - RIGHT)
    parts, top = [], float(TOP)
    for name, bars in rows:
        height = len(bars) * (BAR + 1)
        parts.append(text(0, top + height / 2 + 4, name))
        for index, bar in enumerate(bars):
            y = top + index * (BAR + 1)
            parts.append(rect(x.start, y, x(bar.value) - x.start, BAR, bar.class_, bar.tip, 1.5))
            parts.append(
                text(x(bar.value) + 6, y + BAR - 1, number(bar.value), "soft halo" if index else "strong halo")
            )
        top += height + GAP
    grid = [line(x(value), TOP - 6, x(value), top, "grid") for value in x.ticks()]
    ticks = [text(x(value), top + 18, x.label(value), "soft", "middle") for value in x.ticks()]
    parts = [*grid, *parts, *ticks, text(x.stop, top + 36, unit, "soft", "end")]
    if most is not None:
        parts.append(line(x(most), TOP - 6, x(most), top, "roof dashed"))
        parts.append(
            text(x(most), TOP - 12, f"{most_name}, {number(most)}", "halo", "middle" if most < 0.85 * x.high else "end")
        )
    return svg(top + 44, *parts, label=f"{unit} of each side")
