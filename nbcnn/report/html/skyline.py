"""The skyline: runs of several sides from left to right, over one axis of time. A block is a layer: as wide as the time
it takes, as high as the operations a second that it computes, so that its area is its work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nbcnn.report.html.drawing import WIDTH, group_class, line, rect, svg, text
from nbcnn.report.html.element import Markup, join
from nbcnn.report.html.scale import Linear, linear_over
from nbcnn.report.numbers import number

__all__ = ["Block", "skyline"]

LEFT, RIGHT, TOP, STRIP, GAP = 52, 20, 30, 150, 54
FLAT = 3.0
"""The height of a block that computes nothing."""


@dataclass(frozen=True)
class Block:
    """tip: what is shown when the pointer rests on it."""

    group: str
    ms: float
    gflops: float
    tip: str


def skyline(sides: Sequence[tuple[str, Sequence[Block]]], ceiling: float | None) -> Markup:
    """ceiling: GFLOP/s of the machine, drawn as a line."""
    longest = max(sum(block.ms for block in blocks) for _, blocks in sides)
    x = linear_over([longest], LEFT, WIDTH - RIGHT)
    highest = max([block.gflops for _, blocks in sides for block in blocks], default=0.0)
    height = TOP + len(sides) * STRIP + (len(sides) - 1) * GAP + 42
    parts = []
    for index, (name, blocks) in enumerate(sides):
        top = TOP + index * (STRIP + GAP)
        y = linear_over([highest, ceiling or 0.0], top + STRIP, top)
        parts.append(_side(name, blocks, x, y, ceiling))
    bottom = height - 42
    for value in x.ticks():
        parts.append(text(x(value), bottom + 18, x.label(value), "soft", "middle"))
    parts.append(text(x.stop, bottom + 36, "milliseconds", "soft", "end"))
    names = " and ".join(name for name, _ in sides)
    return svg(height, *parts, label=f"Every layer of a run by time and operations a second: {names}")


def _side(name: str, blocks: Sequence[Block], x: Linear, y: Linear, ceiling: float | None) -> Markup:
    total, flops = sum(block.ms for block in blocks), sum(block.ms * block.gflops for block in blocks)
    mean = flops / total if total else 0.0
    parts = [text(x.start, y.stop - 12, name, "big")]
    parts.append(text(x.stop, y.stop - 12, f"{number(total)} ms, {number(mean)} GFLOP/s in the mean", "soft", "end"))
    for value in y.ticks():
        parts += [
            line(x.start, y(value), x.stop, y(value), "grid"),
            text(x.start - 8, y(value) + 4, y.label(value), "soft", "end"),
        ]
    at = 0.0
    for block in blocks:
        left, right, top = x(at), x(at + block.ms), min(y(block.gflops), y.start - FLAT)
        space = 0.6 if right - left > 2.4 else 0.0
        parts.append(rect(left, top, right - left - space, y.start - top, group_class(block.group), block.tip))
        at += block.ms
    parts.append(line(x.start, y.start, x.stop, y.start, "axis"))
    if ceiling is not None:
        parts.append(line(x.start, y(ceiling), x.stop, y(ceiling), "roof dashed"))
        parts.append(
            text(x.stop - 4, y(ceiling) - 6, f"ceiling of multiply-adds, {number(ceiling)} GFLOP/s", "halo", "end")
        )
    return join(*parts)
