"""Bars: stacked ones with their parts named, and the small ones inside tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nbcnn.report.html.drawing import WIDTH, line, rect, svg, text
from nbcnn.report.html.element import Markup, el
from nbcnn.report.html.scale import linear_over

__all__ = ["Part", "cell_bar", "stacked"]

LEFT, RIGHT, TOP, BAR, GAP = 165, 100, 10, 34, 18
DARK = ("convolution", "transposed-convolution", "normalization", "update", "ours", "peer", "phase-forward")
"""Classes on which white can be read."""
CELL_WIDTH, CELL_HEIGHT = 150, 18


@dataclass(frozen=True)
class Part:
    """A part of a bar. name: written into it where there is room."""

    name: str
    value: float
    class_: str
    tip: str


def stacked(rows: Sequence[tuple[str, Sequence[Part], str]], unit: str, label: str) -> Markup:
    """rows: name, parts, and what is written behind the bar."""
    x = linear_over([sum(part.value for part in parts) for _, parts, _ in rows], LEFT, WIDTH - RIGHT)
    pieces = []
    for index, (name, parts, total) in enumerate(rows):
        top, at = TOP + index * (BAR + GAP), 0.0
        pieces.append(text(0, top + BAR / 2 + 5, name, "big"))
        for part in parts:
            left, right = x(at), x(at + part.value)
            pieces.append(rect(left, top, right - left - 0.8, BAR, part.class_, part.tip))
            if right - left > 7 * len(part.name) + 12:
                class_ = "inside" if part.class_ in DARK else "inside on-light"
                pieces.append(text((left + right) / 2, top + BAR / 2 + 4, part.name, class_, "middle"))
            at += part.value
        pieces.append(text(x(at) + 8, top + BAR / 2 + 5, total, "strong"))
    bottom = TOP + len(rows) * (BAR + GAP) - GAP + 8
    pieces.append(line(x.start, bottom, x.stop, bottom, "axis"))
    pieces += [text(x(value), bottom + 18, x.label(value), "soft", "middle") for value in x.ticks()]
    pieces.append(text(x.stop, bottom + 36, unit, "soft", "end"))
    return svg(bottom + 44, *pieces, label=label)


def cell_bar(share: float, class_: str, least: float | None = None, peer: float | None = None, tip: str = "") -> Markup:
    """A bar for a table's cell. share: 0 to 1 of the width; least: where a line is drawn through it; peer: where the
    other side's thin bar ends.
    """
    parts = [rect(0, 2, max(share * CELL_WIDTH, 0.6), 9 if peer is not None else 13, class_, tip, 1.5)]
    if peer is not None:
        parts.append(rect(0, 12.5, max(peer * CELL_WIDTH, 0.6), 3.5, "peer", tip, 1))
    if least is not None:
        at = min(max(least * CELL_WIDTH, 0.8), CELL_WIDTH - 0.8)
        parts.append(line(at, 0, at, 13 if peer is not None else CELL_HEIGHT, "tick"))
    return el("svg", *parts, viewBox=f"0 0 {CELL_WIDTH} {CELL_HEIGHT}", aria_hidden="true")
