"""The page of `python -m bench kernels`: every convolution of a network, in its three directions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.layers import DIRECTIONS
from nbcnn.report.html.distribution import Calls, distribution
from nbcnn.report.html.drawing import figure, legend
from nbcnn.report.html.element import Markup, el, join
from nbcnn.report.html.page import Column, Tile, machine_line, machine_section, page, section, table, tiles
from nbcnn.report.html.rates import Bar, rates
from nbcnn.report.html.roofline_plot import Point, roofline_plot
from nbcnn.report.numbers import number
from nbcnn.report.roofline import Roofline

__all__ = ["kernels_page"]

Row = dict[str, Any]
CLASSES = dict(zip(DIRECTIONS, ("convolution", "normalization", "update"), strict=True))
GROUPS = dict(zip(DIRECTIONS, ("convolution", "normalization", "update"), strict=True))
MARKS = dict(zip(DIRECTIONS, ("circle", "triangle", "cross"), strict=True))
HOW = (
    "Each layer is bound as in a whole network and computed alone, without changes of layout; its results are compared "
    "with PyTorch's first. Operations are those of direct convolution, two for a multiply-add: Winograd's algorithms "
    "need fewer multiplications and may pass the ceiling. Bytes are input, weight and result once."
)


def kernels_page(report: dict[str, Any]) -> str:
    machine, rows = report["machine"], report["rows"]
    roofline = Roofline.of(machine)
    head = el(
        "header",
        el("div", "nbcnn: python -m bench kernels", class_="eyebrow"),
        el("h1", "Convolutions, layer by layer"),
        el("p", machine_line(machine), class_="soft"),
    )
    parts = [head, tiles(_tiles(rows))]
    for network, batch in dict.fromkeys((row["network"], row["batch"]) for row in rows):
        group = [row for row in rows if (row["network"], row["batch"]) == (network, batch)]
        parts.append(el("h2", f"{network}, batch {batch}", class_="part"))
        parts += _group(group, roofline)
    parts += [section("How it was measured", HOW), machine_section(machine, report["settings"])]
    return page("Convolutions: nbcnn", *parts, about=f"Made by nbcnn on {machine['date']}.")


def _tiles(rows: Sequence[Row]) -> list[Tile]:
    found = []
    for direction in DIRECTIONS:
        work = sum(row["gflop"] * row["count"] for row in rows)
        seconds = sum(row[direction]["median_ms"] * row["count"] for row in rows) / 1e3
        best = max((row[direction]["share"] or 0.0 for row in rows), default=0.0)
        more = f"best layer {best:.0%} of the ceiling" if best else ""
        found.append(Tile(f"{direction}, all layers", number(work / seconds) if seconds else "-", "GFLOP/s", more))
    return found


def _group(rows: Sequence[Row], roofline: Roofline | None) -> list[Markup]:
    keys = legend((CLASSES[name], MARKS[name], name) for name in DIRECTIONS)
    drawn = [(row["layer"], [_bar(row, direction) for direction in DIRECTIONS]) for row in rows]
    most = roofline.gflops if roofline else None
    caption = "Operations a second of each layer, forward and both gradients; the line is the ceiling of multiply-adds."
    found = [section("Rate", figure(rates(drawn, "GFLOP/s", most, "ceiling"), caption, keys))]
    points = [_point(row, direction) for row in rows for direction in DIRECTIONS if row.get("bytes")]
    if roofline is not None and points:
        caption = "Each mark is a layer in one direction, the larger the more of the time it takes."
        found.append(section("Roofline", figure(roofline_plot(points, roofline), caption, keys)))
    found.append(section("In numbers", _table(rows)))
    pictures = [join(el("h3", row["layer"]), figure(distribution(_calls(row)), "")) for row in rows]
    every = el("details", el("summary", "Every timed call of each layer"), *pictures)
    return [*found, every]


def _bar(row: Row, direction: str) -> Bar:
    found = row[direction]
    algorithm = f", {found['algorithm']}" if found.get("algorithm") else ""
    tip = f"{row['layer']}, {direction}{algorithm}: {number(found['median_ms'])} ms, {number(found['gflops'])} GFLOP/s"
    return Bar(found["gflops"], CLASSES[direction], tip)


def _point(row: Row, direction: str) -> Point:
    tip, rate = _bar(row, direction).tip, row[direction]["gflops"]
    return Point("", GROUPS[direction], row["gflop"] * 1e9 / row["bytes"], rate, 0.02, tip)


def _table(rows: Sequence[Row]) -> Markup:
    columns = [Column("layer", wide=True), Column("times", True), Column("GFLOP", True)]
    for direction in DIRECTIONS:
        columns += [Column(f"{direction} ms", True), Column("GFLOP/s", True), Column("share", True)]
    body = []
    for row in rows:
        cells: list[Markup | str | None] = [row["layer"], str(row["count"]), number(row["gflop"])]
        for direction in DIRECTIONS:
            found = row[direction]
            share = "" if found["share"] is None else f"{found['share']:.0%}"
            algorithm = el("span", found["algorithm"], class_="under") if found.get("algorithm") else None
            cells += [join(number(found["median_ms"]), algorithm), number(found["gflops"]), share]
        body.append(cells)
    return table(columns, body)


def _calls(row: Row) -> list[Calls]:
    times = {name: np.array([ms for block in row[name]["blocks_ms"] for ms in block]) for name in DIRECTIONS}
    return [Calls(direction, ms, CLASSES[direction]) for direction, ms in times.items()]
