"""`nbcnn check`: what of a network can run and be trained."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nbcnn.cli.console import note, table
from nbcnn.cli.dims import Shape

if TYPE_CHECKING:
    from nbcnn.report.check import CheckReport, NodeCheck

__all__ = ["command"]


@click.command("check")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--shape", type=Shape(), multiple=True, metavar="[NAME=]1,3,224,224", help="An input's whole shape; repeatable."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every node, instead of a table.")
@click.pass_context
def command(ctx: click.Context, model: Path, shape: tuple[tuple[str, tuple[int, ...]], ...], as_json: bool) -> None:
    """Say of every operator in MODEL whether it can run and be trained, and where not, which node it is and why.

    The exit code is 1 when the network cannot run.
    """
    from nbcnn.api import load
    from nbcnn.report.check import check
    from nbcnn.report.shapes import input_shapes

    network = load(model)
    first = network.inputs[0].name if network.inputs else ""
    report = check(network, input_shapes(network.graph, None, {name or first: dims for name, dims in shape}))
    print_json(report) if as_json else print_table(report)
    if not report.runs:
        ctx.exit(1)


def print_json(report: CheckReport) -> None:
    found = {"runs": report.runs, "trains": report.trains} | dataclasses.asdict(report)
    click.echo(json.dumps(found, indent=2))


def print_table(report: CheckReport) -> None:
    groups: dict[str, list[NodeCheck]] = {}
    for node in report.nodes:
        groups.setdefault(f"{node.domain}.{node.op}" if node.domain else node.op, []).append(node)
    rows = [
        (
            name,
            len(nodes),
            _answer([n.runs for n in nodes], "?"),
            _answer([n.trains for n in nodes], "-" if report.runs else "?"),
        )
        for name, nodes in sorted(groups.items())
    ]
    table(["operator", "nodes", "runs", "trains"], rows, right=["nodes"])
    for node in report.nodes:
        if node.runs is False or node.trains is False:
            click.echo(f"{node.node}: {node.reason}")
    hidden = sum(node.runs is None for node in report.nodes)
    if hidden:
        click.echo(f"{hidden} nodes behind these could not be looked at: the shapes of their inputs are not known")
    for problem in report.problems:
        click.echo(problem)
    for text in report.notes.texts:
        note(text)
    click.echo(f"{_verdict(report)}")


def _answer(answers: list[bool | None], unknown: str) -> str:
    """Of all nodes of one operator."""
    bad, good = answers.count(False), answers.count(True)
    if bad:
        return "no" if bad == len(answers) else f"{bad} not"
    return "yes" if good else unknown


def _verdict(report: CheckReport) -> str:
    if not report.runs:
        return "this network cannot run"
    if not report.trained:
        return "this network can run; it has no weights that training would change"
    return (
        "this network can run and be trained"
        if report.trains
        else "this network can run, but not be trained as a whole"
    )
