"""ONNX operators that only move elements: Concat, Split, Slice, Pad, Transpose, Gather, Reshape and its like.

Slice, Pad and Gather share one backward: the same operator on the numbers of x's elements tells where each element of y
came from, and dy is added there. `slice_` ends in an underscore, as it bears the name of a Python builtin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from reference._float64 import Array, f64
from reference.geometry import Ints


def concat(*xs: npt.ArrayLike, axis: int) -> Array:
    return np.concatenate([f64(x) for x in xs], axis)


def concat_backward(dy: npt.ArrayLike, *xs: npt.ArrayLike, axis: int) -> tuple[Array, ...]:
    return tuple(split(dy, [f64(x).shape[axis] for x in xs], axis=axis))


def split(x: npt.ArrayLike, split: Ints | None = None, axis: int = 0, num_outputs: int | None = None) -> list[Array]:
    """Parts of the sizes `split`, or num_outputs equal ones, the last smaller where they do not divide (Split-18)."""
    x = f64(x)
    if split is None:
        assert num_outputs is not None
        part = math.ceil(x.shape[axis] / num_outputs)
        split = [part] * (num_outputs - 1) + [x.shape[axis] - part * (num_outputs - 1)]
    return np.split(x, np.cumsum(split)[:-1], axis)


def split_backward(dys: Sequence[npt.ArrayLike], axis: int = 0) -> Array:
    return concat(*dys, axis=axis)


def slice_(x: npt.ArrayLike, starts: Ints, ends: Ints, axes: Ints | None = None, steps: Ints | None = None) -> Array:
    """Slice-13; its rules for negative and too large numbers are Python's."""
    return _slice(f64(x), starts, ends, axes, steps)


def slice_backward(
    dy: npt.ArrayLike,
    x: npt.ArrayLike,
    starts: Ints,
    ends: Ints,
    axes: Ints | None = None,
    steps: Ints | None = None,
) -> Array:
    return _add_back(dy, x, _slice(_numbers(x), starts, ends, axes, steps))


def pad(
    x: npt.ArrayLike, pads: Ints, constant_value: float = 0.0, axes: Ints | None = None, mode: str = "constant"
) -> Array:
    """Pad-21: pads [begin..., end...] of `axes` (default all), negative ones crop; constant, reflect, edge or wrap."""
    return _pad(f64(x), pads, constant_value, axes, mode)


def pad_backward(
    dy: npt.ArrayLike, x: npt.ArrayLike, pads: Ints, axes: Ints | None = None, mode: str = "constant"
) -> Array:
    return _add_back(dy, x, _pad(_numbers(x), pads, -1, axes, mode))


def transpose(x: npt.ArrayLike, perm: Ints | None = None) -> Array:
    return np.transpose(f64(x), perm)


def transpose_backward(dy: npt.ArrayLike, x: npt.ArrayLike, perm: Ints | None = None) -> Array:
    return np.transpose(f64(dy), None if perm is None else np.argsort(perm).tolist())


def gather(x: npt.ArrayLike, indices: npt.ArrayLike, axis: int = 0) -> Array:
    """Gather-13: x's slices along `axis` at integer indices of any shape; negative ones count from the end."""
    return np.take(f64(x), np.asarray(indices), axis)


def gather_backward(dy: npt.ArrayLike, x: npt.ArrayLike, indices: npt.ArrayLike, axis: int = 0) -> Array:
    return _add_back(dy, x, np.take(_numbers(x), np.asarray(indices), axis))


def flatten(x: npt.ArrayLike, axis: int = 1) -> Array:
    """Flatten-13: two dimensions, those before `axis` and the rest."""
    x = f64(x)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def reshape(x: npt.ArrayLike, shape: Ints, allowzero: int = 0) -> Array:
    """Reshape-14: -1 is inferred; 0 copies x's dimension unless allowzero."""
    x = f64(x)
    return x.reshape([x.shape[i] if n == 0 and not allowzero else n for i, n in enumerate(shape)])


def squeeze(x: npt.ArrayLike, axes: Ints | None = None) -> Array:
    return np.squeeze(f64(x), None if axes is None else tuple(axes))


def unsqueeze(x: npt.ArrayLike, axes: Ints) -> Array:
    return np.expand_dims(f64(x), tuple(axes))


def reshape_backward(dy: npt.ArrayLike, x: npt.ArrayLike) -> Array:
    """Of Reshape, Flatten, Squeeze and Unsqueeze alike."""
    return f64(dy).reshape(f64(x).shape)


def _slice(x: Any, starts: Ints, ends: Ints, axes: Ints | None, steps: Ints | None) -> Any:
    cut = [slice(None)] * x.ndim
    axes, steps = axes or range(len(starts)), steps or [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        cut[axis] = slice(start, end, step)
    return x[tuple(cut)]


def _pad(x: Any, pads: Ints, value: float, axes: Ints | None, mode: str) -> Any:
    axes = axes or range(x.ndim)
    widths, cut = [(0, 0)] * x.ndim, [slice(None)] * x.ndim
    for axis, begin, end in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        widths[axis] = max(begin, 0), max(end, 0)
        cut[axis] = slice(max(-begin, 0), min(end, 0) or None)
    if mode == "constant":
        return np.pad(x, widths, constant_values=value)[tuple(cut)]
    return np.pad(x, widths, mode=mode)[tuple(cut)]  # type: ignore[call-overload]


def _numbers(x: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """0, 1, 2, ... in x's shape."""
    return np.arange(f64(x).size).reshape(f64(x).shape)


def _add_back(dy: npt.ArrayLike, x: npt.ArrayLike, sources: npt.NDArray[np.int64]) -> Array:
    """dx, given for each element of y the number of the element of x that it copies, -1 for none."""
    dx = np.zeros(f64(x).size)
    np.add.at(dx, sources[sources >= 0], f64(dy)[sources >= 0])
    return dx.reshape(f64(x).shape)
