"""ONNX MaxPool-22, AveragePool-22, LpPool-22 and the global pools, over (N, C, spatial...).

Every forward takes `(x, kernel_shape, strides=, pads=, dilations=, auto_pad=, ceil_mode=)`, every backward the same
after dy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from reference._float64 import Array, f64
from reference.geometry import Ints, Windows, windows


def max_pool(x: npt.ArrayLike, kernel_shape: Ints, **attrs: Any) -> Array:
    """The largest pixel of each window; padding never wins."""
    x = f64(x)
    return _first_maximum(x, _windows(x, kernel_shape, **attrs))[0]


def max_pool_backward(dy: npt.ArrayLike, x: npt.ArrayLike, kernel_shape: Ints, **attrs: Any) -> Array:
    """dy goes to the first (row-major) of the largest pixels of each window."""
    dy, x = f64(dy), f64(x)
    win = _windows(x, kernel_shape, **attrs)
    winner = _first_maximum(x, win)[1]
    d_padded = win.pad(np.zeros_like(x))
    for number, (_, cut) in enumerate(win.taps()):
        d_padded[cut] += np.where(winner == number, dy, 0.0)
    return win.crop(d_padded)


def max_pool_indices(x: npt.ArrayLike, kernel_shape: Ints, **attrs: Any) -> npt.NDArray[np.int64]:
    """MaxPool's second output: where in x, flattened in row-major order, each maximum lies (storage_order 0)."""
    x = f64(x)
    win = _windows(x, kernel_shape, **attrs)
    winner = _first_maximum(x, win)[1]
    positions = win.pad(f64(np.arange(x.size).reshape(x.shape)), -1)
    indices = np.full(winner.shape, -1, np.int64)
    for number, (_, cut) in enumerate(win.taps()):
        indices = np.where(winner == number, positions[cut].astype(np.int64), indices)
    return indices


def average_pool(x: npt.ArrayLike, kernel_shape: Ints, count_include_pad: int = 0, **attrs: Any) -> Array:
    """The mean of each window, over its pixels inside x, or over padding too with count_include_pad.

    What ceil_mode lets a window reach beyond the padding is never counted.
    """
    x = f64(x)
    win = _windows(x, kernel_shape, **attrs)
    return _window_sum(x, win) / _counted(x, win, count_include_pad)


def average_pool_backward(
    dy: npt.ArrayLike, x: npt.ArrayLike, kernel_shape: Ints, count_include_pad: int = 0, **attrs: Any
) -> Array:
    dy, x = f64(dy), f64(x)
    win = _windows(x, kernel_shape, **attrs)
    return _spread(dy / _counted(x, win, count_include_pad), x, win)


def lp_pool(x: npt.ArrayLike, kernel_shape: Ints, p: int = 2, **attrs: Any) -> Array:
    """(sum |x|^p)^(1/p) of each window."""
    x = f64(x)
    return _window_sum(np.abs(x) ** p, _windows(x, kernel_shape, **attrs)) ** (1 / p)


def lp_pool_backward(dy: npt.ArrayLike, x: npt.ArrayLike, kernel_shape: Ints, p: int = 2, **attrs: Any) -> Array:
    """dx = dy sign(x) |x|^(p-1) y^(1-p), and 0 from a window that is all zeros."""
    dy, x = f64(dy), f64(x)
    y = lp_pool(x, kernel_shape, p, **attrs)
    scaled = dy * np.where(y > 0, np.where(y > 0, y, 1.0) ** (1 - p), 0.0)
    return _spread(scaled, x, _windows(x, kernel_shape, **attrs)) * np.sign(x) * np.abs(x) ** (p - 1)


def global_average_pool(x: npt.ArrayLike) -> Array:
    """(N, C, spatial...) -> (N, C, 1...), as all the global pools."""
    x = f64(x)
    return average_pool(x, x.shape[2:])


def global_average_pool_backward(dy: npt.ArrayLike, x: npt.ArrayLike) -> Array:
    x = f64(x)
    return average_pool_backward(dy, x, x.shape[2:])


def global_max_pool(x: npt.ArrayLike) -> Array:
    x = f64(x)
    return max_pool(x, x.shape[2:])


def global_max_pool_backward(dy: npt.ArrayLike, x: npt.ArrayLike) -> Array:
    x = f64(x)
    return max_pool_backward(dy, x, x.shape[2:])


def global_lp_pool(x: npt.ArrayLike, p: int = 2) -> Array:
    x = f64(x)
    return lp_pool(x, x.shape[2:], p)


def global_lp_pool_backward(dy: npt.ArrayLike, x: npt.ArrayLike, p: int = 2) -> Array:
    x = f64(x)
    return lp_pool_backward(dy, x, x.shape[2:], p)


def _windows(
    x: Array,
    kernel_shape: Ints,
    strides: Ints | None = None,
    pads: Ints | None = None,
    dilations: Ints | None = None,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
) -> Windows:
    return windows(x.shape[2:], kernel_shape, strides, pads, dilations, auto_pad, ceil_mode)


def _first_maximum(x: Array, win: Windows) -> tuple[Array, npt.NDArray[np.int64]]:
    """The maximum of each window and the number of the kernel position that has it first.

    A window over nothing but padding has -inf and -1.
    """
    padded, inside = win.pad(x), win.pad(np.ones_like(x))
    shape = (*x.shape[:2], *win.out)
    best, winner = np.full(shape, -np.inf), np.full(shape, -1, np.int64)
    for number, (_, cut) in enumerate(win.taps()):
        better = (inside[cut] == 1) & ((winner < 0) | (padded[cut] > best))
        best, winner = np.where(better, padded[cut], best), np.where(better, number, winner)
    return best, winner


def _window_sum(x: Array, win: Windows) -> Array:
    padded = win.pad(x)
    total = np.zeros((*x.shape[:2], *win.out))
    for _, cut in win.taps():
        total += padded[cut]
    return total


def _spread(d: Array, x: Array, win: Windows) -> Array:
    """The gradient of _window_sum: each pixel gets the sum of d over the windows that hold it."""
    d_padded = win.pad(np.zeros_like(x))
    for _, cut in win.taps():
        d_padded[cut] += d
    return win.crop(d_padded)


def _counted(x: Array, win: Windows, count_include_pad: int) -> Array:
    """By how many pixels each window's sum is divided: (1, 1, out...), at least 1 (a window over nothing gives 0)."""
    ones = np.ones((1, 1, *x.shape[2:]))
    if not count_include_pad:
        return np.maximum(_window_sum(ones, win), 1)
    margins = [(0, 0), (0, 0), *zip(win.begins, win.ends, strict=True)]
    # The same windows over a picture that already holds its padding: only what lies beyond it is 0.
    total = np.zeros((1, 1, *win.out))
    padded = np.zeros(win.pad(ones).shape)
    padded[tuple(slice(0, n) for n in np.pad(ones, margins).shape)] = 1
    for _, cut in win.taps():
        total += padded[cut]
    return np.maximum(total, 1)
