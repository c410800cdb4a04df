"""The demonstration: LeNet learns the embedded handwritten digits, and onnxruntime confirms the file that comes out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from nbcnn.cli.engine import engine
from nbcnn.cli.files import check_writable

__all__ = ["OPTIONS", "run"]

OPTIONS = (
    *("out", "epochs", "batch_size", "lr", "optimizer", "momentum", "weight_decay", "seed", "patience"),
    *("exact", "autotune", "device", "precision", "allow_fallback"),
)
"""The options of `nbcnn train` that it heeds."""

EPOCHS, BATCH, RATE = 15, 32, 0.02


def run(**options: Any) -> Any:
    """Returns the History."""
    from nbcnn.cli.samples import Samples
    from nbcnn.cli.train import make_folder
    from nbcnn.cli.training import Settings, make_optimizer, train_and_save
    from nbcnn.data import Preprocessing, digits
    from nbcnn.model import Model
    from nbcnn.zoo import graph_of

    start = time.monotonic()
    out: Path = options["out"] or Path("runs", "digits.onnx")
    if options["out"] is None:
        make_folder(out.parent)
    check_writable(out)
    rate = RATE if options["lr"] is None and options["optimizer"] == "sgd" else options["lr"]
    optimizer = make_optimizer(options["optimizer"], rate, options["momentum"], options["weight_decay"])
    train, test = digits()
    click.echo(
        f"LeNet learns {len(train):,} handwritten digits of 8x8 pixels; {len(test)} others are held back as a test"
    )
    click.echo("the first step compiles the kernels, once for this machine")
    # Pictures that `nbcnn infer` is given later are brought to the form that these arrays have.
    samples = Samples(train, test, Preprocessing(size=(8, 8), channels=1), [])
    model = Model(graph_of("lenet", size=8, seed=options["seed"]), **engine(options))
    settings = Settings(
        options["epochs"] or EPOCHS,
        options["batch_size"] or BATCH,
        optimizer,
        out,
        seed=options["seed"],
        patience=options["patience"],
        compared=len(test),
    )
    history = train_and_save(model, samples, settings)
    if not history.interrupted:
        accuracy, seconds = history.epochs[-1].accuracy or 0.0, time.monotonic() - start
        click.echo(
            f"test accuracy {accuracy:.2%}: {accuracy * len(test):.0f} of {len(test)} digits, in {seconds:.0f} s"
        )
        click.echo(f"look at it with: nbcnn summary {out}; use it with: nbcnn infer {out} PICTURE.png")
    return history
