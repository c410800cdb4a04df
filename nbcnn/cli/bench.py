"""`nbcnn bench`: how fast a network runs on this machine, node by node, and beside onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nbcnn.cli.bench_tables import print_report
from nbcnn.cli.console import stages
from nbcnn.cli.dims import Batch, Binding, Shape
from nbcnn.cli.engine import engine, engine_options
from nbcnn.cli.files import check_writable
from nbcnn.cli.numbers import Number

__all__ = ["command"]

MOST_SECONDS = 86400.0


@click.command("bench")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--batch", type=Batch(), metavar="N", help="The first dimension (default: the file's, or 1).")
@click.option(
    "--shape", type=Shape(), multiple=True, metavar="[NAME=]1,3,224,224", help="An input's whole shape; repeatable."
)
@click.option(
    "--dim", type=Binding(), multiple=True, metavar="NAME=N", help="A number for an open dimension; repeatable."
)
@click.option("--train", is_flag=True, help="A training step too: forward, backward, update.")
@click.option(
    "--seconds",
    type=Number(0, MOST_SECONDS, min_open=True),
    default=10.0,
    show_default=True,
    help="About how long to time each of both.",
)
@click.option("--alone", is_flag=True, help="Without onnxruntime beside it; its results are then not compared either.")
@engine_options
@click.option(
    "--top", type=click.IntRange(min=0), default=20, show_default=True, metavar="K", help="How many layers to print."
)
@click.option(
    "--json",
    type=click.Path(path_type=Path, allow_dash=True),
    help="The report (default: MODEL-bench.json); - prints it.",
)
@click.option("--html", type=click.Path(path_type=Path), help="The page of pictures (default: MODEL-bench.html).")
@click.option("--trace", type=click.Path(path_type=Path), help="A trace for chrome://tracing and ui.perfetto.dev.")
@click.option("--no-files", is_flag=True, help="Write only the files that are named.")
def command(
    model: Path,
    shape: tuple[tuple[str, tuple[int, ...]], ...],
    dim: tuple[tuple[str, int], ...],
    top: int,
    json: Path | None,
    html: Path | None,
    trace: Path | None,
    no_files: bool,
    alone: bool,
    **settings: Any,
) -> None:
    """Time MODEL on random inputs: whole runs in turn with onnxruntime's, then node by node, and its memory.

    Results are compared before anything is timed; the exit code is 1 when they differ. A report in JSON and a page of
    pictures are written beside the printed table, into the present folder unless named.
    """
    from nbcnn.api import load
    from nbcnn.report.network import Request, measure_network
    from nbcnn.report.write import as_json, write_json, write_text
    from nbcnn.threads import get_num_threads

    if not no_files:
        json, html = json or Path(f"{model.stem}-bench.json"), html or Path(f"{model.stem}-bench.html")
    if "-" in (str(html), str(trace)):
        raise click.UsageError("only --json can be printed with -")
    printed = str(json) == "-"
    paths = [path for path in (None if printed else json, html, trace) if path is not None]
    if len({path.absolute() for path in paths}) < len(paths):
        raise click.UsageError("--json, --html and --trace need a file each")
    for path in paths:
        check_writable(path)
    names = [port.name for port in load(model).inputs]
    shapes = {name or next(iter(names), ""): dims for name, dims in shape}
    chosen = engine(settings)
    request = Request(model, get_num_threads(), shapes=shapes, dims=dict(dim), peer=not alone, **settings, **chosen)
    with stages() as tell:
        report, tracks = measure_network(request, tell)
    if printed:
        click.echo(as_json(report))
    else:
        print_report(report, top)
    written = []
    if json is not None and not printed:
        written.append(write_json(json, report))
    if html is not None:
        from nbcnn.report.html.network import network_page

        written.append(write_text(html, network_page(report)))
    if trace is not None:
        from nbcnn.report.trace import trace as trace_file

        about = {"network": report["network"]["file"], "machine": report["machine"]["cpu"]}
        written.append(write_json(trace, trace_file(tracks, about)))
    for path in written:
        click.echo(f"wrote {path}", err=printed)
