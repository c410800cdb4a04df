"""Opening the data that a network is to be trained on: in the form that its input wants, and with labels that it
has.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbcnn.cli.console import note
from nbcnn.cli.pictures import preprocessing
from nbcnn.errors import DataError, InputError

if TYPE_CHECKING:
    from nbcnn.data import Dataset, Preprocessing
    from nbcnn.graph import Graph

__all__ = ["Samples", "check_classes", "open_samples"]

HELD = 0.1
"""The share of the data that is held back where nothing is said."""


@dataclass(frozen=True)
class Samples:
    """steps: how pictures became inputs, None when they did not. skipped: pictures that were left out."""

    train: Dataset
    held: Dataset | None
    steps: Preprocessing | None
    skipped: list[Path]

    @property
    def classes(self) -> list[str] | None:
        return self.train.classes


def open_samples(
    graph: Graph, source: str, validation: str | None, flags: dict[str, Any], skip_bad: bool = False, seed: int = 0
) -> Samples:
    """Open training data and validation data.

    validation: a path, or the fraction to hold back where `source` has no such part; None holds back a tenth, if that
    is anything.
    """
    from nbcnn.data import split

    if len(graph.inputs) != 1:
        names = [value.name for value in graph.inputs]
        raise InputError(f"'nbcnn train' feeds one input, but this network takes {names}: use nbcnn.Trainer in Python")
    train, held, steps = _open(graph, source, flags, skip_bad)
    skipped = list(getattr(train, "skipped", ()))
    fraction = HELD if validation is None else _fraction(validation)
    if validation is not None and fraction is None:
        held, _, _ = _open(graph, validation, flags, skip_bad)
        if held.classes != train.classes:
            raise DataError(f"{validation}: its classes {held.classes} are not those of {source}, {train.classes}")
    elif held is None and fraction and (validation is not None or len(train) * fraction >= 1):
        train, held = split(train, fraction, seed)
    for part in filter(None, (train, held)):
        _check_shape(graph, part)
    return Samples(train, held, steps, skipped)


def check_classes(graph: Graph, samples: Samples, output: str | None, asked: int | None = None) -> None:
    """Raise DataError when a label is beyond the classes that the output has, as far as the file says how many, or
    when all training samples are of one class. asked: the classes that the user asked for.
    """
    _check_range(graph, samples, output, asked)
    labels = samples.train.labels
    if labels is not None and len(labels) and (labels == labels[0]).all():
        raise DataError(f"one class teaches nothing: every training sample has the label {labels[0]}")


def _check_range(graph: Graph, samples: Samples, output: str | None, asked: int | None) -> None:
    from nbcnn.data import check_labels

    name = output or graph.output_names()[0]
    shape = next((value.shape for value in graph.outputs if value.name == name), None)
    if shape is None or len(shape) < 2 or not isinstance(shape[1], int):
        return
    named = samples.classes
    if named is not None and len(named) < shape[1]:
        note(
            f"the network tells {shape[1]} classes apart, and the data has {len(named)}, which become its first ones; "
            f"--classes {len(named)} gives it a new head for these alone"
        )
    for part in filter(None, (samples.train, samples.held)):
        if part.labels is not None:
            try:
                check_labels(part.labels, shape[1])
            except DataError as error:
                hint = f"--classes {asked} is what was asked for" if asked else "or get a new head with --classes N"
                raise DataError(f"{error}, {hint}") from None


def _open(
    graph: Graph, source: str, flags: dict[str, Any], skip_bad: bool
) -> tuple[Dataset, Dataset | None, Preprocessing | None]:
    """Pictures get the steps that fit the network; arrays are taken as they are."""
    from nbcnn.data import open_data

    path, asked = Path(source), any(value is not None for value in flags.values())
    ready = not path.exists() and source == "digits"
    if ready or (path.suffix == ".npz" and path.is_file() and not asked):
        train, held = open_data(source, preprocessing=preprocessing(graph, flags) if asked else None, skip_bad=skip_bad)
        if getattr(train, "preprocessing", None) is None:
            return train, held, None
    steps = preprocessing(graph, flags)
    train, held = open_data(source, preprocessing=steps, skip_bad=skip_bad)
    return train, held, steps


def _fraction(text: str) -> float | None:
    """The number that a text is, None when it is a path."""
    try:
        return float(text)
    except ValueError:
        return None


def _check_shape(graph: Graph, data: Dataset) -> None:
    value = graph.inputs[0]
    if value.shape is None:
        return
    want, have = value.shape[1:], tuple(data.shape)
    if len(want) != len(have) or any(isinstance(w, int) and w != h for w, h in zip(want, have, strict=True)):
        raise DataError(
            f"a sample has the shape {list(have)}, but input {value.name!r} takes {list(want)}: "
            "give pictures another --size or --layout, or other data"
        )
