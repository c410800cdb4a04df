"""What all pictures are made of: the frame with its axes, marks, legends, figures with their captions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nbcnn.report.html.element import Markup, el, join
from nbcnn.report.html.scale import Scale

__all__ = ["GROUPS", "dot", "figure", "frame", "group_class", "legend", "line", "rect", "svg", "text"]

WIDTH = 960
"""Pictures are drawn so wide, and scaled to the page."""

GROUPS = {
    "convolution": "circle",
    "Winograd convolution": "circle",
    "transposed convolution": "circle",
    "matrix product": "square",
    "normalization": "triangle",
    "pooling": "diamond",
    "element by element": "pentagon",
    "movement": "bar",
    "update": "cross",
}
"""Kind of work -> the mark it has, beside a colour: colours alone do not tell everybody."""

POLYGONS: dict[str, list[tuple[float, float]]] = {
    "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
    "triangle": [(0, -1.1), (1, 0.8), (-1, 0.8)],
    "diamond": [(0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)],
    "pentagon": [(0, -1.1), (1.05, -0.34), (0.65, 0.9), (-0.65, 0.9), (-1.05, -0.34)],
    "bar": [(-1.2, -0.5), (1.2, -0.5), (1.2, 0.5), (-1.2, 0.5)],
    "cross": [
        *[(-0.35, -1.1), (0.35, -1.1), (0.35, -0.35), (1.1, -0.35), (1.1, 0.35), (0.35, 0.35), (0.35, 1.1)],
        *[(-0.35, 1.1), (-0.35, 0.35), (-1.1, 0.35), (-1.1, -0.35), (-0.35, -0.35)],
    ],
}


def group_class(name: str) -> str:
    """The class of a kind of work, which gives it its colour."""
    return name.lower().replace(" ", "-")


def svg(height: float, *children: Markup | None, label: str, width: float = WIDTH) -> Markup:
    """A picture. label: what it shows, for those who cannot see it."""
    return el("svg", *children, viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=label)


def figure(picture: Markup, caption: str | Markup, keys: Markup | None = None) -> Markup:
    told = el("figcaption", caption) if caption else None
    return el("figure", el("div", picture, keys, class_="picture"), told)


def text(x: float, y: float, content: str, class_: str = "", anchor: str = "start") -> Markup:
    return el("text", content, x=x, y=y, class_=class_ or None, text_anchor=None if anchor == "start" else anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return el("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def rect(x: float, y: float, width: float, height: float, class_: str, tip: str = "", radius: float = 0) -> Markup:
    """A rectangle. tip: what is shown when the pointer rests on it."""
    title = el("title", tip) if tip else None
    return el("rect", title, x=x, y=y, width=max(width, 0.0), height=max(height, 0.0), rx=radius or None, class_=class_)


def dot(x: float, y: float, radius: float, class_: str, tip: str = "", mark: str = "circle") -> Markup:
    """A mark of GROUPS."""
    title, class_ = el("title", tip) if tip else None, f"mark {class_}"
    if mark == "circle":
        return el("circle", title, cx=x, cy=y, r=radius, class_=class_)
    points = " ".join(f"{x + radius * u:.1f},{y + radius * v:.1f}" for u, v in POLYGONS[mark])
    return el("polygon", title, points=points, class_=class_)


def frame(x: Scale, y: Scale, x_title: str, y_title: str) -> Markup:
    """Grid, ticks and titles of both axes; y.start is the bottom."""
    parts = []
    for value in y.ticks():
        at = y(value)
        parts += [line(x.start, at, x.stop, at, "grid"), text(x.start - 8, at + 4, y.label(value), "soft", "end")]
    for value in x.ticks():
        at = x(value)
        parts += [line(at, y.start, at, y.stop, "grid"), text(at, y.start + 18, x.label(value), "soft", "middle")]
    parts.append(line(x.start, y.start, x.stop, y.start, "axis"))
    parts.append(text(x.stop, y.start + 36, x_title, "soft", "end"))
    parts.append(text(x.start, y.stop - 10, y_title, "soft"))
    return join(*parts)


def legend(entries: Iterable[tuple[str, str, str]]) -> Markup:
    """entries: class, mark of GROUPS, text."""
    return el("ul", *(el("li", _sample(class_, mark), name) for class_, mark, name in entries), class_="legend")


def _sample(class_: str, mark: str) -> Markup:
    return el("svg", dot(7, 7, 5, class_, mark=mark), viewBox="0 0 14 14", aria_hidden="true")


def group_legend(groups: Sequence[str]) -> Markup:
    """The kinds of work that occur, in the order of GROUPS."""
    return legend((group_class(name), mark, name) for name, mark in GROUPS.items() if name in groups)
