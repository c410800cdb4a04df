"""Padding of pictures with zeros, to channels last from either order."""

from __future__ import annotations

from math import prod

from nbcnn.kernels.cuda._cuda import cuda, kernel, spread
from nbcnn.kernels.cuda.index import divide, remainder

__all__ = ["pad_channels_last"]


@kernel
def _pad(x, y, count, size, begins, wide, planes):
    _n, in_d, in_h, in_w, channels = size
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        c, rest = remainder(i, channels), divide(i, channels)
        w, rest = remainder(rest, wide[2]) - begins[2], divide(rest, wide[2])
        h, rest = remainder(rest, wide[1]) - begins[1], divide(rest, wide[1])
        d, image = remainder(rest, wide[0]) - begins[0], divide(rest, wide[0])
        if 0 <= d < in_d and 0 <= h < in_h and 0 <= w < in_w:
            if planes:
                y[i] = x[(((image * channels + c) * in_d + d) * in_h + h) * in_w + w]
            else:
                y[i] = x[(((image * in_d + d) * in_h + h) * in_w + w) * channels + c]
        else:
            y[i] = 0


def pad_channels_last(x, y, size, begins, wide, planes):
    """y (n, *wide, c) = x at offset `begins` (not negative), zero around it.

    size: (n, d, h, w, c), the sizes of x, which lies in this order or, if `planes`, as (n, c, d, h, w).
    """
    count = size[0] * prod(wide) * size[4]
    spread(_pad, count, x, y, count, size, begins, wide, planes)
