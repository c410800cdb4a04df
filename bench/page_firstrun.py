"""The page of `python -m bench firstrun`: cold and warm processes, and what each kernel takes to compile."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from nbcnn.report.html.bars import Part, stacked
from nbcnn.report.html.drawing import figure
from nbcnn.report.html.element import Markup, el
from nbcnn.report.html.page import Column, Tile, machine_line, machine_section, page, section, table, tiles
from nbcnn.report.numbers import number

__all__ = ["firstrun_page"]

Row = dict[str, Any]
FAMILIES = {
    "winograd": "winograd-convolution",
    "batch_norm": "normalization",
    "conv": "convolution",
    "batch": "convolution",
    "depthwise": "convolution",
    "planes": "convolution",
    "conv_pointwise": "matrix-product",
    "pointwise": "matrix-product",
    "vector": "matrix-product",
    "pool": "pooling",
    "elementwise": "element-by-element",
    "sgd": "update",
    "adam": "update",
}
"""How a kernel's name begins -> its colour."""
HOW = (
    "Each figure is that of a whole process, from its start to its end; of several, the middle one. A cold one has an "
    "empty folder of compiled kernels, a warm one that of the cold one before it. Kernels are compiled in as many "
    "processes as there are threads; seconds of processors are those of all of them together. For the bars they were "
    "compiled once more, one by one on one core."
)


def firstrun_page(report: dict[str, Any]) -> str:
    machine, rows = report["machine"], report["rows"]
    head = el(
        "header",
        el("div", "nbcnn: python -m bench firstrun", class_="eyebrow"),
        el("h1", "The first run on a machine, and the next"),
        el("p", machine_line(machine), class_="soft"),
    )
    compiling = [row for row in rows if row["kernels"]]
    parts = [
        head,
        tiles([_tile(row, state) for row in rows for state in (("cold", "warm") if row["kernels"] else ("warm",))]),
        section("In numbers", _table(rows)),
        section("What is compiled", figure(_bars(compiling), "Seconds of one core."), _kernels(compiling)),
        section("How it was measured", HOW),
        machine_section(machine, report["settings"]),
    ]
    return page("First run: nbcnn", *parts, about=f"Made by nbcnn on {machine['date']}.")


def _middle(row: Row, state: str, key: str = "seconds") -> float:
    return statistics.median(measured[key] for measured in row[state])


def _tile(row: Row, state: str) -> Tile:
    name = f"{row['process']}, {state}" if row["kernels"] else row["process"]
    return Tile(name, number(_middle(row, state)), "s", f"at most {row[f'{state}_aim_s']:g} s is the aim")


def _table(rows: Sequence[Row]) -> Markup:
    columns = [Column("process", wide=True)]
    for state in ("cold", "warm"):
        columns += [Column(f"{state} s", True), Column("of processors", True), Column("aim", True)]
    body: list[list[Markup | str | None]] = []
    for row in rows:
        cells: list[Markup | str | None] = [row["process"]]
        for state in ("cold", "warm"):
            figures = (_middle(row, state), _middle(row, state, "processor"), row[f"{state}_aim_s"])
            cells += [number(figure) for figure in figures]
        body.append([*cells, str(len(row["kernels"]) or "")])
    return table([*columns, Column("kernels", True)], body)


def _bars(rows: Sequence[Row]) -> Markup:
    drawn = []
    for row in rows:
        parts = [Part(k["kernel"], k["seconds"], _class(k["kernel"]), _tip(k)) for k in row["kernels"]]
        drawn.append((_short(row), parts, f"{sum(part.value for part in parts):.1f} s"))
    return stacked(drawn, "seconds", "Seconds that each kernel takes to compile")


def _kernels(rows: Sequence[Row]) -> Markup:
    """Seconds of each kernel, in each process; one that is compiled for several types is there several times."""
    body: list[list[Markup | str | None]] = [
        [k["kernel"], _short(row), number(k["seconds"]), str(k["functions"])] for row in rows for k in row["kernels"]
    ]
    return table([Column("kernel"), Column("for"), Column("seconds", True), Column("functions", True)], body)


def _short(row: Row) -> str:
    return str(row["process"]).partition(",")[0].removeprefix("nbcnn ")


def _class(kernel: str) -> str:
    parts = kernel.partition(":")[0].split("_")
    return FAMILIES.get("_".join(parts[:2])) or FAMILIES.get(parts[0], "movement")


def _tip(kernel: dict[str, Any]) -> str:
    return f"{kernel['kernel']}: {number(kernel['seconds'])} s, {kernel['functions']} functions"
