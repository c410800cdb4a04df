"""`nbcnn train`: train or fine-tune a network; without arguments, the demonstration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from nbcnn.cli.engine import engine, engine_options
from nbcnn.cli.files import check_writable
from nbcnn.cli.numbers import Fraction, Number
from nbcnn.cli.pictures import naming, picture_options

__all__ = ["command"]

LOSSES = ("cross_entropy", "squared_error", "binary_cross_entropy", "binary_cross_entropy_with_logits")
INTERRUPTED = 130
FARTHEST = 1024
"""Pixels that a picture is shifted by at the most."""


@click.command("train")
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option(
    "--data",
    metavar="PATH",
    help="A folder of pictures per class, MNIST's IDX files, a .npz file with x and y, or the word 'digits'.",
)
@click.option(
    "--validation",
    type=Fraction(),
    metavar="FRACTION|PATH",
    help="Data to measure the accuracy on, or how much of --data to hold back where it has none (default 0.1).",
)
@click.option("--out", type=click.Path(path_type=Path), help="The trained network (default: runs/MODEL-tuned.onnx).")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the data (default 5).")
@click.option("--batch-size", type=click.IntRange(min=1), help="Samples in a step (default 32).")
@click.option("--lr", type=Number(min=0), help="Learning rate (default 0.01, with adam 0.001).")
@click.option("--optimizer", type=click.Choice(["sgd", "adam", "adamw"]), default="sgd", show_default=True)
@click.option("--momentum", type=Number(0, 1, max_open=True), help="Of sgd (default 0.9).")
@click.option("--weight-decay", type=Number(min=0), help="(default 0, with adamw 0.01)")
@click.option("--loss", type=click.Choice(LOSSES), default="cross_entropy", show_default=True)
@click.option("--output", metavar="NAME", help="The output to train, where there are several.")
@click.option(
    "--classes", type=click.IntRange(min=1), metavar="N", help="Replace the last layer by a new one for N classes."
)
@click.option(
    "--freeze",
    multiple=True,
    metavar="PATTERN",
    help="Weights or nodes to leave as they are, such as 'layer1.*'; repeatable.",
)
@click.option("--train", multiple=True, metavar="PATTERN", help="Weights to train besides the usual ones; repeatable.")
@click.option(
    "--patience",
    type=click.IntRange(min=1),
    metavar="N",
    help="Stop when N epochs bring no better validation accuracy.",
)
@click.option("--flip", is_flag=True, help="Mirror training pictures at random.")
@click.option(
    "--crop",
    type=click.IntRange(0, FARTHEST),
    default=0,
    metavar="N",
    help="Shift training pictures by up to N pixels at random.",
)
@engine_options
@click.option("--skip-bad", is_flag=True, help="Leave out pictures that cannot be decoded.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Of shuffling, dropout and new weights.",
)
@picture_options
@click.pass_context
def command(ctx: click.Context, /, model: Path | None, data: str | None, **options: Any) -> None:
    """Train or fine-tune MODEL, an ONNX file, and save it with the same graph and names.

    Without MODEL and --data: a demonstration that trains LeNet on handwritten digits.
    """
    from nbcnn.cli import demo

    if model is None and data is None:
        given = {name for name in options if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT}
        if not given <= set(demo.OPTIONS):
            names = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(given - set(demo.OPTIONS)))
            raise click.UsageError(f"Without MODEL.onnx and --data this is the demonstration, which has no {names}.")
        history = demo.run(**{name: options[name] for name in demo.OPTIONS})
    elif model is None or data is None:
        missing = "MODEL" if model is None else "--data"
        raise click.UsageError(f"Missing {missing}: training your own network takes MODEL.onnx and --data.")
    else:
        history = fine_tune(model, data, **options)
    if history.interrupted:
        ctx.exit(INTERRUPTED)


def fine_tune(path: Path, data: str, **options: Any) -> Any:
    """Load, put a new head on if asked to, open the data, train and save."""
    from nbcnn.api import load
    from nbcnn.cli.samples import check_classes, open_samples
    from nbcnn.cli.training import Settings, make_optimizer, train_and_save
    from nbcnn.model import Model
    from nbcnn.surgery import new_head

    if options["out"] is not None:
        check_writable(options["out"])
    optimizer = make_optimizer(*(options[name] for name in ("optimizer", "lr", "momentum", "weight_decay")))
    chosen = engine(options)
    model = load(path, **chosen)
    if options["classes"] is not None:
        graph = new_head(model.graph, options["classes"], output=options["output"], seed=options["seed"])
        model = Model(graph, source=model.source, **chosen)
    flags = {name: options[name] for name in ("size", "mean", "std", "layout", "bgr", "scale")}
    with naming(path):
        samples = open_samples(model.graph, data, options["validation"], flags, options["skip_bad"], options["seed"])
    if options["loss"] == "cross_entropy":
        check_classes(model.graph, samples, options["output"], options["classes"])
    out = options["out"] or default_out(path)
    same = ("loss", "output", "train", "freeze", "seed", "patience", "flip", "crop")
    settings = Settings(
        options["epochs"] or 5, options["batch_size"] or 32, optimizer, out, **{name: options[name] for name in same}
    )
    return train_and_save(model, samples, settings)


def default_out(path: Path) -> Path:
    folder = Path("runs")
    make_folder(folder)
    out = folder / f"{path.stem}-tuned.onnx"
    check_writable(out)
    return out


def make_folder(folder: Path) -> None:
    from nbcnn.errors import FileError

    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise FileError(
            f"{folder}: cannot be made: {error.strerror or error}: say where to write with --out"
        ) from error
