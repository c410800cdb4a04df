"""What `nbcnn bench` prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

from nbcnn.cli.console import amount, console, mebibytes, table
from nbcnn.report.numbers import number, shape_text

__all__ = ["print_report"]

Report = dict[str, Any]


def print_report(report: Report, top: int) -> None:
    """The machine, each direction's figures and its slowest `top` layers."""
    from nbcnn.report.machine import heading

    network = report["network"]
    shapes = ", ".join(f"{name} {shape_text(value['shape'])}" for name, value in network["inputs"].items())
    click.echo(f"{network['file']}: {amount(network['parameters'])} parameters; {shapes}\n{heading(report['machine'])}")
    for title, part in (("inference", report["inference"]), ("training step", report["training"])):
        if part is not None:
            click.echo(f"\n{title}")
            _print_part(part, top)


def _print_part(part: Report, top: int) -> None:
    sides = list(part["timings"])
    rows = list(_figures(part, sides))
    table(["", *sides], rows, right=sides)
    for text in _remarks(part):
        click.echo(text)
    if top and part["layers"]:
        _print_layers(part, top)


def _figures(part: Report, sides: Sequence[str]) -> Iterator[list[str]]:
    """A row for each figure, a column for each side."""
    timings = [part["timings"][side] for side in sides]
    yield ["median time", *(f"{number(t['median_ms'])} ms" for t in timings)]
    yield ["quartiles", *(f"{number(t['quartiles_ms'][0])} to {number(t['quartiles_ms'][1])} ms" for t in timings)]
    flops = part["flops"]
    yield ["GFLOP/s", *(number(flops / t["median_ms"] / 1e6) for t in timings)]
    ours = timings[0]["median_ms"]
    yield ["samples/s", *(number(part["samples_per_s"] * ours / t["median_ms"]) for t in timings)]
    resident = part["memory"]["resident"]
    if resident:
        yield ["memory added", *(mebibytes(found["added"]) for found in resident.values())]
        yield ["peak on the way", *(mebibytes(found["peak"]) for found in resident.values())]


def _remarks(part: Report) -> Iterator[str]:
    from nbcnn.report.timing import is_busy

    if part["ratio"] is not None:
        low, high = part["ratio_blocks"]
        yield f"onnxruntime takes {part['ratio']:.2f} times our time ({low:.2f} to {high:.2f} from block to block)"
    elif part.get("peer_missing"):
        yield f"without onnxruntime: {part['peer_missing']}"
    if part["share"] is not None:
        yield (
            f"{part['share']:.0%} of the machine's ceiling of multiply-adds, {part['roofline']:.0%} of its roofline, "
            "which counts memory too"
        )
    if part.get("differences"):
        worst = max(part["differences"], key=lambda d: d["deviations"])
        yield (
            f"results agree with onnxruntime's: they differ by at most {worst['max_abs']:.2g}, which is "
            f"{worst['deviations']:.1g} of their deviation"
        )
    if is_busy(part["timings"]["nbcnn"]):
        yield "the quartiles lie far apart: other work was in the way, or the processor changed its clock"
    memory = part["memory"]
    yield (
        f"planned memory: {mebibytes(memory['arena_bytes'])} of activations and scratch, "
        f"{mebibytes(memory['held_bytes'])} of prepared weights"
    )
    yield f"the first run took {part['first_run_s']:.1f} s, planning and compiling kernels that were new"


def _print_layers(part: Report, top: int) -> None:
    """The slowest `top` layers, and the rest in one row. A narrow terminal gets fewer columns."""
    rows = sorted(part["layers"], key=lambda row: -row["ms"])
    shown = [_layer(row) for row in rows[:top]]
    rest = rows[top:]
    if rest:
        ms, share = sum(row["ms"] for row in rest), sum(row["time_share"] for row in rest)
        theirs = number(sum(row.get("peer_ms") or 0.0 for row in rest))
        shown.append({"layer": f"{len(rest)} more", "ms": number(ms), "time": f"{share:.1%}", PEER: theirs})
    shown.append({"layer": "outside of nodes", "ms": number(part["outside_ms"])})
    narrow = console().width < WIDE_ENOUGH
    columns = [
        name for name in COLUMNS if not (narrow and name in LEFT_OUT) and (part["peer"] is not None or name != PEER)
    ]
    table(columns, [[row.get(name, "") for name in columns] for row in shown], right=NUMBERS)


PEER = "onnxruntime ms"
NUMBERS = ("ms", "time", "GFLOP/s", "GB/s", "roofline", PEER)
COLUMNS = ("layer", "op", "output", "algorithm", *NUMBERS)
LEFT_OUT = ("op", "output", "GB/s")
WIDE_ENOUGH = 120


def _layer(row: Report) -> dict[str, str]:
    """A row's texts by column."""
    roofline, theirs = row.get("roofline"), row.get("peer_ms")
    return {
        "layer": row["name"],
        "op": "+".join([row["op"], *row["fused"]]),
        "output": shape_text(row["shape"]),
        "algorithm": row["algorithm"] or ", ".join(row["kernels"]),
        "ms": number(row["ms"]),
        "time": f"{row['time_share']:.1%}",
        "GFLOP/s": number(row["gflops"]) if row["flops"] else "",
        "GB/s": number(row["gbytes"]),
        "roofline": "" if roofline is None else f"{roofline:.0%}",
        PEER: "" if theirs is None else number(theirs),
    }
