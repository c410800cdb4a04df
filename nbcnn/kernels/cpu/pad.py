"""Padding of pictures with zeros, to channels last from either order."""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial

__all__ = ["pad_channels_last"]


# Slices, here and below, because an index that might be negative keeps the compiler from vectorizing.
@serial
def _copy(x, y):
    for i in range(y.size):
        y[i] = x[i]


@serial
def _three_planes(a, b, c, y):
    """Red, green and blue, one after the other: with their number known, the compiler shuffles registers."""
    for i in range(a.size):
        y[3 * i] = a[i]
        y[3 * i + 1] = b[i]
        y[3 * i + 2] = c[i]


@serial
def _one_plane(x, y, channels):
    for i in range(x.size):
        y[i * channels] = x[i]


@serial
def _pad_line(line, x, y, size, begins, wide, planes):
    _n, in_d, in_h, in_w, channels = size
    out_d, out_h, out_w = wide
    h = line % out_h - begins[1]
    d = line // out_h % out_d - begins[0]
    image = line // out_h // out_d
    place = line * out_w * channels
    end = place + out_w * channels
    if d < 0 or d >= in_d or h < 0 or h >= in_h:
        y[place:end] = 0
        return
    first = place + begins[2] * channels
    pixels = min(in_w, out_w - begins[2])
    last = first + pixels * channels
    y[place:first] = 0
    y[last:end] = 0
    if not planes:
        source = ((image * in_d + d) * in_h + h) * in_w * channels
        _copy(x[source : source + pixels * channels], y[first:last])
        return
    plane = in_d * in_h * in_w
    source = image * channels * plane + (d * in_h + h) * in_w
    if channels == 3:
        green, blue = source + plane, source + 2 * plane
        _three_planes(x[source : source + pixels], x[green : green + pixels], x[blue : blue + pixels], y[first:last])
    else:
        for c in range(channels):
            start = source + c * plane
            _one_plane(x[start : start + pixels], y[first + c : last], channels)


@kernel
def pad_channels_last(x, y, size, begins, wide, planes):
    """y (n, *wide, c) = x at offset `begins` (not negative), zero around it.

    size: (n, d, h, w, c), the sizes of x, which lies in this order or, if `planes`, as (n, c, d, h, w).
    """
    for index in prange(size[0] * wide[0] * wide[1]):
        line = np.int64(index)
        _pad_line(line, x, y, size, begins, wide, planes)
