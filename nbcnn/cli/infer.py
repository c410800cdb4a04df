"""`nbcnn infer`: run a network on pictures or arrays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nbcnn.cli.console import table
from nbcnn.cli.engine import engine, engine_options
from nbcnn.cli.files import check_writable, save_arrays
from nbcnn.cli.pictures import fitting, naming, picture_options, preprocessing, read_labels
from nbcnn.errors import InputError
from nbcnn.labels import remembered_labels

if TYPE_CHECKING:
    import numpy as np

    from nbcnn.model import Model

__all__ = ["command"]

ARRAYS = (".npy", ".npz", ".pb")
BATCH = 16
"""Pictures that are run at once."""


@click.command("infer")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--top", type=click.IntRange(min=1), default=5, show_default=True, metavar="K", help="How many classes to show."
)
@click.option("--labels", type=click.Path(path_type=Path), help="A text file with one class name a line.")
@click.option("--output", metavar="NAME", help="The output to show, where there are several.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--out", type=click.Path(path_type=Path), help="Write all outputs to this .npz file.")
@engine_options
@picture_options
def command(
    model: Path,
    files: tuple[Path, ...],
    labels: Path | None,
    out: Path | None,
    **options: Any,
) -> None:
    """Run MODEL on FILES: pictures, or arrays from .npy, .npz (by input name) and .pb files (in the order of the
    inputs).

    Pictures are prepared as the options say; what they leave open is taken from the model, if it was trained here,
    and from its input. Classes are shown by probability; numbers that are no probabilities go through softmax first.
    """
    from nbcnn.api import load

    if out is not None:
        check_writable(out)
    network = load(model, **engine(options))
    with naming(model):
        names = read_labels(labels) if labels else remembered_labels(network.graph)
    given = [path.suffix.lower() in ARRAYS for path in files]
    if any(given) and not all(given):
        raise click.UsageError("give either pictures or arrays, not both at once")
    if all(given):
        from nbcnn.cli.arrays import read_feeds

        outputs = dict(zip(network.graph.output_names(), network.run(None, read_feeds(network, files)), strict=True))
        titles: list[str] = []
    else:
        flags = {name: options[name] for name in ("size", "mean", "std", "layout", "bgr", "scale")}
        outputs = run_pictures(network, files, flags)
        titles = [str(path) for path in files]
    if out is not None:
        save_arrays(out, outputs)
        click.echo(f"saved {', '.join(f'{n} {list(a.shape)}' for n, a in outputs.items())} in {out}", err=True)
    shown = options["output"], titles, names, labels is None, options["top"], options["as_json"]
    show(network, outputs, *shown, quiet=out is not None)


def run_pictures(network: Model, files: tuple[Path, ...], flags: dict[str, Any]) -> dict[str, np.ndarray]:
    """All outputs for all pictures, in the order of the files; pictures of one size are run together."""
    import numpy as np

    from nbcnn.data import decode_picture

    if len(network.inputs) != 1:
        raise InputError(f"pictures need a network with one input; this one takes {[p.name for p in network.inputs]}")
    with naming(Path(network.source)):
        steps = preprocessing(network.graph, flags)
    (port,) = network.inputs
    arrays = [steps.apply(decode_picture(path)) for path in files]
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, array in enumerate(arrays):
        groups.setdefault(array.shape, []).append(index)
    results: list[list[np.ndarray]] = [[] for _ in files]
    for indices in groups.values():
        for start in range(0, len(indices), BATCH):
            part = indices[start : start + BATCH]
            found = network.run(None, {port.name: np.stack([arrays[i] for i in part])})
            for place, index in enumerate(part):
                results[index] = [a[place] if len(a) == len(part) else a for a in found]
    return {
        name: _joined([result[k] for result in results], name) for k, name in enumerate(network.graph.output_names())
    }


def _joined(arrays: list[np.ndarray], name: str) -> np.ndarray:
    import numpy as np

    if len({array.shape for array in arrays}) > 1:
        raise InputError(
            f"output {name!r} has another shape for every picture size: give --size, or one picture at a time"
        )
    return np.stack(arrays)


def show(
    network: Model,
    outputs: dict[str, np.ndarray],
    wanted: str | None,
    titles: list[str],
    labels: list[str] | None,
    remembered: bool,
    top: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Print the classes; outputs that are none are named with their shapes, or it is said how to write them.

    remembered: whether the labels are those of the file's metadata, and not what the user says.
    """
    from nbcnn.report.classes import class_scores, top_classes

    names = list(outputs)
    if wanted is not None and wanted not in names:
        raise InputError(f"no output {wanted!r}; this network gives {names}")
    name = wanted or names[0]
    scores = class_scores(outputs[name]) if wanted or len(names) == 1 else None
    if scores is None:
        if not quiet:
            shapes = ", ".join(f"{n} {list(a.shape)}" for n, a in outputs.items())
            raise InputError(
                f"the outputs are not one row of class scores a sample: {shapes}: write them with --out results.npz"
            )
        return
    titles = titles or [str(index) for index in range(len(scores))]
    if remembered and labels is not None:
        labels = fitting(labels, scores.shape[1])
    found = top_classes(scores, top, labels)
    if as_json:
        click.echo(
            json.dumps(
                [{"input": t, "classes": [vars(c) for c in row]} for t, row in zip(titles, found, strict=True)],
                indent=2,
            )
        )
        return
    rows = [
        (title if rank == 0 else "", choice.label or choice.index, f"{choice.probability:.4f}")
        for title, row in zip(titles, found, strict=True)
        for rank, choice in enumerate(row)
    ]
    table(["input", "class", "probability"], rows, right=["probability"])
