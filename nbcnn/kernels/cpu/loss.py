"""Losses with their gradients in the same pass, and the count of correct predictions.

The value is summed in float64, block by block. Blocks are fixed by the arguments, so that it does not depend on the
number of threads.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial, small_kernel

__all__ = ["class_loss", "count_agreeing", "count_correct", "element_loss"]

SOFTMAX_CROSS_ENTROPY, HINGE = 0, 1
SQUARED_ERROR, CROSS_ENTROPY, CROSS_ENTROPY_WITH_LOGITS, DICE = 0, 1, 2, 3


@serial
def _softmax_cross_entropy(x, labels, soft, dx, start, step, channels, position, scale):
    """Value of one position; its gradient, softmax * sum(target) - target, times `scale`. dx may be x."""
    largest = x[start]
    for c in range(1, channels):
        largest = max(largest, x[start + c * step])
    mass, chosen = 1.0, 0.0
    if soft.size == 0:
        chosen = float(x[start + labels[position] * step] - largest)
    else:
        mass = 0.0
        for c in range(channels):
            mass += soft[start + c * step]
            chosen += float(soft[start + c * step]) * float(x[start + c * step] - largest)
    total = 0.0
    for c in range(channels):
        e = math.exp(x[start + c * step] - largest)
        dx[start + c * step] = e
        total += e
    factor = mass * scale / total
    if soft.size == 0:
        label = start + labels[position] * step
        at_label = dx[label] * factor - scale
        for c in range(channels):
            dx[start + c * step] *= factor
        dx[label] = at_label
    else:
        for c in range(channels):
            dx[start + c * step] = dx[start + c * step] * factor - soft[start + c * step] * scale
    return mass * math.log(total) - chosen


@serial
def _hinge(x, labels, dx, start, step, channels, position, scale):
    """Value of one position; its gradient times `scale`. dx may be x."""
    label = start + labels[position] * step
    right, value, violated = x[label], 0.0, 0
    for c in range(channels):
        place = start + c * step
        margin = 1 + float(x[place]) - float(right)
        dx[place] = 0
        if place != label and not margin <= 0:
            value += margin
            violated += 1
            dx[place] = scale
    dx[label] = -violated * scale
    return value


@serial
def _class_block(kind, x, labels, soft, dx, shape, begin, end, scale):
    """The sum over positions begin..end."""
    _outer, channels, inner = shape
    value = 0.0
    for position in range(begin, end):
        start = position // inner * channels * inner + position % inner
        if soft.size == 0 and not 0 <= labels[position] < channels:
            value = math.nan
            for c in range(channels):
                dx[start + c * inner] = math.nan
        elif kind == HINGE:
            value += _hinge(x, labels, dx, start, inner, channels, position, scale)
        else:
            value += _softmax_cross_entropy(x, labels, soft, dx, start, inner, channels, position, scale)
    return value


@kernel
def class_loss(kind, x, labels, soft, dx, loss, partial, shape, block):
    """loss (1) = mean over positions of a loss of the scores x (outer, channels, inner); dx = its gradient.

    dx may be x. kind: 0 softmax cross-entropy, 1 hinge. labels: int64, one class number a position, or empty; soft:
    probabilities of x's shape where labels are empty. A label outside 0..channels-1 makes loss and gradient NaN.
    shape: (outer, channels, inner). block: positions a task; partial: float64, one element a block.
    """
    positions = shape[0] * shape[2]
    blocks = (positions + block - 1) // block
    scale = 1.0 / positions
    for index in prange(blocks):
        task = np.int64(index)
        begin = task * block
        end = min(begin + block, positions)
        partial[task] = _class_block(kind, x, labels, soft, dx, shape, begin, end, scale)
    loss[0] = _sum(partial, blocks) * scale


@serial
def _squared_error(x, t, dx, scale):
    value = 0.0
    for i in range(t.size):
        error = x[i] - t[i]
        value += float(error) * float(error)
        dx[i] = error * (2 * scale)
    return value


@serial
def _log_at_least(value):
    """PyTorch's guard: a logarithm is at least -100. NaN stays NaN."""
    return -100.0 if value < -100 else value


@serial
def _cross_entropy(p, t, dp, scale):
    value = 0.0
    for i in range(t.size):
        a, b = float(p[i]), float(t[i])
        variance = a * (1 - a)
        value -= b * _log_at_least(math.log(a)) + (1 - b) * _log_at_least(math.log1p(-a))
        dp[i] = (a - b) / (1e-12 if variance < 1e-12 else variance) * scale
    return value


@serial
def _cross_entropy_with_logits(x, t, dx, scale):
    """log(1 + exp(x)) - t x, written so that nothing overflows."""
    value = 0.0
    for i in range(t.size):
        a, b = float(x[i]), float(t[i])
        e = math.exp(-abs(a))
        value += (a if a > 0 else 0.0) - b * a + math.log1p(e)
        dx[i] = ((1.0 if a > 0 else e) / (1 + e) - b) * scale
    return value


@serial
def _dice(p, t, dp, scale):
    """1 - (2 sum(p t) + 1) / (sum(p) + sum(t) + 1) over one block."""
    both, either = 1.0, 1.0
    for i in range(t.size):
        both += 2 * float(p[i]) * float(t[i])
        either += float(p[i]) + float(t[i])
    for i in range(t.size):
        dp[i] = (both - 2 * t[i] * either) * (scale / (either * either))
    return 1 - both / either


@serial
def _element_block(kind, x, t, dx, scale):
    if kind == SQUARED_ERROR:
        return _squared_error(x, t, dx, scale)
    if kind == CROSS_ENTROPY:
        return _cross_entropy(x, t, dx, scale)
    if kind == CROSS_ENTROPY_WITH_LOGITS:
        return _cross_entropy_with_logits(x, t, dx, scale)
    return _dice(x, t, dx, scale)


@kernel
def element_loss(kind, x, t, dx, loss, partial, size, block, count):
    """loss (1) = a loss of x (size) against t (size), summed over blocks and divided by `count`; dx = its gradient.

    dx may be x. kind: 0 squared error, 1 binary cross-entropy of probabilities, 2 of logits, 3 Dice, where a block
    is one sample. partial: float64, one element a block.
    """
    blocks = (size + block - 1) // block
    scale = 1.0 / count
    for index in prange(blocks):
        task = np.int64(index)
        begin = task * block
        end = min(begin + block, size)
        partial[task] = _element_block(kind, x[begin:end], t[begin:end], dx[begin:end], scale)
    loss[0] = _sum(partial, blocks) * scale


@serial
def _sum(values, count):
    total = 0.0
    for i in range(count):
        total += values[i]
    return total


@serial
def _argmax(x, start, step, channels):
    """The first of the largest."""
    best = 0
    for c in range(1, channels):
        if x[start + c * step] > x[start + best * step]:
            best = c
    return best


@small_kernel
def count_correct(x, labels, soft, count, shape):
    """count (1) int64 = positions whose largest score in x is the label's, or the largest of `soft`; as class_loss."""
    outer, channels, inner = shape
    correct = 0
    for position in range(outer * inner):
        start = position // inner * channels * inner + position % inner
        label = labels[position] if soft.size == 0 else _argmax(soft, start, inner, channels)
        correct += _argmax(x, start, inner, channels) == label
    count[0] = correct


@small_kernel
def count_agreeing(x, t, count, size, threshold):
    """count (1) int64 = elements of x (size) that lie above `threshold` just where t lies above one half."""
    agreeing = 0
    for i in range(size):
        agreeing += (x[i] > threshold) == (t[i] > 0.5)
    count[0] = agreeing
