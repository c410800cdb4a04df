"""Padding of channels-last pictures with zeros."""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial

__all__ = ["pad_channels_last"]


@serial
def _pad_line(line, x, y, size, begins, wide):
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
    source = ((image * in_d + d) * in_h + h) * in_w * channels
    first = place + begins[2] * channels
    count = min(in_w * channels, end - first)
    y[place:first] = 0
    for i in range(count):
        y[first + i] = x[source + i]
    y[first + count : end] = 0


@kernel
def pad_channels_last(x, y, size, begins, wide):
    """y (n, *wide, c) = x (n, d, h, w, c) at offset `begins` (not negative), zero around it. size: (n, d, h, w, c)."""
    for index in prange(size[0] * wide[0] * wide[1]):
        line = np.int64(index)
        _pad_line(line, x, y, size, begins, wide)
