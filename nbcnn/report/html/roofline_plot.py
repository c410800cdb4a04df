"""The roofline plot: operations a second over operations for each byte, both in powers of ten, under the machine's
roof.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
        radius = 3.5 + 16 * point.weight**0.5
        class_ = point.class_ or group_class(point.group)
        parts.append(
            dot(x(point.intensity), y(point.gflops), radius, class_, point.tip, GROUPS.get(point.group, "circle"))
        )
    parts += _labels(shown, x, y)
    return svg(TOP + HEIGHT + BOTTOM, *parts, label="Roofline plot: every layer under the machine's roof")


def _roof(x: Log, y: Log, roof: Roofline) -> Markup:
    begin = max(x.low, y.low / roof.gbytes)
    corners = [(begin, begin * roof.gbytes), (roof.ridge, roof.gflops), (x.high, roof.gflops)]
    path = "M" + " L".join(f"{x(u):.1f} {y(v):.1f}" for u, v in corners)
    middle = (begin * roof.ridge) ** 0.5
    return el(
        "g",
        el("path", d=path, class_="roof"),
        text(x.stop - 4, y(roof.gflops) - 8, f"multiply-adds: {number(roof.gflops)} GFLOP/s", "halo strong", "end"),
        text(x(middle) - 10, y(middle * roof.gbytes) - 8, f"memory: {number(roof.gbytes)} GB/s", "halo strong", "end"),
    )


def _labels(points: Iterable[Point], x: Log, y: Log) -> list[Markup]:
    """Names beside the heaviest points, where they do not lie on each other."""
    taken: list[tuple[float, float, float]] = []
    found: list[Markup] = []
    for point in sorted(points, key=lambda p: -p.weight)[: 3 * LABELS]:
        width = 6.6 * len(point.label)
        at, height = x(point.intensity) + 7 + 16 * point.weight**0.5, y(point.gflops) + 4
        left, anchor = (at, "start") if at + width < x.stop else (2 * x(point.intensity) - at - width, "end")
        free = all(abs(height - h) > 13 or left > right or left + width < begin for begin, right, h in taken)
        if point.label and free and len(found) < LABELS:
            taken.append((left, left + width, height))
            found.append(text(left if anchor == "start" else left + width, height, point.label, "halo", anchor))
    return found
