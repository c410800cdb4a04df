"""Everything in the oracle computes in float64, whatever it is given."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def f64(x: npt.ArrayLike) -> Array:
    """x as a float64 array (a copy only where one is needed)."""
    return np.asarray(x, np.float64)


def unbroadcast(d: Array, shape: tuple[int, ...]) -> Array:
    """The gradient of broadcasting from `shape` to d.shape: sum d over every axis that was repeated."""
    d = d.sum(axis=tuple(range(d.ndim - len(shape))))
    stretched = tuple(axis for axis, size in enumerate(shape) if size == 1 and d.shape[axis] != 1)
    return d.sum(axis=stretched, keepdims=True)
