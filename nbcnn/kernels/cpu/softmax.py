"""Softmax, LogSoftmax and Hardmax along the middle axis of (outer, count, inner)."""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from nbcnn.kernels.cpu import simd, transcendental
from nbcnn.kernels.cpu.compare import larger, max_lanes
from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.cpu.part import part

__all__ = ["hardmax", "softmax", "softmax_grad"]

BLOCK = 4096
"""Elements that one task is worth."""


@serial
def _largest(x):
    """The maximum of a contiguous line; what it makes of NaN does not matter, because the sum becomes NaN anyhow.

    Lines of a register and more are read in registers, the last of which may overlap the one before; four maxima at
    once, because each waits for the one before.
    """
    lanes = simd.lanes(x)
    if x.size < lanes:
        top = x[0]
        for i in range(1, x.size):
            top = max(top, x[i])
        return top
    last = x.size - lanes
    a = b = c = d = simd.load(x, last)
    for i in range(0, last, 4 * lanes):
        a = larger(a, simd.load(x, i))
        b = larger(b, simd.load(x, min(i + lanes, last)))
        c = larger(c, simd.load(x, min(i + 2 * lanes, last)))
        d = larger(d, simd.load(x, min(i + 3 * lanes, last)))
    return max_lanes(larger(larger(a, b), larger(c, d)))


@serial
def _line(x, y, log):
    """One contiguous line. The maximum is taken off first, so that nothing overflows."""
    top = _largest(x)
    total = y.dtype.type(0)
    if log:
        # Through memory: fastmath would join top and the shift first, and lose what a large top leaves no room for.
        for i in range(x.size):
            y[i] = x[i] - top
        for i in range(x.size):
            total += transcendental.finite_exp(y[i])
        shift = math.log(total)
        for i in range(x.size):
            y[i] -= shift
    else:
        for i in range(x.size):
            e = transcendental.finite_exp(x[i] - top)
            y[i] = e
            total += e
        share = y.dtype.type(1) / total
        for i in range(x.size):
            y[i] *= share


@serial
def _strided_line(x, y, log, start, count, step):
    """One line whose elements lie `step` apart."""
    top = x[start]
    for i in range(1, count):
        v = x[start + i * step]
        top = v if (v > top) | math.isnan(v) else top
    total = y.dtype.type(0)
    for i in range(count):
        at = start + i * step
        shifted = x[at] - top
        e = transcendental.finite_exp(shifted)
        total += e
        y[at] = shifted if log else e
    shift = math.log(total)
    for i in range(count):
        at = start + i * step
        y[at] = y[at] - shift if log else y[at] / total


@kernel
def softmax(x, y, shape, log):
    """y = exp(x) / sum of exp(x) along the middle axis, or its logarithm if `log`. shape: (outer, count, inner). y is
    not x.
    """
    outer, count, inner = shape
    lines = outer * inner
    block = max(BLOCK // count, 1)
    for index in prange((lines + block - 1) // block):
        task = np.int64(index)
        for line in range(task * block, min((task + 1) * block, lines)):
            if inner == 1:
                _line(part(x, line * count, (line + 1) * count), part(y, line * count, (line + 1) * count), log)
            else:
                _strided_line(x, y, log, line // inner * count * inner + line % inner, count, inner)


@serial
def _first_of_largest(x, y, start, count, step):
    """One line: 1 at the first of the largest elements (of those that are not numbers, where there are any)."""
    best, top = start, x[start]
    for at in range(start, start + count * step, step):
        if (x[at] > top) | (math.isnan(x[at]) & (not math.isnan(top))):
            best, top = at, x[at]
        y[at] = 0
    y[best] = 1


@kernel
def hardmax(x, y, shape):
    """y = 1 at the first of the largest elements along the middle axis, 0 elsewhere; as in softmax."""
    outer, count, inner = shape
    lines = outer * inner
    block = max(BLOCK // count, 1)
    for index in prange((lines + block - 1) // block):
        task = np.int64(index)
        for line in range(task * block, min((task + 1) * block, lines)):
            _first_of_largest(x, y, line // inner * count * inner + line % inner, count, inner)


@serial
def _line_grad(y, dy, dx, log):
    """One contiguous line."""
    total = y.dtype.type(0)
    if log:
        for i in range(y.size):
            total += dy[i]
        for i in range(y.size):
            dx[i] = dy[i] - transcendental.finite_exp(y[i]) * total
    else:
        for i in range(y.size):
            total += dy[i] * y[i]
        for i in range(y.size):
            dx[i] = y[i] * (dy[i] - total)


@serial
def _strided_line_grad(y, dy, dx, log, start, count, step):
    total = y.dtype.type(0)
    for i in range(count):
        at = start + i * step
        total += dy[at] if log else dy[at] * y[at]
    for i in range(count):
        at = start + i * step
        dx[at] = dy[at] - transcendental.finite_exp(y[at]) * total if log else y[at] * (dy[at] - total)


@kernel
def softmax_grad(y, dy, dx, shape, log):
    """The gradient by x, told from the output y; dx may be dy or y. shape and log as in `softmax`."""
    outer, count, inner = shape
    lines = outer * inner
    block = max(BLOCK // count, 1)
    for index in prange((lines + block - 1) // block):
        task = np.int64(index)
        for line in range(task * block, min((task + 1) * block, lines)):
            if inner == 1:
                start, end = line * count, (line + 1) * count
                _line_grad(y[start:end], dy[start:end], dx[start:end], log)
            else:
                _strided_line_grad(y, dy, dx, log, line // inner * count * inner + line % inner, count, inner)
