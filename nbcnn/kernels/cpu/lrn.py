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
def _bases(x, at, scratch, base, power, channels, reach, share, beta, bias):  # type: ignore[no-untyped-def]
    """scratch[base:] and scratch[power:]: the base of each channel of one row, and the base to the power beta."""
    scratch[base : base + channels] = 0
    for move in range(-reach[0], reach[1] + 1):
        for c in range(max(0, -move), min(channels, channels - move)):
            scratch[base + c] += x[at + move + c] * x[at + move + c]
    for c in range(channels):
        scratch[base + c] = bias + share * scratch[base + c]
    if beta == 0.75:  # AlexNet's and everybody's: two square roots instead of a power
        for c in range(channels):
            root = np.sqrt(scratch[base + c])
            scratch[power + c] = root * np.sqrt(root)
    else:
        for c in range(channels):
            scratch[power + c] = scratch[base + c] ** beta


@serial
def _rows(first, x, y, scratch, slot, dims, reach, share, beta, bias):  # type: ignore[no-untyped-def]
    rows, channels = dims
    power = slot + channels
    for row in range(first, min(first + ROWS, rows)):
        at = row * channels
        _bases(x, at, scratch, slot, power, channels, reach, share, beta, bias)
        for c in range(channels):
            y[at + c] = x[at + c] / scratch[power + c]


@kernel
def lrn(x, y, scratch, dims, reach, share, beta, bias):  # type: ignore[no-untyped-def]
    """y = x normalized. scratch: 3 * channels for each thread. share, beta, bias: scalars of the element type."""
    for task in prange((dims[0] + ROWS - 1) // ROWS):
        _rows(task * ROWS, x, y, scratch, get_thread_id() * 3 * dims[1], dims, reach, share, beta, bias)


@serial
def _grad_rows(first, x, dy, dx, scratch, slot, dims, reach, share, beta, bias, factor):  # type: ignore[no-untyped-def]
    rows, channels = dims
    power, pull = slot + channels, slot + 2 * channels
    for row in range(first, min(first + ROWS, rows)):
        at = row * channels
        _bases(x, at, scratch, slot, power, channels, reach, share, beta, bias)
        for c in range(channels):
            scratch[pull + c] = dy[at + c] * x[at + c] / (scratch[power + c] * scratch[slot + c])
        # Channel c takes part in the bases of the channels c - after .. c + before.
        scratch[slot : slot + channels] = 0
        for move in range(-reach[1], reach[0] + 1):
            for c in range(max(0, -move), min(channels, channels - move)):
                scratch[slot + c] += scratch[pull + move + c]
        for c in range(channels):
            dx[at + c] = dy[at + c] / scratch[power + c] - factor * x[at + c] * scratch[slot + c]


@kernel
def lrn_grad(x, dy, dx, scratch, dims, reach, share, beta, bias, factor):  # type: ignore[no-untyped-def]
    """dx = dy / base^beta - factor * x * (sum over the channels j that x is near to of dy x base^(-beta - 1)).

    factor: 2 * share * beta, a scalar of the element type. The others as in lrn.
    """
    for task in prange((dims[0] + ROWS - 1) // ROWS):
        slot = get_thread_id() * 3 * dims[1]
        _grad_rows(task * ROWS, x, dy, dx, scratch, slot, dims, reach, share, beta, bias, factor)
