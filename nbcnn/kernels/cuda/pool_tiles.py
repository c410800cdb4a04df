"""The maximum or mean of windows that tile the picture, without overlap or rest: no table is needed. See pool.py."""

from __future__ import annotations

import math

from nbcnn.kernels.cuda._cuda import cuda, kernel, spread
from nbcnn.kernels.cuda.channels import fours, in_fours, lanes_of, larger, read_fours, write_fours
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.opcodes import MAXIMUM

__all__ = ["pool_tiles"]


@kernel
def _tiles(mode, x, y, count, lanes, shape, taps):
    i = cuda.grid(1)
    while i < count:
        _, out_w, channels = shape
        pixel = divide(i, lanes)
        wide = in_fours(x, channels) and in_fours(y, channels)
        p, q, r, s = fours(remainder(i, lanes), lanes, channels, wide)
        line = out_w * taps[1] * channels
        corner = divide(pixel, out_w) * taps[0] * line + remainder(pixel, out_w) * taps[1] * channels
        a = b = c = d = y.dtype.type(-math.inf if mode == MAXIMUM else 0.0)
        tap, column, at = 0, 0, corner
        while tap < taps[0] * taps[1]:
            u, v, w, z = read_fours(x, at, p, q, r, s, wide)
            if mode == MAXIMUM:
                a, b, c, d = larger(a, u), larger(b, v), larger(c, w), larger(d, z)
            else:
                a, b, c, d = a + u, b + v, c + w, d + z
            tap += 1
            last = column + 1 == taps[1]
            column, at = 0 if last else column + 1, at + channels + (line - taps[1] * channels if last else 0)
        if mode != MAXIMUM:
            share = y.dtype.type(1 / (taps[0] * taps[1]))
            a, b, c, d = a * share, b * share, c * share, d * share
        write_fours(y, pixel * channels, p, q, r, s, a, b, c, d, wide)
        i += cuda.gridsize(1)


def pool_tiles(mode, x, y, shape, taps):
    """y (line, w, c) = the maximum or mean of each window of x (line, h, w, c).

    shape: (lines of all pictures, w, c) of y; taps: (h, w) of a window.
    """
    lanes = lanes_of(shape[2])
    count = shape[0] * shape[1] * lanes
    spread(_tiles, count, mode, x, y, count, lanes, shape, taps)
