"""Numbers for the dimensions that a file leaves open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nbcnn.data.preprocessing import Preprocessing
from nbcnn.errors import InputError, ModelError
from nbcnn.graph import Graph, Value
from nbcnn.guesses import PICTURE, channels

__all__ = ["input_shapes"]


def input_shapes(
    graph: Graph,
    batch: int | None = None,
    given: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
) -> dict[str, tuple[int, ...]]:
    """A shape in numbers for every input.

    batch: the first dimension of every input (default: the file's, 1 where that is open). given: whole shapes by
    input name. dims: numbers for dimensions that have a name. Other open dimensions are the channels that the first
    convolution takes, or 3, and the picture size that the metadata remembers, or 224. Raises InputError for a wrong
    name or rank.
    """
    given = given or {}
    names = [value.name for value in graph.inputs]
    for name in given:
        if name not in names:
            raise InputError(f"no input {name!r}; this network takes {names}")
    size, dims = _remembered_size(graph), dims or {}
    symbols = {dim for value in graph.inputs for dim in value.shape or () if isinstance(dim, str)}
    for name in dims:
        if name not in symbols:
            known = f"those of this network are {sorted(symbols)}" if symbols else "this network has none with a name"
            raise InputError(f"no dimension {name!r}; {known}")
    for name in {value.shape[0] for value in graph.inputs if value.shape and isinstance(value.shape[0], str)}:
        if batch is not None and dims.get(name, batch) != batch:
            raise InputError(f"the batch is {batch}, and dimension {name!r}, which it is called by, {dims[name]}")
    return {
        value.name: _shape(value, batch, given.get(value.name), (channels(graph, value.name), *size), dims)
        for value in graph.inputs
    }


def _remembered_size(graph: Graph) -> tuple[int, int]:
    """The picture size in the metadata; metadata that cannot be read is no reason not to look at a network."""
    try:
        remembered = Preprocessing.from_metadata(graph.metadata)
    except ModelError:
        remembered = None
    return remembered.size if remembered and remembered.size else (PICTURE, PICTURE)


def _shape(
    value: Value, batch: int | None, given: Sequence[int] | None, size: tuple[int, int, int], dims: Mapping[str, int]
) -> tuple[int, ...]:
    if given is not None:
        shape = tuple(int(n) for n in given)
        if value.shape is not None and len(shape) != len(value.shape):
            raise InputError(f"input {value.name!r} has {len(value.shape)} dimensions, not {len(shape)}")
        return shape
    if value.shape is None:
        raise InputError(
            f"the file says nothing of the shape of input {value.name!r}: give one, such as --shape 1,3,224,224"
        )
    rank = len(value.shape)
    open_dims = [1, size[0], *((1,) * (rank - 4)), *size[1:]][:rank]
    named = [dims.get(d, o) if isinstance(d, str) else o for d, o in zip(value.shape, open_dims, strict=False)]
    shape = tuple(d if isinstance(d, int) else n for d, n in zip(value.shape, named, strict=True))
    return shape if batch is None or not shape else (batch, *shape[1:])
