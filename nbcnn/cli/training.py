"""A training run from the first message to the saved file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nbcnn.cli.console import amount, mebibytes, note
from nbcnn.cli.progress import watch
from nbcnn.cli.samples import Samples
from nbcnn.errors import DataError, FileError, ModelError, TrainingError
from nbcnn.labels import remember_labels

if TYPE_CHECKING:
    from nbcnn.data import Dataset
    from nbcnn.model import Model
    from nbcnn.optim import Optimizer
    from nbcnn.trainer import History, Trainer

__all__ = ["Settings", "make_optimizer", "train_and_save"]

RATES = {"sgd": 0.01, "adam": 0.001, "adamw": 0.001}
"""Learning rates where none is given."""
MOMENTUM = 0.9
"""Of sgd, where none is given."""

COMPARED = 32
"""Samples that the saved file is compared with onnxruntime on."""


@dataclass(frozen=True)
class Settings:
    """What the options say. train, freeze: patterns. patience: epochs without improvement after which to stop."""

    epochs: int
    batch_size: int
    optimizer: Optimizer
    out: Path
    loss: str = "cross_entropy"
    output: str | None = None
    train: Sequence[str] = ()
    freeze: Sequence[str] = ()
    seed: int = 0
    patience: int | None = None
    flip: bool = False
    crop: int = 0
    compared: int = COMPARED


def make_optimizer(name: str, lr: float | None, momentum: float | None, weight_decay: float | None) -> Optimizer:
    """momentum: of sgd, None for MOMENTUM. weight_decay: None for the optimizer's own default."""
    from nbcnn.optim import SGD, Adam, AdamW

    if name != "sgd" and momentum is not None:
        raise click.UsageError(f"--momentum is sgd's; {name} has none.")
    rate = RATES[name] if lr is None else lr
    decay: dict[str, Any] = {} if weight_decay is None else {"weight_decay": weight_decay}
    if name == "sgd":
        return SGD(rate, MOMENTUM if momentum is None else momentum, **decay)
    return (Adam if name == "adam" else AdamW)(rate, **decay)


def train_and_save(model: Model, samples: Samples, settings: Settings) -> History:
    """Train, save to settings.out, compare the file with onnxruntime, and say so.

    Raises TrainingError when the loss stops being a number, and what reading the data raises; the last good weights
    are saved then too.
    """
    from nbcnn.trainer import Trainer

    trainer = Trainer(
        model,
        settings.loss,
        settings.optimizer,
        output=settings.output,
        train=settings.train,
        freeze=settings.freeze,
        seed=settings.seed,
    )
    _remember(model, samples)
    _announce(trainer, samples, settings)
    try:
        history = _fit(trainer, samples, settings)
    except TrainingError as error:
        model.save(settings.out)
        raise TrainingError(f"{error}; they are saved in {settings.out}") from error
    except (DataError, FileError) as error:  # such as a picture that cannot be read
        if not trainer.steps_done:
            raise
        model.save(settings.out)
        raise type(error)(f"{error}; the weights so far are saved in {settings.out}") from error
    model.save(settings.out)
    if history.interrupted:
        click.echo(f"interrupted at step {trainer.steps_done}: the weights so far are saved in {settings.out}")
    else:
        click.echo(f"saved {settings.out} ({mebibytes(settings.out.stat().st_size)})")
        _compare(model, samples.held or samples.train, settings)
    return history


def _fit(trainer: Trainer, samples: Samples, settings: Settings) -> History:
    from nbcnn.data import Augment

    layout = samples.steps.layout if samples.steps else "NCHW"
    augment = Augment(settings.flip, settings.crop, layout) if settings.flip or settings.crop else None
    with watch(settings.epochs) as watcher:
        return trainer.fit(
            samples.train,
            samples.held,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            seed=settings.seed,
            augment=augment,
            patience=settings.patience,
            progress=watcher.step,
            after_epoch=watcher.epoch,
        )


def _remember(model: Model, samples: Samples) -> None:
    """Write into the model how pictures were prepared and what the classes are called, for `nbcnn infer`."""
    if samples.steps is not None:
        model.metadata.update(samples.steps.to_metadata())
    if samples.classes is not None:
        remember_labels(model.graph, samples.classes)


def _announce(trainer: Trainer, samples: Samples, settings: Settings) -> None:
    from nbcnn.report.notes import training_notes
    from nbcnn.trainables import trainable

    graph, sizes = trainer.model.graph, {name: p.size for name, p in trainer.model.parameters.items()}
    trained = sum(sizes[name] for name in trainer.trained)
    frozen = [name for name in trainable(graph, settings.train) if name not in trainer.trained]
    left = amount(sum(sizes[name] for name in frozen))
    rest = f"{len(frozen)} more, of {left} numbers, frozen" if frozen else "none is frozen"
    click.echo(f"training {len(trainer.trained)} tensors of {amount(trained)} numbers; {rest}")
    held = f", {amount(len(samples.held))} held back for validation" if samples.held is not None else ""
    click.echo(f"on {amount(len(samples.train))} samples{held}, with {_describe(settings.optimizer)}")
    if samples.skipped:
        names = ", ".join(map(str, samples.skipped[:5]))
        note(f"{len(samples.skipped)} pictures cannot be decoded and are left out: {names}")
    for text in training_notes(graph).texts:
        note(text)


def _describe(optimizer: Optimizer) -> str:
    settings: dict[str, Any] = vars(optimizer)
    return f"{type(optimizer).__name__}({', '.join(f'{name}={value}' for name, value in settings.items() if value)})"


def _compare(model: Model, data: Dataset, settings: Settings) -> None:
    """Show that onnxruntime computes the same from the saved file."""
    import numpy as np

    from nbcnn.api import validate

    source = model.graph.inputs[0]
    fixed = source.shape[0] if source.shape else None
    count = fixed if isinstance(fixed, int) else min(settings.compared, len(data))
    if count > len(data):
        note(f"not compared with onnxruntime: the file's batch of {count} is more than there are samples")
        return
    x, _ = data.batch(np.arange(count))
    try:
        feeds = {source.name: x.astype(source.dtype or x.dtype, copy=False)}
        report = validate(settings.out, feeds, device=model.device)
    except ModelError as error:
        note(f"not compared with onnxruntime: {error}")
        return
    if not report.ok:
        raise FileError(f"{settings.out}: onnxruntime computes something else from it: {' '.join(str(report).split())}")
    click.echo(
        f"onnxruntime {report.version} computes the same from it: "
        f"largest difference {report.max_abs:.2g} on {count} samples"
    )
