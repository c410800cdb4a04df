"""ONNX Conv-22 in 1, 2 or 3 dimensions: a sum over kernel positions of small matrix products."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from reference._float64 import Array, f64
from reference.geometry import Ints, Windows, windows


def conv(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    b: npt.ArrayLike | None = None,
    strides: Ints | None = None,
    pads: Ints | None = None,
    dilations: Ints | None = None,
    group: int = 1,
    auto_pad: str = "NOTSET",
) -> Array:
    """x (N, C, spatial...), w (M, C/group, kernel...), b (M) -> y (N, M, out...)."""
    x, w = f64(x), f64(w)
    win = windows(x.shape[2:], w.shape[2:], strides, pads, dilations, auto_pad)
    padded = win.pad(x)
    y = np.zeros((len(x), group, w.shape[0] // group, math.prod(win.out)))
    for tap, cut in win.taps():
        y += _by_group(w[tap], group) @ _pixels(padded[cut], group)
    y = y.reshape(len(x), w.shape[0], *win.out)
    return y if b is None else y + f64(b).reshape(-1, *[1] * len(win.out))


def conv_backward(
    dy: npt.ArrayLike,
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    strides: Ints | None = None,
    pads: Ints | None = None,
    dilations: Ints | None = None,
    group: int = 1,
    auto_pad: str = "NOTSET",
) -> tuple[Array, Array, Array]:
    """dy (N, M, out...) -> (dx, dw, db), db (M) whether or not there was a bias."""
    dy, x, w = f64(dy), f64(x), f64(w)
    win: Windows = windows(x.shape[2:], w.shape[2:], strides, pads, dilations, auto_pad)
    padded = win.pad(x)
    d_padded, dw = np.zeros_like(padded), np.zeros_like(w)
    d = _pixels(dy, group)  # (N, group, M/group, pixels)
    for tap, cut in win.taps():
        taken = _pixels(padded[cut], group)  # (N, group, C/group, pixels)
        dw[tap] = (d @ taken.swapaxes(-1, -2)).sum(axis=0).reshape(w.shape[:2])
        dx = _by_group(w[tap], group).swapaxes(-1, -2) @ d
        d_padded[cut] += dx.reshape(x.shape[0], x.shape[1], *win.out)
    return win.crop(d_padded), dw, dy.sum(axis=(0, *range(2, dy.ndim)))


def _pixels(x: Array, group: int) -> Array:
    """(N, C, out...) -> (N, group, C/group, pixels)."""
    return x.reshape(x.shape[0], group, x.shape[1] // group, math.prod(x.shape[2:]))


def _by_group(w: Array, group: int) -> Array:
    """(M, C/group) -> (group, M/group, C/group)."""
    return w.reshape(group, w.shape[0] // group, w.shape[1])
