"""`nbcnn validate`: compare a network's outputs with onnxruntime's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nbcnn.cli.console import table
from nbcnn.cli.dims import Binding
from nbcnn.cli.engine import engine, engine_options

__all__ = ["command"]


@click.command("validate")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--data", type=click.Path(path_type=Path), help="A .npz file with arrays by input name (default: random numbers)."
)
@click.option(
    "--dim",
    type=Binding(),
    multiple=True,
    metavar="NAME=N",
    help="A number for an open dimension, such as N=2; repeatable.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the random numbers.")
@engine_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    model: Path,
    data: Path | None,
    dim: tuple[tuple[str, int], ...],
    seed: int,
    **options: Any,
) -> None:
    """Run MODEL here and in onnxruntime on the same inputs, and compare every output.

    The exit code is 1 when an output differs.
    """
    from nbcnn.api import validate
    from nbcnn.cli.arrays import load_npz

    inputs = load_npz(data) if data else None
    report = validate(model, inputs, dims=dict(dim), seed=seed, **engine(options))
    rows = [
        (
            output.name,
            "x".join(map(str, output.shape)) or "scalar",
            output.dtype,
            f"{output.max_abs:.3g}",
            f"{output.max_rel:.3g}",
            "ok" if output.ok else output.problem or "differs",
        )
        for output in report.outputs
    ]
    table(
        ["output", "shape", "type", "largest difference", "relative", ""],
        rows,
        right=["largest difference", "relative"],
    )
    if not report.ok:
        failed = sum(not output.ok for output in report.outputs)
        click.echo(f"{failed} of {len(rows)} outputs differ from onnxruntime {report.version}", err=True)
        ctx.exit(1)
    click.echo(f"agrees with onnxruntime {report.version}")
