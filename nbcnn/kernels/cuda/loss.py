"""Losses with their gradients in the same pass, and the count of correct predictions.

The value is summed in float64: by the threads of a block over the positions or elements that the arguments give to it,
then over blocks, in an order that does not change. The counts are integers, which may be added up in any order.
"""

from __future__ import annotations

from math import exp, inf, isnan, log, log1p, nan

import numpy as np

from nbcnn.kernels.cuda._cuda import BLOCK, cuda, device, kernel, launch, spread, types
from nbcnn.kernels.cuda.block import reduce_lanes, sum_block, sum_lanes, threads_for
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.opcodes import MAX, MIN

__all__ = ["class_loss", "count_agreeing", "count_correct", "element_loss"]

HINGE = 1
SQUARED_ERROR, CROSS_ENTROPY, CROSS_ENTROPY_WITH_LOGITS, DICE = 0, 1, 2, 3


@kernel
def _total(partial, count, loss, scale):
    """One block."""
    shared = cuda.shared.array(BLOCK, types.float64)
    total = 0.0
    for i in range(cuda.threadIdx.x, count, BLOCK):
        total += partial[i]
    total = sum_block(shared, total)
    if cuda.threadIdx.x == 0:
        loss[0] = total * scale


# --- classes ----------------------------------------------------------------------------------------------------------


@device
def _position(first, end, shape):
    """Of a thread, whose block is at the positions from `first` on: its position, where that begins, and how many
    channels it takes of it, blockDim.y apart; none where all positions are done.
    """
    channels, inner = shape[1], shape[2]
    position = first + cuda.threadIdx.z * cuda.blockDim.x + cuda.threadIdx.x
    start = (divide(position, inner) * channels) * inner + remainder(position, inner)
    return position, start, channels if position < end else 0


@kernel
def _softmax_cross_entropy(x, labels, soft, dx, partial, shape, block, positions, scale):
    shared = cuda.shared.array(BLOCK, types.float64)
    inner, at_once = shape[2], cuda.blockDim.x * cuda.blockDim.z
    end = min((cuda.blockIdx.x + 1) * block, positions)
    lane, lanes, value = cuda.threadIdx.y, cuda.blockDim.y, 0.0
    for first in range(cuda.blockIdx.x * block, end, at_once):
        position, start, channels = _position(first, end, shape)
        label = labels[position] if soft.size == 0 and channels > 0 else 0
        top = -inf
        for c in range(lane, channels, lanes):
            v = np.float64(x[start + c * inner])
            top = v if v > top or isnan(v) else top
        largest = x.dtype.type(reduce_lanes(shared, MAX, top))
        total, mass = 0.0, 0.0
        for c in range(lane, channels, lanes):
            at = start + c * inner
            distance = x[at] - largest
            if soft.size > 0:
                mass += np.float64(soft[at])
                value -= np.float64(soft[at]) * np.float64(distance)
            elif c == label:
                value -= np.float64(distance)
            e = exp(distance)
            dx[at] = e
            total += np.float64(e)
        total, mass = sum_lanes(shared, total), 1.0 if soft.size == 0 else sum_lanes(shared, mass)
        wrong = label < 0 or label >= shape[1]
        if lane == 0 and channels > 0:
            value += nan if wrong else mass * log(total)
        factor = mass * scale / total if channels > 0 else 0.0
        for c in range(lane, channels, lanes):
            at = start + c * inner
            target = np.float64(soft[at]) if soft.size > 0 else (1.0 if c == label else 0.0)
            dx[at] = nan if wrong else np.float64(dx[at]) * factor - target * scale
    value = sum_block(shared, value)
    if cuda.threadIdx.x + lane + cuda.threadIdx.z == 0:
        partial[cuda.blockIdx.x] = value


@kernel
def _hinge(x, labels, dx, partial, shape, block, positions, scale):
    shared = cuda.shared.array(BLOCK, types.float64)
    inner, at_once = shape[2], cuda.blockDim.x * cuda.blockDim.z
    end = min((cuda.blockIdx.x + 1) * block, positions)
    lane, lanes, value = cuda.threadIdx.y, cuda.blockDim.y, 0.0
    for first in range(cuda.blockIdx.x * block, end, at_once):
        position, start, channels = _position(first, end, shape)
        label = labels[position] if channels > 0 else 0
        wrong = label < 0 or label >= shape[1]
        owns = channels > 0 and not wrong and remainder(label, lanes) == lane
        # Handed on by the thread that overwrites it: dx may be x.
        right = sum_lanes(shared, np.float64(x[start + label * inner]) if owns else 0.0)
        violated = 0.0
        for c in range(lane, channels, lanes):
            at = start + c * inner
            margin = 1 + np.float64(x[at]) - right
            violates = c != label and not margin <= 0
            if violates:
                value += margin
                violated += 1.0
            dx[at] = nan if wrong else (scale if violates else 0.0)
        violated = sum_lanes(shared, violated)
        if owns:
            dx[start + label * inner] = -violated * scale
        if wrong:
            value = nan
    value = sum_block(shared, value)
    if cuda.threadIdx.x + lane + cuda.threadIdx.z == 0:
        partial[cuda.blockIdx.x] = value


def class_loss(kind, x, labels, soft, dx, loss, partial, shape, block):
    """loss (1) = mean over positions of a loss of the scores x (outer, channels, inner); dx = its gradient.

    dx may be x. kind: 0 softmax cross-entropy, 1 hinge. labels: int64, one class number a position, or empty; soft:
    probabilities of x's shape where labels are empty. A label outside 0..channels-1 makes loss and gradient NaN.
    shape: (outer, channels, inner). block: positions a task; partial: float64, one element a block.
    """
    positions = shape[0] * shape[2]
    blocks, scale = -(-positions // block), 1.0 / positions
    threads = threads_for(shape[2], shape[1])
    given = partial, shape, block, positions, scale
    if kind == HINGE:
        launch(_hinge, blocks, threads, x, labels, dx, *given)
    else:
        launch(_softmax_cross_entropy, blocks, threads, x, labels, soft, dx, *given)
    launch(_total, 1, BLOCK, partial, blocks, loss, scale)


# --- elements ---------------------------------------------------------------------------------------------------------


@device
def _log(value):
    """At least -100, which is PyTorch's guard; NaN stays NaN."""
    if value > 0:
        return max(log(value), -100.0)
    return -100.0 if value == 0 else nan


@device
def _element(kind, a, b):
    """A loss of one prediction and target, and its derivative."""
    if kind == SQUARED_ERROR:
        return (a - b) * (a - b), 2 * (a - b)
    if kind == CROSS_ENTROPY:
        variance = a * (1 - a)
        other = max(log1p(-a), -100.0) if a < 1 else (-100.0 if a == 1 else nan)
        value = -(b * _log(a) + (1 - b) * other)
        return value, (a - b) / (1e-12 if variance < 1e-12 else variance)
    # log(1 + exp(a)) - b a, written so that nothing overflows.
    e = exp(-abs(a))
    return (a if a > 0 else 0.0) - b * a + log1p(e), (1.0 if a > 0 else e) / (1 + e) - b


@kernel
def _element_loss(kind, x, t, dx, partial, size, block, scale):
    shared = cuda.shared.array(BLOCK, types.float64)
    begin, value = cuda.blockIdx.x * block, 0.0
    for i in range(begin + cuda.threadIdx.x, min(begin + block, size), BLOCK):
        loss, slope = _element(kind, np.float64(x[i]), np.float64(t[i]))
        value += loss
        dx[i] = slope * scale
    value = sum_block(shared, value)
    if cuda.threadIdx.x == 0:
        partial[cuda.blockIdx.x] = value


@kernel
def _dice(p, t, dp, partial, size, block, scale):
    """1 - (2 sum(p t) + 1) / (sum(p) + sum(t) + 1) of each block."""
    shared = cuda.shared.array(BLOCK, types.float64)
    begin, both, either = cuda.blockIdx.x * block, 0.0, 0.0
    end = min(begin + block, size)
    for i in range(begin + cuda.threadIdx.x, end, BLOCK):
        both += 2 * np.float64(p[i]) * np.float64(t[i])
        either += np.float64(p[i]) + np.float64(t[i])
    both, either = 1 + sum_block(shared, both), 1 + sum_block(shared, either)
    for i in range(begin + cuda.threadIdx.x, end, BLOCK):
        dp[i] = (both - 2 * np.float64(t[i]) * either) * (scale / (either * either))
    if cuda.threadIdx.x == 0:
        partial[cuda.blockIdx.x] = 1 - both / either


def element_loss(kind, x, t, dx, loss, partial, size, block, count):
    """loss (1) = a loss of x (size) against t (size), summed over blocks and divided by `count`; dx = its gradient.

    dx may be x. kind: 0 squared error, 1 binary cross-entropy of probabilities, 2 of logits, 3 Dice, where a block
    is one sample. partial: float64, one element a block.
    """
    blocks, scale = -(-size // block), 1.0 / count
    if kind == DICE:
        launch(_dice, blocks, BLOCK, x, t, dx, partial, size, block, scale)
    else:
        launch(_element_loss, blocks, BLOCK, kind, x, t, dx, partial, size, block, scale)
    launch(_total, 1, BLOCK, partial, blocks, loss, scale)


# --- counts -----------------------------------------------------------------------------------------------------------


@kernel
def _clear(count):
    count[0] = 0


@device
def _first_of_largest(shared, x, start, channels, inner):
    """The number of the first of a position's largest scores; those that are no numbers are passed over, but 0 it is
    where that is the first.
    """
    top, best = -inf, np.float64(channels)
    for c in range(cuda.threadIdx.y, channels, cuda.blockDim.y):
        top = max(top, np.float64(x[start + c * inner])) if not isnan(x[start + c * inner]) else top
    top = reduce_lanes(shared, MAX, top)
    for c in range(cuda.threadIdx.y, channels, cuda.blockDim.y):
        if np.float64(x[start + c * inner]) == top or (c == 0 and isnan(x[start])):
            best = min(best, np.float64(c))
    return reduce_lanes(shared, MIN, best)


@kernel
def _count_correct(x, labels, soft, count, shape, positions):
    shared = cuda.shared.array(BLOCK, types.float64)
    inner, at_once, correct = shape[2], cuda.blockDim.x * cuda.blockDim.z, 0.0
    for first in range(cuda.blockIdx.x * at_once, positions, cuda.gridDim.x * at_once):
        position, start, channels = _position(first, positions, shape)
        found = _first_of_largest(shared, x, start, channels, inner)
        if soft.size > 0:
            label = _first_of_largest(shared, soft, start, channels, inner)
        else:
            label = np.float64(labels[position]) if channels > 0 else 0.0
        if cuda.threadIdx.y == 0 and channels > 0 and found == label:
            correct += 1.0
    correct = sum_block(shared, correct)
    if cuda.threadIdx.x + cuda.threadIdx.y + cuda.threadIdx.z == 0:
        cuda.atomic.add(count, 0, np.int64(correct))


def count_correct(x, labels, soft, count, shape):
    """count (1) int64 = positions whose largest score in x is the label's, or the largest of `soft`; as class_loss."""
    positions, threads = shape[0] * shape[2], threads_for(shape[2], shape[1])
    launch(_clear, 1, 1, count)
    blocks = min(-(-positions // (threads[0] * threads[2])), 512)
    launch(_count_correct, blocks, threads, x, labels, soft, count, shape, positions)


@kernel
def _count_agreeing(x, t, count, size, threshold):
    shared = cuda.shared.array(BLOCK, types.float64)
    agreeing = 0.0
    for i in range(cuda.grid(1), size, cuda.gridsize(1)):
        agreeing += 1.0 if (x[i] > threshold) == (t[i] > 0.5) else 0.0
    agreeing = sum_block(shared, agreeing)
    if cuda.threadIdx.x == 0:
        cuda.atomic.add(count, 0, np.int64(agreeing))


def count_agreeing(x, t, count, size, threshold):
    """count (1) int64 = elements of x (size) that lie above `threshold` just where t lies above one half."""
    launch(_clear, 1, 1, count)
    spread(_count_agreeing, size, x, t, count, size, threshold)
