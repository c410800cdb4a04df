"""ONNX operators of several inputs that broadcast: Add, Sub, Mul, Div, Pow, Sum, Max, Min.

Those that bear the name of a Python builtin end in an underscore. A backward returns one gradient an input.
"""

from __future__ import annotations

from functools import reduce

import numpy as np
import numpy.typing as npt

from reference._float64 import Array, f64, unbroadcast


def add(a: npt.ArrayLike, b: npt.ArrayLike) -> Array:
    return f64(a) + f64(b)


def add_backward(dy: npt.ArrayLike, a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[Array, Array]:
    return _pair(f64(dy), f64(dy), a, b)


def sub(a: npt.ArrayLike, b: npt.ArrayLike) -> Array:
    return f64(a) - f64(b)


def sub_backward(dy: npt.ArrayLike, a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[Array, Array]:
    return _pair(f64(dy), -f64(dy), a, b)


def mul(a: npt.ArrayLike, b: npt.ArrayLike) -> Array:
    return f64(a) * f64(b)


def mul_backward(dy: npt.ArrayLike, a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[Array, Array]:
    return _pair(f64(dy) * f64(b), f64(dy) * f64(a), a, b)


def div(a: npt.ArrayLike, b: npt.ArrayLike) -> Array:
    return f64(a) / f64(b)


def div_backward(dy: npt.ArrayLike, a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[Array, Array]:
    return _pair(f64(dy) / f64(b), -f64(dy) * f64(a) / f64(b) ** 2, a, b)


def pow_(a: npt.ArrayLike, b: npt.ArrayLike) -> Array:
    """a to the power of b; NaN where a is negative and b not a whole number."""
    with np.errstate(invalid="ignore"):
        return f64(a) ** f64(b)


def pow_backward(dy: npt.ArrayLike, a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[Array, Array]:
    """PyTorch's conventions: da is 0 where b is 0; db is 0 where a is 0 and b not negative, NaN where a is negative."""
    dy, a, b = f64(dy), f64(a), f64(b)
    with np.errstate(invalid="ignore", divide="ignore"):
        da = np.where(b == 0, 0.0, dy * b * a ** np.where(b == 0, 1.0, b - 1))
        db = np.where((a == 0) & (b >= 0), 0.0, dy * a**b * np.log(a))
    return _pair(da, db, a, b)


def sum_(*xs: npt.ArrayLike) -> Array:
    return reduce(np.add, map(f64, xs))


def sum_backward(dy: npt.ArrayLike, *xs: npt.ArrayLike) -> tuple[Array, ...]:
    return tuple(unbroadcast(f64(dy), f64(x).shape) for x in xs)


def max_(*xs: npt.ArrayLike) -> Array:
    return reduce(np.maximum, map(f64, xs))


def max_backward(dy: npt.ArrayLike, *xs: npt.ArrayLike) -> tuple[Array, ...]:
    """dy goes to the first input that has the maximum."""
    return _to_first(f64(dy), max_(*xs), xs)


def min_(*xs: npt.ArrayLike) -> Array:
    return reduce(np.minimum, map(f64, xs))


def min_backward(dy: npt.ArrayLike, *xs: npt.ArrayLike) -> tuple[Array, ...]:
    """dy goes to the first input that has the minimum."""
    return _to_first(f64(dy), min_(*xs), xs)


def _pair(da: Array, db: Array, a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[Array, Array]:
    """Gradients of the broadcast shape -> gradients of the shapes of a and b."""
    shape = np.broadcast_shapes(f64(a).shape, f64(b).shape)
    da, db = np.broadcast_to(da, shape), np.broadcast_to(db, shape)
    return unbroadcast(da, f64(a).shape), unbroadcast(db, f64(b).shape)


def _to_first(dy: Array, y: Array, xs: tuple[npt.ArrayLike, ...]) -> tuple[Array, ...]:
    free = np.ones(y.shape, bool)
    grads = []
    for x in map(f64, xs):
        takes = free & (x == y)
        free &= ~takes
        grads.append(unbroadcast(np.where(takes, dy, 0.0), x.shape))
    return tuple(grads)
