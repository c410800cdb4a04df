"""Elements that go to, or come from, places given by index: what MaxUnpool and its gradient do, in ONNX order.

Indices out of range are left out, and give a gradient that is NaN: see indexed.py.
"""

from __future__ import annotations

import math
from math import prod

import numpy as np

from nbcnn.kernels.cuda._cuda import cuda, device, kernel, spread
from nbcnn.kernels.cuda.copy import fill
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.memory import get

__all__ = ["unpool", "unpool_grad"]


@device
def _place(index, count, size, target):
    """Where an index into planes of `size` (d, h, w), `count` elements in all, lies in planes of `target`, or -1."""
    if index < 0 or index >= count:
        return -1
    line, layer = divide(index, size[2]), divide(index, size[1] * size[2])
    row = divide(layer, size[0]) * target[0] + remainder(layer, size[0])
    return (row * target[1] + remainder(line, size[1])) * target[2] + remainder(index, size[2])


@kernel
def _claim(indices, winners, count, size, target):
    i = cuda.grid(1)
    while i < indices.size:
        place = _place(get(indices, i), count, size, target)
        if place >= 0:
            cuda.atomic.max(winners, place, i + 1)
        i += cuda.gridsize(1)


@kernel
def _settle(x, winners, y):
    i = cuda.grid(1)
    while i < y.size:
        winner = winners[i]
        y[i] = get(x, winner - 1) if winner > 0 else y.dtype.type(0)
        i += cuda.gridsize(1)


def unpool(x, indices, y, size, target):
    """y = 0, but for y[indices[i]] = x[i]; of equal indices the last counts.

    Each element of y first holds the number of the last one that goes there, as an integer in its own memory.
    """
    winners = y.view(np.int32 if y.dtype.itemsize == 4 else np.int64)
    fill(winners, winners.dtype.type(0))
    spread(_claim, x.size, indices, winners, y.size // max(prod(target), 1) * prod(size), size, target)
    spread(_settle, y.size, x, winners, y)


@kernel
def _read(dy, indices, dx, count, size, target):
    i = cuda.grid(1)
    while i < dx.size:
        place = _place(get(indices, i), count, size, target)
        dx[i] = get(dy, place) if place >= 0 else dx.dtype.type(math.nan)
        i += cuda.gridsize(1)


def unpool_grad(dy, indices, dx, size, target):
    """dx[i] = dy[indices[i]], where x[i] is what lies there."""
    spread(_read, dx.size, dy, indices, dx, dy.size // max(prod(target), 1) * prod(size), size, target)
