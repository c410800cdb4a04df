"""The negative log-likelihood of given classes, and its gradient. Sums are made in float64, in a fixed order."""

from __future__ import annotations

from math import nan

import numpy as np

from nbcnn.kernels.cuda._cuda import BLOCK, cuda, device, kernel, launch, spread, types
from nbcnn.kernels.cuda.block import sum_block
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.opcodes import EACH, MEAN

__all__ = ["log_likelihood", "log_likelihood_grad"]

POSITIONS = 4096
"""Positions of one block, as the operator sizes `partial`."""


@device
def _weight(label, weights, ignored):
    """The weight of a position, 0 where its class does not count, NaN where there is no such class."""
    if ignored[0] != 0 and label == ignored[1]:
        return 0.0
    if label < 0 or label >= ignored[2]:
        return nan
    return np.float64(weights[label]) if weights.size > 0 else 1.0


@device
def _place(position, label, shape):
    channels, inner = shape[1], shape[2]
    return (divide(position, inner) * channels + label) * inner + remainder(position, inner)


@kernel
def _blocks(each, x, labels, weights, loss, partial, shape, ignored, positions):
    shared = cuda.shared.array(BLOCK, types.float64)
    begin, value, weight = cuda.blockIdx.x * POSITIONS, 0.0, 0.0
    for position in range(begin + cuda.threadIdx.x, min(begin + POSITIONS, positions), BLOCK):
        label = labels[position]
        w = _weight(label, weights, ignored)
        v = w  # 0 or NaN, unless there is an x to look at
        if 0 <= label < ignored[2] and w != 0:
            v = -w * np.float64(x[_place(position, label, shape)])
        if each:
            loss[position] = v
        value += v
        weight += w
    value, weight = sum_block(shared, value), sum_block(shared, weight)
    if cuda.threadIdx.x == 0:
        partial[2 * cuda.blockIdx.x] = value
        partial[2 * cuda.blockIdx.x + 1] = weight


@kernel
def _total(reduction, partial, blocks, loss, total):
    """One block."""
    shared = cuda.shared.array(BLOCK, types.float64)
    value, weight = 0.0, 0.0
    for i in range(cuda.threadIdx.x, blocks, BLOCK):
        value += partial[2 * i]
        weight += partial[2 * i + 1]
    value, weight = sum_block(shared, value), sum_block(shared, weight)
    if cuda.threadIdx.x == 0:
        total[0] = weight
        if reduction == MEAN:
            loss[0] = value / weight if weight != 0 else nan
        elif reduction != EACH:
            loss[0] = value


def log_likelihood(reduction, x, labels, weights, loss, total, partial, shape, ignored):
    """loss = -weight * x at each position's label: one for EACH, or their sum, or (MEAN) that over the sum of weights.

    x (outer, channels, inner) = shape: logarithms of probabilities. labels (outer * inner): int32 or int64; one that no
    class has makes the loss NaN. weights (channels), or empty. ignored: whether a label is left out, which one, and the
    number of classes. total (1): the sum of weights. partial: scratch in float64, two elements a block.
    """
    positions = shape[0] * shape[2]
    blocks, each = -(-positions // POSITIONS), reduction == EACH
    launch(_blocks, blocks, BLOCK, each, x, labels, weights, loss, partial, shape, ignored, positions)
    launch(_total, 1, BLOCK, reduction, partial, blocks, loss, total)


@kernel
def _grad(reduction, dy, labels, weights, total, dx, shape, ignored, positions):
    for position in range(cuda.grid(1), positions, cuda.gridsize(1)):
        label = labels[position]
        w = _weight(label, weights, ignored)
        if 0 <= label < ignored[2] and w != 0:
            grad = np.float64(dy[position if reduction == EACH else 0])
            dx[_place(position, label, shape)] = -w * grad / (np.float64(total[0]) if reduction == MEAN else 1.0)


def log_likelihood_grad(reduction, dy, labels, weights, total, dx, shape, ignored):
    """dx, which is zero before, at each position's label. Arguments as in log_likelihood; dy as its loss."""
    positions = shape[0] * shape[2]
    spread(_grad, positions, reduction, dy, labels, weights, total, dx, shape, ignored, positions)
