"""`nbcnn export`: write a network anew, for another opset or changed as asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nbcnn.cli.dims import Batch

__all__ = ["command"]


class Renaming(click.ParamType):
    """OLD=NEW"""

    name = "renaming"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        old, _, new = str(value).partition("=")
        if not old or not new:
            self.fail(f"{value!r} is not of the form OLD=NEW", param, ctx)
        return old, new


class BatchOrName(Batch):
    """8, or N"""

    name = "batch"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = str(value)
        return text if text.isidentifier() else super().convert(value, param, ctx)


@click.command("export")
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--opset", type=click.IntRange(min=1), metavar="N", help="Of ONNX's operators (default: the file's).")
@click.option(
    "--batch", type=BatchOrName(), metavar="N|NAME", help="The batch size; a name, such as N, leaves it open."
)
@click.option("--cut", metavar="NAME", help="End at this node or value: a feature extractor.")
@click.option("--rename", type=Renaming(), multiple=True, metavar="OLD=NEW", help="Rename a value; repeatable.")
@click.option("--fc-to-conv", is_flag=True, help="Write fully connected layers as convolutions, for larger pictures.")
@click.option("--fold-batch-norm", is_flag=True, help="Make batch norms part of the layers before them.")
def command(
    source: Path,
    out: Path,
    opset: int | None,
    batch: int | str | None,
    cut: str | None,
    rename: tuple[tuple[str, str], ...],
    fc_to_conv: bool,
    fold_batch_norm: bool,
) -> None:
    """Write the network IN to OUT; what no option changes stays as it is, to the byte."""
    from nbcnn.api import load
    from nbcnn.cli.files import check_writable

    check_writable(out)
    model = load(source)
    if cut is not None:
        model = model.cut(cut)
    if batch is not None:
        model = model.set_batch(batch)
    if fc_to_conv:
        model = model.convert_fc_to_conv()
    if fold_batch_norm:
        model = model.fold_batch_norm()
    if rename:
        model = model.rename(dict(rename))
    model.save(out, opset)
    click.echo(f"saved {out}: {len(model.graph.nodes)} nodes, opset {opset or model.graph.opset.get('', '?')}")
