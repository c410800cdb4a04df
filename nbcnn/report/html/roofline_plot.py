"""The roofline plot: operations a second over operations for each byte, both in powers of ten, under the machine's
roof.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nbcnn.report.html.drawing import GROUPS, WIDTH, dot, frame, group_class, svg, text
from nbcnn.report.html.element import Markup, el
from nbcnn.report.html.scale import Log, log_over
from nbcnn.report.numbers import number
from nbcnn.report.roofline import Roofline

__all__ = ["Point", "roofline_plot"]

LEFT, RIGHT, TOP, HEIGHT, BOTTOM = 64, 24, 36, 420, 48
LABELS = 6
DEPTH = 2000.0
"""Points slower than the ceiling by more than this are left out: they are of no weight, and would flatten the rest."""


@dataclass(frozen=True)
class Point:
    """weight: 0 to 1, how large it is drawn. label: drawn beside it, if there is room. class_: "" takes the group's."""

    label: str
    group: str
    intensity: float
    gflops: float
    weight: float
    tip: str
    class_: str = ""


def roofline_plot(points: Sequence[Point], roof: Roofline, x_title: str = "operations for each byte") -> Markup:
    shown = [p for p in points if p.intensity > 0 and p.gflops > roof.gflops / DEPTH]
    x = log_over([*(p.intensity for p in shown), roof.ridge / 4, roof.ridge * 8], LEFT, WIDTH - RIGHT, room=1.5)
    y = log_over([*(p.gflops for p in shown), roof.gflops, roof.gflops / 50], TOP + HEIGHT, TOP, room=1.5)
    parts = [frame(x, y, x_title, "GFLOP/s"), _roof(x, y, roof)]
    for point in sorted(shown, key=lambda p: -p.weight):
        class_ = point.class_ or group_class(point.group)
        parts.append(
            dot(
                x(point.intensity),
                y(point.gflops),
                _radius(point),
                class_,
                point.tip,
                GROUPS.get(point.group, "circle"),
            )
        )
    parts += _labels(shown, x, y, roof)
    return svg(TOP + HEIGHT + BOTTOM, *parts, label="Roofline plot: every layer under the machine's roof")


def _roof(x: Log, y: Log, roof: Roofline) -> Markup:
    begin = max(x.low, y.low / roof.gbytes)
    corners = [(begin, begin * roof.gbytes), (roof.ridge, roof.gflops), (x.high, roof.gflops)]
    places = [(x(u), y(v)) for u, v in corners]
    (left, bottom), (right, top), _ = places
    middle, height, angle = (left + right) / 2, (bottom + top) / 2, math.degrees(math.atan2(top - bottom, right - left))
    slope = el(
        "text",
        f"memory: {number(roof.gbytes)} GB/s",
        transform=f"translate({middle:.1f} {height - 9:.1f}) rotate({angle:.1f})",
        class_="halo strong",
        text_anchor="middle",
    )
    return el(
        "g",
        el("path", d="M" + " L".join(f"{u:.1f} {v:.1f}" for u, v in places), class_="roof"),
        text(x.stop - 4, y(roof.gflops) - 8, f"multiply-adds: {number(roof.gflops)} GFLOP/s", "halo strong", "end"),
        slope,
    )


Box = tuple[float, float, float, float]
"""left, right, top, bottom"""


def _labels(points: Sequence[Point], x: Log, y: Log, roof: Roofline) -> list[Markup]:
    """Names beside the heaviest points, where there is room."""
    taken = [_mark_box(point, x, y) for point in points]
    taken.append((x.stop - 230, x.stop, y(roof.gflops) - 22, y(roof.gflops) + 4))
    found: list[Markup] = []
    for point in sorted(points, key=lambda p: -p.weight)[: 4 * LABELS]:
        left, right, _, _ = own = _mark_box(point, x, y)
        width, middle = 6.7 * len(point.label), y(point.gflops)
        for begin, anchor, at in ((right + 4, "start", right + 4), (left - 4 - width, "end", left - 4)):
            box = (begin, begin + width, middle - 7, middle + 7)
            inside = begin > x.start and begin + width < x.stop
            if inside and len(found) < LABELS and not any(_overlap(box, other) for other in taken if other != own):
                taken.append(box)
                found.append(text(at, middle + 4, point.label, "halo", anchor))
                break
    return found


def _mark_box(point: Point, x: Log, y: Log) -> Box:
    radius, at, height = _radius(point), x(point.intensity), y(point.gflops)
    return at - radius, at + radius, height - radius, height + radius


def _radius(point: Point) -> float:
    return 3.5 + 16 * point.weight**0.5


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[1] and other[0] < one[1] and one[2] < other[3] and other[2] < one[3]
