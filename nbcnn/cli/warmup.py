"""`nbcnn warmup`: compile ahead of time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from nbcnn.cli.compiling import kernels, state
from nbcnn.cli.console import console
from nbcnn.cli.dims import Batch, Shape
from nbcnn.compilation import Compilation, watch_compilation
from nbcnn.errors import FileError

__all__ = ["command"]


@click.command("warmup")
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option("--batch", type=Batch(), metavar="N", help="The first dimension (default: the file's, or 1).")
@click.option(
    "--shape", type=Shape(), multiple=True, metavar="[NAME=]1,3,224,224", help="An input's whole shape; repeatable."
)
@click.option("--train", is_flag=True, help="A training step of MODEL too.")
@click.option("--exact", is_flag=True, help="Forbid algorithms that round otherwise than the direct sum of products.")
@click.option("--autotune", is_flag=True, help="Choose algorithms of convolutions by timing them (once for a machine).")
def command(
    model: Path | None,
    batch: int | None,
    shape: tuple[tuple[str, tuple[int, ...]], ...],
    train: bool,
    exact: bool,
    autotune: bool,
) -> None:
    """Compile what running MODEL needs on this machine, so that its first run is as quick as the next.

    Without MODEL: what most networks need, to run and to train. Kernels are kept in the user's cache folder, or in
    $NUMBA_CACHE_DIR, and are compiled again after an upgrade of nbcnn or Numba.
    """
    if model is None and (batch or shape or train or exact or autotune):
        raise click.UsageError("--batch, --shape, --train, --exact and --autotune are for a MODEL.")
    from nbcnn.api import load
    from nbcnn.report.shapes import input_shapes
    from nbcnn.warmup import model_plans, standard_plans, warm_up

    start = time.monotonic()
    lost: list[Compilation] = []
    with bar(lost):
        if model is None:
            count = warm_up(standard_plans())
        else:
            network = load(model, exact=exact, autotune=autotune)
            first = network.inputs[0].name if network.inputs else ""
            shapes = input_shapes(network.graph, batch, {name or first: dims for name, dims in shape})
            count = warm_up(model_plans(network, shapes, train))
    if lost:
        raise FileError("compiled kernels cannot be kept: set NUMBA_CACHE_DIR to a folder that can be written")
    seconds = time.monotonic() - start
    click.echo(f"compiled {kernels(count)} in {seconds:.1f} s" if count else "everything was compiled already")


@contextmanager
def bar(lost: list[Compilation]) -> Iterator[None]:
    """A progress bar for what is compiled while this lasts, on a terminal. lost: gets what the disk does not take."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    screen = console()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        task = progress.add_task("making plans", total=None)

        def show(now: Compilation) -> None:
            if not now.kept:
                lost.append(now)
            progress.update(task, description=state(now), completed=now.done, total=now.total)

        with watch_compilation(show):
            yield
