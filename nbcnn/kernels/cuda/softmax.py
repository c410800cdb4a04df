"""Softmax, LogSoftmax and Hardmax along the middle axis of (outer, count, inner).

The lanes of a block share out a line, and read it again for every step: by then it lies in a cache.
"""

from __future__ import annotations

from math import exp, inf, isnan, log

import numpy as np

from nbcnn.kernels.cuda._cuda import BLOCK, cuda, device, kernel, launch, types
from nbcnn.kernels.cuda.block import larger, reduce_lanes, sum_lanes, threads_for
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.opcodes import MAX, MIN

__all__ = ["hardmax", "softmax", "softmax_grad"]


@device
def _line(shape):
    """Of a thread: how many of a line's elements it takes, where the first lies, and how far apart they are."""
    outer, count, inner = shape
    line = (cuda.blockIdx.x * cuda.blockDim.z + cuda.threadIdx.z) * cuda.blockDim.x + cuda.threadIdx.x
    lane, lanes = cuda.threadIdx.y, cuda.blockDim.y
    mine = divide(count - lane + lanes - 1, lanes) if line < outer * inner and lane < count else 0
    at = (divide(line, inner) * count + lane) * inner + remainder(line, inner)
    return mine, np.uint64(at), np.uint64(lanes * inner)


def _launch(code, shape, *args):
    """A column of a block is a line: its neighbours are those of the last axis, where that has some."""
    outer, count, inner = shape
    threads = threads_for(inner, count)
    launch(code, -(-outer * inner // (threads[0] * threads[2])), threads, *args, shape)


@device
def _largest(shared, x, mine, at, step):
    """The largest element of a line, or NaN."""
    top, two = -inf, step + step
    for _ in range(mine >> 2):
        a, b, c, d = x[at], x[at + step], x[at + two], x[at + two + step]
        top = larger(MAX, top, np.float64(larger(MAX, larger(MAX, a, b), larger(MAX, c, d))))
        at += two + two
    for _ in range(mine & 3):
        top = larger(MAX, top, np.float64(x[at]))
        at += step
    return x.dtype.type(reduce_lanes(shared, MAX, top))


@kernel
def _softmax(x, y, shape):
    shared = cuda.shared.array(BLOCK, types.float64)
    mine, at, step = _line(shape)
    top, total = _largest(shared, x, mine, at, step), 0.0
    place = at
    for _ in range(mine):
        total += np.float64(exp(x[place] - top))
        place += step
    total = sum_lanes(shared, total)
    share = y.dtype.type(1) / y.dtype.type(total) if mine > 0 else y.dtype.type(0)
    for _ in range(mine):
        y[at] = exp(x[at] - top) * share
        at += step


@kernel
def _log_softmax(x, y, shape):
    shared = cuda.shared.array(BLOCK, types.float64)
    mine, at, step = _line(shape)
    top, total = _largest(shared, x, mine, at, step), 0.0
    place = at
    for _ in range(mine):
        total += np.float64(exp(x[place] - top))
        place += step
    total = sum_lanes(shared, total)
    shift = y.dtype.type(log(total)) if mine > 0 else y.dtype.type(0)
    for _ in range(mine):
        y[at] = (x[at] - top) - shift
        at += step


def softmax(x, y, shape, log):
    """y = exp(x) / sum of exp(x) along the middle axis, or its logarithm if `log`. shape: (outer, count, inner). y is
    not x.
    """
    _launch(_log_softmax if log else _softmax, shape, x, y)


@kernel
def _hardmax(x, y, shape):
    shared = cuda.shared.array(BLOCK, types.float64)
    mine, at, step = _line(shape)
    top = _largest(shared, x, mine, at, step)
    first, place = np.float64(shape[1]), at
    for k in range(mine):
        if x[place] == top or (isnan(top) and isnan(x[place])):
            first = min(first, np.float64(cuda.threadIdx.y + k * cuda.blockDim.y))
        place += step
    first = reduce_lanes(shared, MIN, first)
    for k in range(mine):
        y[at] = 1 if np.float64(cuda.threadIdx.y + k * cuda.blockDim.y) == first else 0
        at += step


def hardmax(x, y, shape):
    """y = 1 at the first of the largest elements along the middle axis, 0 elsewhere; as in softmax."""
    _launch(_hardmax, shape, x, y)


@kernel
def _softmax_grad(y, dy, dx, shape):
    shared = cuda.shared.array(BLOCK, types.float64)
    mine, at, step = _line(shape)
    total, place = 0.0, at
    for _ in range(mine):
        total += np.float64(dy[place] * y[place])
        place += step
    shift = y.dtype.type(sum_lanes(shared, total))
    for _ in range(mine):
        dx[at] = y[at] * (dy[at] - shift)
        at += step


@kernel
def _log_softmax_grad(y, dy, dx, shape):
    shared = cuda.shared.array(BLOCK, types.float64)
    mine, at, step = _line(shape)
    total, place = 0.0, at
    for _ in range(mine):
        total += np.float64(dy[place])
        place += step
    factor = y.dtype.type(sum_lanes(shared, total))
    for _ in range(mine):
        dx[at] = dy[at] - exp(y[at]) * factor
        at += step


def softmax_grad(y, dy, dx, shape, log):
    """The gradient by x, told from the output y; dx may be dy or y. shape and log as in `softmax`."""
    _launch(_log_softmax_grad if log else _softmax_grad, shape, y, dy, dx)
