"""Local response normalization across channels: x is (rows, channels), flat, a row being one pixel of one picture.

y[c] = x[c] / base[c]^beta, base[c] = bias + share * (sum of x^2 over the channels c - before .. c + after). `dims` is
(rows, channels), `reach` (before, after).
"""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, prange

from nbcnn.kernels.cpu.jit import kernel, serial

__all__ = ["lrn", "lrn_grad"]

ROWS = 64
"""Rows in a task."""


@serial
def _add_squares(x, total):
    for c in range(total.size):
        total[c] += x[c] * x[c]


@serial
def _add(x, total):
    for c in range(total.size):
        total[c] += x[c]


@serial
def _bases(x, base, power, reach, share, beta, bias):
    """The base of each channel of one row, and the base to the power beta."""
    channels = x.size
    base[:] = 0
    for move in range(-reach[0], reach[1] + 1):
        first, end = max(0, -move), min(channels, channels - move)
        _add_squares(x[first + move : end + move], base[first:end])
    for c in range(channels):
        base[c] = bias + share * base[c]
    if beta == 0.75:  # AlexNet's and everybody's: two square roots instead of a power
        for c in range(channels):
            root = np.sqrt(base[c])
            power[c] = root * np.sqrt(root)
    else:
        for c in range(channels):
            power[c] = base[c] ** beta


@serial
def _row(x, y, base, power, reach, share, beta, bias):
    _bases(x, base, power, reach, share, beta, bias)
    for c in range(x.size):
        y[c] = x[c] / power[c]


@serial
def _rows(first, x, y, scratch, slot, dims, reach, share, beta, bias):
    rows, channels = dims
    base, power = scratch[slot : slot + channels], scratch[slot + channels : slot + 2 * channels]
    for row in range(first, min(first + ROWS, rows)):
        at, end = row * channels, (row + 1) * channels
        _row(x[at:end], y[at:end], base, power, reach, share, beta, bias)


@kernel
def lrn(x, y, scratch, dims, reach, share, beta, bias):
    """y = x normalized. scratch: 3 * channels for each thread. share, beta, bias: scalars of the element type."""
    for index in prange((dims[0] + ROWS - 1) // ROWS):
        task = np.int64(index)
        _rows(task * ROWS, x, y, scratch, get_thread_id() * 3 * dims[1], dims, reach, share, beta, bias)


@serial
def _grad_row(x, dy, dx, base, power, pull, reach, share, beta, bias, factor):
    channels = x.size
    _bases(x, base, power, reach, share, beta, bias)
    for c in range(channels):
        pull[c] = dy[c] * x[c] / (power[c] * base[c])
    # Channel c takes part in the bases of the channels c - after .. c + before.
    base[:] = 0
    for move in range(-reach[1], reach[0] + 1):
        first, end = max(0, -move), min(channels, channels - move)
        _add(pull[first + move : end + move], base[first:end])
    for c in range(channels):
        dx[c] = dy[c] / power[c] - factor * x[c] * base[c]


@serial
def _grad_rows(first, x, dy, dx, scratch, slot, dims, reach, share, beta, bias, factor):
    rows, channels = dims
    power = slot + channels
    pull, end = power + channels, slot + 3 * channels
    for row in range(first, min(first + ROWS, rows)):
        _grad_row(
            x[row * channels : (row + 1) * channels],
            dy[row * channels : (row + 1) * channels],
            dx[row * channels : (row + 1) * channels],
            scratch[slot:power],
            scratch[power:pull],
            scratch[pull:end],
            reach,
            share,
            beta,
            bias,
            factor,
        )


@kernel
def lrn_grad(x, dy, dx, scratch, dims, reach, share, beta, bias, factor):
    """dx = dy / base^beta - factor * x * (sum over the channels j that x is near to of dy x base^(-beta - 1)).

    factor: 2 * share * beta, a scalar of the element type. The others as in lrn.
    """
    for index in prange((dims[0] + ROWS - 1) // ROWS):
        task = np.int64(index)
        slot = get_thread_id() * 3 * dims[1]
        _grad_rows(task * ROWS, x, dy, dx, scratch, slot, dims, reach, share, beta, bias, factor)
