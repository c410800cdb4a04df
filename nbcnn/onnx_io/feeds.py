"""Inputs for a model that nobody gave inputs for: random arrays of the shapes that the file states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nbcnn.errors import InputError, UnsupportedError

__all__ = ["make_feeds"]

DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    **{f"tensor({name})": name for name in ("float16", "bool", "int8", "int16", "int32", "int64")},
    **{f"tensor({name})": name for name in ("uint8", "uint16", "uint32", "uint64")},
}
"""onnxruntime's names of element types."""

GUESSES = {0: 2, 1: 3}
"""What an open dimension becomes by its axis in (N, C, spatial...): two pictures of three channels of size PICTURE."""

PICTURE = 224


def make_feeds(
    wanted: Sequence[Any], given: Mapping[str, Any] | None, dims: Mapping[str, int], seed: int
) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """Arrays by input name, and the numbers that were guessed for open dimensions (named by symbol, or "input[axis]").

    wanted: onnxruntime's input descriptions (name, type, shape). given: the caller's arrays, or None for random ones
    (standard normal; integers 0 or 1). dims: numbers for symbols. Raises InputError for wrong names in
    `given` or `dims`.
    """
    names = [info.name for info in wanted]
    check_dims(wanted, dims)
    if given is not None:
        if not isinstance(given, Mapping):
            raise InputError(f"inputs are arrays by name, such as {{{names[0]!r}: x}}, not a {type(given).__name__}")
        if set(given) != set(names):
            raise InputError(f"the model takes inputs {names}, but {sorted(given)} were given")
        return {name: np.asarray(given[name]) for name in names}, {}
    rng, guesses = np.random.default_rng(seed), dict[str, int]()
    feeds = {}
    for info in wanted:
        if info.type not in DTYPES:
            raise UnsupportedError(f"input {info.name!r} is a {info.type}, for which no random input can be made")
        feeds[info.name] = random_array(rng, np.dtype(DTYPES[info.type]), resolve(info, dims, guesses))
    return feeds, guesses


def check_dims(wanted: Sequence[Any], dims: Mapping[str, int]) -> None:
    """Raise InputError for a symbol that no input has."""
    symbols = list(dict.fromkeys(dim for info in wanted for dim in info.shape if isinstance(dim, str)))
    for name in dims:
        if name not in symbols:
            known = f"the open ones are {symbols}" if symbols else "the inputs have none with a name"
            raise InputError(f"no dimension {name!r}; {known}")


def resolve(info: Any, dims: Mapping[str, int], guesses: dict[str, int]) -> tuple[int, ...]:
    """The input's shape in numbers; a symbol that comes twice gets the same number."""
    shape = []
    for axis, dim in enumerate(info.shape):
        if isinstance(dim, int):
            shape.append(dim)
        elif dim in dims:
            shape.append(int(dims[dim]))
        else:
            key = dim or f"{info.name}[{axis}]"
            shape.append(guesses.setdefault(key, GUESSES.get(axis, PICTURE)))
    return tuple(shape)


def random_array(rng: np.random.Generator, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(0, 2, shape).astype(dtype)
