"""Saving a model so that the old file is whole until the new one is whole.

Everything is written, flushed to the disk and checked in a folder of its own beside the target, then moved in place.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from google.protobuf.message import EncodeError  # type: ignore[import-untyped]
from onnx import TensorProto

from nbcnn.errors import FileError, InputError, ModelError
from nbcnn.graph import Graph
from nbcnn.onnx_io.conversion import convert
from nbcnn.onnx_io.exporter import model_proto
from nbcnn.onnx_io.external import DataFile
from nbcnn.onnx_io.memory import trim_heap
from nbcnn.onnx_io.sources import check, reason
from nbcnn.onnx_io.tensors import fill, is_external, is_packed, raw_bytes
from nbcnn.onnx_io.wire import LARGE, put_weights

__all__ = ["write_model"]

PROTOBUF_LIMIT = 2**31 - 2**24
"""The most bytes of weights that go into one file: protobuf ends at 2 GiB, and the rest of the model needs room."""

SMALL = 1024
"""Tensors of fewer bytes stay in the model file, where readers look for shapes and scalars (onnx's own threshold)."""


def write_model(
    graph: Graph, path: str | os.PathLike[str], *, external: bool | None = None, opset: int | None = None
) -> None:
    """Write a graph as an ONNX file.

    opset: the version of ONNX's operators, None for the graph's. external: True puts the weights into `<path>.data`
    beside it, False all into the file, None keeps to what the model had when it was read (and puts them beside it when
    they would not fit into one file).

    An old file at `path` stays whole until the new one is whole and has passed onnx's checker. Where the file that was
    read left the shape of an input or output open, it stays open, and is the one thing that the checker may mind.
    Raises FileError when the file cannot be written, ModelError when the graph is not valid.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"a model is saved to a path, not to a {type(path).__name__}")
    target = Path(path)
    data = DataFile(target.name + ".data")
    if target.exists() and not target.is_file():
        raise FileError(f"{target}: cannot be written: it is not a file")
    if not target.parent.is_dir():
        raise FileError(f"{target}: cannot be written: there is no folder {target.parent}")
    check_shapes(graph)
    if opset is not None:
        graph = convert(graph, opset)
    weights = Weights(chooser(graph, data, external))
    head = serialize(graph, weights)
    try:
        with staging(target) as folder:
            write_file(folder / target.name, weights.chunks(head))
            names = [target.name]
            if data.arrays:
                write_file(folder / data.location, data.chunks())
                names.insert(0, data.location)
            check(folder / target.name, str(target))
            move(folder, target.parent, names)
        trim_heap()
    except OSError as error:
        raise FileError(f"{target}: cannot be written: {error.strerror or error}; nothing was changed") from error


def check_shapes(graph: Graph) -> None:
    """Raise ModelError for an input or output of a shape that nobody gave, unless a file had it so, or nothing can be
    told of an output because that of an input is open.
    """
    unknown = any(value.shape is None and value.origin is not None for value in graph.inputs)
    for value in (*graph.inputs, *(() if unknown else graph.outputs)):
        if value.shape is None and value.origin is None:
            raise ModelError(f"graph {graph.name!r} cannot be written as ONNX: the shape of {value.name!r} is missing")


class Weights:
    """The graph's own initializers: the large ones that go into the model file are kept from protobuf, and put in when
    the file is written. store: what becomes of all other tensors.
    """

    def __init__(self, store: Callable[..., TensorProto]) -> None:
        self.store = store
        self.count = 0
        self.arrays: dict[int, np.ndarray] = {}

    def __call__(self, shell: TensorProto, array: np.ndarray) -> TensorProto:
        number, self.count = self.count, self.count + 1

        def later(stored: np.ndarray) -> bytes:
            if is_packed(stored):
                return raw_bytes(stored)
            self.arrays[number] = stored
            return b""

        large = array.nbytes >= LARGE and not array.dtype.hasobject
        return self.store(shell, array, later if large else None)

    def chunks(self, head: bytes) -> Iterator[bytes]:
        """The content of the file. head: the model without these arrays."""
        for piece in put_weights(head, {number: array.nbytes for number, array in self.arrays.items()}):
            yield raw_bytes(self.arrays[piece]) if isinstance(piece, int) else piece


def serialize(graph: Graph, weights: Weights) -> bytes:
    """The model without the weights that `weights` keeps."""
    try:
        return model_proto(graph, weights.store, weights).SerializeToString()
    except (EncodeError, ValueError) as error:
        raise ModelError(f"graph {graph.name!r} cannot be written as ONNX: {reason(error)}") from error


def chooser(graph: Graph, data: DataFile, external: bool | None) -> Callable[..., TensorProto]:
    """The Store that decides for each tensor whether it goes into the model file or into `data`.

    What goes into the model file is encoded by its third argument, where there is one.
    """
    apart = external
    if external is None:
        origin = graph.origin.graph.initializer if hasattr(graph.origin, "graph") else ()
        had = any(is_external(shell) for shell in origin)
        apart = had or sum(array.nbytes for array in graph.initializers.values()) > PROTOBUF_LIMIT

    def store(
        shell: TensorProto, array: np.ndarray, encode: Callable[[np.ndarray], bytes] | None = None
    ) -> TensorProto:
        asked = array.nbytes >= SMALL or (external is None and is_external(shell))
        return data.add(shell, array) if apart and asked and not array.dtype.hasobject else fill(shell, array, encode)

    return store


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A folder beside `target`, gone afterwards whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_file(path: Path, chunks: Iterable[bytes]) -> None:
    with path.open("xb") as file:
        file.writelines(chunks)
        file.flush()
        os.fsync(file.fileno())


def move(source: Path, folder: Path, names: list[str]) -> None:
    """Move files over older ones of the same names: all of them, or on an error none. The last one never is missing."""
    moves: list[tuple[Path, Path]] = []
    try:
        for name in names:
            new, place = source / name, folder / name
            if place.exists():
                shutil.copymode(place, new)
                if name != names[-1]:
                    moves.append(rename(place, source / f"{name}.old"))
            moves.append(rename(new, place))
    except BaseException:
        for before, after in reversed(moves):
            os.replace(after, before)
        raise


def rename(before: Path, after: Path) -> tuple[Path, Path]:
    os.replace(before, after)
    return before, after
