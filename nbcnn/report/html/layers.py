"""The layers of a report as pictures want them, and the table of them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbcnn.report.arithmetic import group_of
from nbcnn.report.html.bars import cell_bar
from nbcnn.report.html.drawing import group_class
from nbcnn.report.html.element import Markup, el, join
from nbcnn.report.html.page import Column, table, two_lines
from nbcnn.report.html.roofline_plot import Point
from nbcnn.report.html.skyline import Block
from nbcnn.report.numbers import number, shape_text

__all__ = ["kind_of", "layer_points", "layer_table", "our_blocks", "peer_blocks"]

Rows = Sequence[dict[str, Any]]

MANY, SLOWEST = 120, 60
"""Of more layers than MANY the SLOWEST are shown first."""


def kind_of(row: dict[str, Any]) -> str:
    """The kind of work, as pictures tell them apart: the layer's group, with Winograd's convolutions on their own."""
    group = str(row["group"])
    return f"Winograd {group}" if (row["algorithm"] or "").startswith("winograd") else group


def _operators(row: dict[str, Any]) -> str:
    return " + ".join([row["op"], *row["fused"]])


def _tip(row: dict[str, Any]) -> str:
    lines = [
        f"{row['name']} ({_operators(row)})",
        f"{shape_text(row['shape'])}, {row['algorithm'] or row['kernels'][0]}",
    ]
    rate = f"{number(row['gflops'])} GFLOP/s, " if row["flops"] else ""
    lines.append(f"{number(row['ms'])} ms, {row['time_share']:.1%} of the time")
    lines.append(f"{rate}{number(row['gbytes'])} GB/s")
    if row.get("roofline") is not None:
        lines.append(f"{row['roofline']:.0%} of the roofline, bound by {row['bound']}")
    if row.get("peer_ms") is not None:
        lines.append(f"onnxruntime: {number(row['peer_ms'])} ms")
    return "\n".join(lines)


def our_blocks(rows: Rows) -> list[Block]:
    return [Block(kind_of(row), row["ms"], row["gflops"], _tip(row)) for row in rows]


def peer_blocks(rows: Rows, nodes: Rows) -> list[Block]:
    """The other side's nodes; the work of a row goes to the slowest of those that stand beside it."""
    slowest: dict[int, int] = {}
    for index, node in enumerate(nodes):
        row = node["row"]
        if row is not None and (row not in slowest or node["ms"] > nodes[slowest[row]]["ms"]):
            slowest[row] = index
    found = []
    for index, node in enumerate(nodes):
        row = node["row"]
        flops = rows[row]["flops"] if row is not None and slowest[row] == index else 0
        group = rows[row]["group"] if row is not None and slowest[row] == index else _peer_group(node["op"])
        gflops = flops / max(node["ms"], 1e-6) / 1e6
        told = f"{node['name']} ({node['op']})\n{number(node['ms'])} ms" + (
            f", {number(gflops)} GFLOP/s" if flops else ""
        )
        found.append(Block(group, node["ms"], gflops, told))
    return found


def _peer_group(op: str) -> str:
    return "movement" if op.startswith("Reorder") else group_of(op)


def layer_points(rows: Rows) -> list[Point]:
    """For a roofline plot."""
    found = []
    for row in rows:
        intensity = row["flops"] / row["bytes"] if row["bytes"] else 0.0
        found.append(Point(row["name"], kind_of(row), intensity, row["gflops"], row["time_share"], _tip(row)))
    return found


def layer_table(part: dict[str, Any]) -> Markup:
    """In the order in which they run; of very many, the slowest first."""
    rows = part["layers"]
    if len(rows) <= MANY:
        return _table(part, rows)
    slowest = sorted(rows, key=lambda row: -row["ms"])[:SLOWEST]
    rest = 1 - sum(row["time_share"] for row in slowest)
    note = el("p", f"The {SLOWEST} slowest; the others take {rest:.0%} of the time.", class_="note")
    every = el("details", el("summary", f"All {len(rows)} layers, in the order in which they run"), _table(part, rows))
    return join(note, _table(part, slowest), every)


def _table(part: dict[str, Any], rows: Rows) -> Markup:
    beside, several = part["peer"] is not None, len({row["phase"] for row in part["layers"]}) > 1
    columns = [Column("layer", wide=True), Column("algorithm, result", wide=True), Column("time")]
    columns += [Column("ms", True)] + ([Column(f"{part['peer']} ms", True), Column("ratio", True)] if beside else [])
    columns += [Column(name, True) for name in ("GFLOP/s", "GB/s", "roofline")]
    longest = max(max(row["ms"], row.get("peer_ms") or 0.0) for row in part["layers"])
    body = [_cells(row, longest, beside, several) for row in rows]
    return table(columns, body)


def _cells(row: dict[str, Any], longest: float, beside: bool, several: bool) -> list[Markup | str]:
    under = _operators(row) + (f", {row['phase']}" if several else "")
    least, peer = row.get("least_ms"), row.get("peer_ms")
    bar = cell_bar(
        row["ms"] / longest,
        group_class(kind_of(row)),
        None if least is None else least / longest,
        None if peer is None else peer / longest,
        _tip(row),
    )
    algorithm, shape = row["algorithm"] or ", ".join(row["kernels"]), shape_text(row["shape"])
    cells: list[Markup | str] = [two_lines(row["name"], under), two_lines(algorithm, shape), bar, number(row["ms"])]
    if beside:
        cells += [number(peer), f"{peer / row['ms']:.2f}×"] if peer else ["", ""]
    cells += [number(row["gflops"]) if row["flops"] else "", number(row["gbytes"])]
    return [*cells, "" if row.get("roofline") is None else f"{row['roofline']:.0%}"]
