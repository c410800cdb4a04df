"""The negative log-likelihood of given classes, and its gradient. Sums are made in float64, in blocks of fixed size."""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.opcodes import EACH, MEAN

__all__ = ["log_likelihood", "log_likelihood_grad"]

BLOCK = 4096
"""Positions of one task, as the operator sizes `partial`."""


@serial
def _weight(label, weights, ignored):
    """The weight of a position, 0 where its class does not count, NaN where there is no such class."""
    if ignored[0] != 0 and label == ignored[1]:
        return 0.0
    if not 0 <= label < ignored[2]:
        return math.nan
    return np.float64(weights[label]) if weights.size > 0 else 1.0


@serial
def _place(position, label, shape):
    _outer, channels, inner = shape
    return position // inner * channels * inner + label * inner + position % inner


@serial
def _block(x, labels, weights, loss, each, shape, ignored, begin, end):
    """Sums of values and of weights over positions begin..end."""
    value, weight = 0.0, 0.0
    for position in range(begin, end):
        label = labels[position]
        w = _weight(label, weights, ignored)
        v = w  # 0 or NaN, unless there is an x to look at
        if 0 <= label < ignored[2] and w != 0:
            v = -w * np.float64(x[_place(position, label, shape)])
        if each:
            loss[position] = v
        value += v
        weight += w
    return value, weight


@kernel
def log_likelihood(reduction, x, labels, weights, loss, total, partial, shape, ignored):
    """loss = -weight * x at each position's label: one for EACH, or their sum, or (MEAN) that over the sum of weights.

    x (outer, channels, inner) = shape: logarithms of probabilities. labels (outer * inner): int32 or int64; one that no
    class has makes the loss NaN. weights (channels), or empty. ignored: whether a label is left out, which one, and the
    number of classes. total (1): the sum of weights. partial: scratch in float64, two elements a block.
    """
    positions = shape[0] * shape[2]
    blocks = (positions + BLOCK - 1) // BLOCK
    for index in prange(blocks):
        task = np.int64(index)
        begin, end = task * BLOCK, min((task + 1) * BLOCK, positions)
        value, weight = _block(x, labels, weights, loss, reduction == EACH, shape, ignored, begin, end)
        partial[2 * task] = value
        partial[2 * task + 1] = weight
    value, weight = 0.0, 0.0
    for block in range(blocks):
        value += partial[2 * block]
        weight += partial[2 * block + 1]
    total[0] = weight
    if reduction != EACH:
        loss[0] = value / weight if reduction == MEAN else value


@kernel
def log_likelihood_grad(reduction, dy, labels, weights, total, dx, shape, ignored):
    """dx, which is zero before, at each position's label. Arguments as in log_likelihood; dy as its loss."""
    positions = shape[0] * shape[2]
    for index in prange((positions + BLOCK - 1) // BLOCK):
        task = np.int64(index)
        for position in range(task * BLOCK, min((task + 1) * BLOCK, positions)):
            label = labels[position]
            w = _weight(label, weights, ignored)
            if 0 <= label < ignored[2] and w != 0:
                grad = np.float64(dy[position if reduction == EACH else 0])
                dx[_place(position, label, shape)] = -w * grad / (np.float64(total[0]) if reduction == MEAN else 1.0)
