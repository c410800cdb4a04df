"""ONNX ReduceSum-13, ReduceMean-18 and ReduceMax-20."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from reference._float64 import Array, f64
from reference.geometry import Ints


def reduce_sum(x: npt.ArrayLike, axes: Ints | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Array:
    """Over `axes`; with none given over all of them, or not at all with noop_with_empty_axes."""
    return f64(x).sum(axis=_axes(f64(x), axes, noop_with_empty_axes), keepdims=bool(keepdims))


def reduce_sum_backward(
    dy: npt.ArrayLike, x: npt.ArrayLike, axes: Ints | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Array:
    x = f64(x)
    return _kept(dy, x, _axes(x, axes, noop_with_empty_axes)) * np.ones_like(x)


def reduce_mean(x: npt.ArrayLike, axes: Ints | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Array:
    return f64(x).mean(axis=_axes(f64(x), axes, noop_with_empty_axes), keepdims=bool(keepdims))


def reduce_mean_backward(
    dy: npt.ArrayLike, x: npt.ArrayLike, axes: Ints | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Array:
    x = f64(x)
    count = math.prod(x.shape[axis] for axis in _axes(x, axes, noop_with_empty_axes))
    return reduce_sum_backward(dy, x, axes, keepdims, noop_with_empty_axes) / count


def reduce_max(x: npt.ArrayLike, axes: Ints | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Array:
    return f64(x).max(axis=_axes(f64(x), axes, noop_with_empty_axes), keepdims=bool(keepdims))


def reduce_max_backward(
    dy: npt.ArrayLike, x: npt.ArrayLike, axes: Ints | None = None, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Array:
    """dy goes to the first (row-major) of the largest elements."""
    x = f64(x)
    reduced = _axes(x, axes, noop_with_empty_axes)
    kept = tuple(axis for axis in range(x.ndim) if axis not in reduced)
    # Put the reduced axes last and flatten them: then the first maximum is an argmax along one axis.
    turned = x.transpose(*kept, *reduced)
    rows = turned.reshape(*turned.shape[: len(kept)], -1)
    dx = np.zeros_like(rows)
    np.put_along_axis(dx, rows.argmax(axis=-1)[..., None], f64(dy).reshape(*rows.shape[:-1], 1), axis=-1)
    return dx.reshape(turned.shape).transpose(np.argsort((*kept, *reduced)))


def _axes(x: Array, axes: Ints | None, noop_with_empty_axes: int) -> tuple[int, ...]:
    """Which axes are reduced, none negative, in ascending order."""
    if axes is None or len(axes) == 0:
        return () if noop_with_empty_axes else tuple(range(x.ndim))
    return tuple(sorted(axis % x.ndim for axis in axes))


def _kept(dy: npt.ArrayLike, x: Array, axes: tuple[int, ...]) -> Array:
    """dy with a 1 for every reduced axis, whatever keepdims was."""
    return f64(dy).reshape([1 if axis in axes else size for axis, size in enumerate(x.shape)])
