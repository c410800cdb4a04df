"""How pictures become inputs on the command line: options, what the model's metadata remembers, and the model's
input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nbcnn.cli.console import note
from nbcnn.cli.numbers import Numbers
from nbcnn.errors import FileError, InputError, ModelError

if TYPE_CHECKING:
    from nbcnn.data import Preprocessing
    from nbcnn.graph import Graph

__all__ = ["fitting", "naming", "picture_options", "preprocessing", "read_labels"]

Function = TypeVar("Function", bound=Callable[..., Any])


class Size(click.ParamType):
    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """ "32" or "HxW"."""
        try:
            numbers = [int(text) for text in str(value).lower().split("x")]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 2) or min(numbers) < 1:
            self.fail(f"{value!r} is neither a number of pixels nor HxW", param, ctx)
        return numbers[0], numbers[-1]


OPTIONS = (
    click.option(
        "--size", type=Size(), metavar="N|HxW", help="Resize pictures to this (default: the network's input)."
    ),
    click.option("--mean", type=Numbers(), metavar="X[,X,X]", help="Subtract this, one number or one a channel."),
    click.option(
        "--std", type=Numbers(positive=True), metavar="X[,X,X]", help="Divide by this, one number or one a channel."
    ),
    click.option("--layout", type=click.Choice(["NCHW", "NHWC"]), help="Order of the input's dimensions."),
    click.option("--bgr/--rgb", default=None, help="Order of the channels (default: --rgb)."),
    click.option("--scale/--no-scale", default=None, help="Divide pixels by 255 first (default), or do not."),
)


def picture_options(function: Function) -> Function:
    """Adds the options above; their values arrive as keyword arguments."""
    for option in reversed(OPTIONS):
        function = option(function)
    return function


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """What is wrong with a network's metadata is said with its file's name."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from None


def preprocessing(graph: Graph, flags: dict[str, Any]) -> Preprocessing:
    """The steps for pictures: what the flags say, else what the metadata remembers, else what the input's shape
    suggests.
    """
    from nbcnn.data import Preprocessing

    given = {name: value for name, value in flags.items() if value is not None}
    remembered = Preprocessing.from_metadata(graph.metadata)
    steps = remembered or Preprocessing(**_suggested(graph, given.get("layout")))
    return replace(steps, **given)


def _suggested(graph: Graph, layout: str | None) -> dict[str, Any]:
    """Layout, channels and size from the network's first input."""
    from nbcnn.guesses import channels as channels_taken

    shape = graph.inputs[0].shape if graph.inputs else None
    if shape is None or len(shape) != 4:
        raise InputError(
            "pictures need an input of four dimensions; this network's has "
            + ("an unknown shape: feed arrays" if shape is None else f"the shape {list(shape)}")
        )
    layout = layout or ("NHWC" if shape[3] in (1, 3) and shape[1] not in (1, 3) else "NCHW")
    channels, *size = (shape[1], shape[2], shape[3]) if layout == "NCHW" else (shape[3], shape[1], shape[2])
    depth = channels if isinstance(channels, int) else channels_taken(graph, graph.inputs[0].name)
    if depth not in (1, 3):
        raise InputError(f"pictures have 1 or 3 channels; this network's input takes {depth}")
    found: dict[str, Any] = {"layout": layout, "channels": depth}
    if all(isinstance(n, int) for n in size):
        found["size"] = tuple(size)
    return found


def fitting(labels: list[str], classes: int) -> list[str] | None:
    """Remembered names for so many classes: training data may have had fewer, and the others go by number. None where
    there are more: the network has got another head since.
    """
    if len(labels) > classes:
        note(f"the file names {len(labels)} classes, but the network has {classes}: name them with --labels")
        return None
    return [*labels, *map(str, range(len(labels), classes))]


def read_labels(path: Path) -> list[str]:
    """One class name a line; a leading "number," or "number:" that counts the lines is dropped."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise FileError(f"{path}: not a text file: one class name a line is needed") from None
    while lines and not lines[-1].strip():
        lines.pop()
    for sign in ",:":
        if lines and all(line.partition(sign)[0].strip() == str(i) for i, line in enumerate(lines)):
            return [line.partition(sign)[2].strip() for line in lines]
    return [line.strip() for line in lines]
