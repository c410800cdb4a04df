"""`nbcnn summary`: a row for every layer of a network."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nbcnn.cli.console import amount, mebibytes, note, table
from nbcnn.cli.dims import Batch, Shape

if TYPE_CHECKING:
    from nbcnn.model import Model
    from nbcnn.report.summary import Row, Summary

__all__ = ["command"]

TOTALS = ("parameters", "trained", "statistics", "multiply_adds", "activations", "forward_bytes", "training_bytes")


@click.command("summary")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--batch", type=Batch(), metavar="N", help="The first dimension (default: the file's, or 1).")
@click.option(
    "--shape", type=Shape(), multiple=True, metavar="[NAME=]1,3,224,224", help="An input's whole shape; repeatable."
)
@click.option("--freeze", multiple=True, metavar="PATTERN", help="As in 'nbcnn train'.")
@click.option("--train", multiple=True, metavar="PATTERN", help="As in 'nbcnn train'.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(
    model: Path,
    batch: int | None,
    shape: tuple[tuple[str, tuple[int, ...]], ...],
    freeze: tuple[str, ...],
    train: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show MODEL's layers: output shape, weights and biases, multiply-adds, and the memory of their results.

    Memory is that of the layer's result at inference, and in a training step, where its gradient comes on top. A
    result that is fused into the neighbour's, or that is a view of it, has none of its own.
    """
    from nbcnn.api import load
    from nbcnn.report.shapes import input_shapes
    from nbcnn.report.summary import summarize

    network = load(model)
    first = network.inputs[0].name if network.inputs else ""
    shapes = input_shapes(network.graph, batch, {name or first: dims for name, dims in shape})
    summary = summarize(network.graph, shapes, train=train, freeze=freeze)
    peak = planned_peak(network, shapes)
    print_json(summary, peak) if as_json else print_table(summary, peak)


def planned_peak(network: Model, shapes: dict[str, tuple[int, ...]]) -> int:
    """Bytes of activations and scratch that running needs, as the plan places them."""
    import numpy as np

    feeds = {v.name: np.zeros(shapes[v.name], v.dtype or network.dtype) for v in network.graph.inputs}
    return network.plan(feeds).arena_bytes


def print_json(summary: Summary, peak: int) -> None:
    found: dict[str, Any] = {
        "inputs": {name: list(shape) for name, shape in summary.inputs.items()},
        "layers": [dataclasses.asdict(row) for row in summary.rows],
        "totals": {name: getattr(summary, name) for name in TOTALS} | {"planned_peak_bytes": peak},
    }
    click.echo(json.dumps(found, indent=2))


def print_table(summary: Summary, peak: int) -> None:
    numbers = ["weights + biases", "multiply-adds", "forward", "training"]
    columns = ["layer", "op", "output", *numbers, "trained"]
    inputs = [(name, "input", _shape(shape), "", "", "", "", "") for name, shape in summary.inputs.items()]
    rows = [_cells(row) for row in summary.rows]
    total = [
        "total",
        "",
        "",
        amount(summary.parameters),
        amount(summary.multiply_adds),
        mebibytes(summary.forward_bytes),
        mebibytes(summary.training_bytes),
        f"{summary.trained / summary.parameters:.0%}" if summary.parameters else "",
    ]
    table(columns, [*inputs, *rows], right=numbers, total=total)
    size = mebibytes(summary.parameters * summary.itemsize)
    statistics = f"; {amount(summary.statistics)} running statistics" if summary.statistics else ""
    click.echo(
        f"{amount(summary.parameters)} parameters ({size}), {amount(summary.trained)} of them trained{statistics}"
    )
    click.echo(f"{amount(summary.activations)} activations with the input ({mebibytes(summary.forward_bytes)})")
    click.echo(f"planned peak of a run: {mebibytes(peak)} beside the weights, because memory is used again")
    for row in summary.rows:
        if row.note:
            note(f"{row.op} {row.name!r}: {row.note}")


def _cells(row: Row) -> tuple[str, ...]:
    small = row.parameters - row.weights
    parts = [amount(row.weights)] if row.weights or small else []
    parts += [amount(small)] if small else []
    trained = (
        "" if not row.parameters else "yes" if row.trained == row.parameters else "partly" if row.trained else "no"
    )
    return (
        row.name,
        row.op,
        _shape(row.shape),
        " + ".join(parts),
        amount(row.multiply_adds) if row.multiply_adds else "",
        mebibytes(row.forward_bytes) if row.forward_bytes else "",
        mebibytes(row.training_bytes) if row.training_bytes else "",
        trained,
    )


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
