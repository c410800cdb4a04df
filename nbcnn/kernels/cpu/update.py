"""Steps of the optimizers on one parameter: one pass over its arrays, in whatever order the elements lie.

Formulas as PyTorch's. Settings come in a float64 array that the trainer writes before each step: no plan depends on
them. The penalty l1 * sum|w| + l2 / 2 * sum w^2 adds its gradient, l1 * sign(w) + l2 * w with sign(0) = 0. A zero whose
gradient is zero stays zero, as the padding of packed weights must.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial

__all__ = ["adam_update", "sgd_update", "unscale"]

BLOCK = 16384
"""Elements a task: at most 256 KiB of each array's float64."""


@serial
def _sgd(w, dw, hyper):
    kind = w.dtype.type
    lr, l2, l1 = kind(hyper[0]), kind(hyper[3]), kind(hyper[4])
    for i in range(w.size):
        p = w[i]
        sign = l1 if p > 0 else (-l1 if p < 0 else kind(0))
        w[i] = p - lr * (dw[i] + l2 * p + sign)


@serial
def _sgd_momentum(w, dw, velocity, hyper):
    kind = w.dtype.type
    lr, momentum, l2, l1 = kind(hyper[0]), kind(hyper[1]), kind(hyper[3]), kind(hyper[4])
    nesterov = hyper[2] != 0
    for i in range(w.size):
        p = w[i]
        sign = l1 if p > 0 else (-l1 if p < 0 else kind(0))
        g = dw[i] + l2 * p + sign
        v = momentum * velocity[i] + g
        velocity[i] = v
        w[i] = p - lr * (g + momentum * v if nesterov else v)


@kernel
def sgd_update(w, dw, velocity, hyper, size):
    """In place on w (size) and velocity (size; empty: no momentum), by the gradient dw (size).

    hyper: (lr, momentum, nesterov, l2, l1) in float64.
    """
    for index in prange((size + BLOCK - 1) // BLOCK):
        task = np.int64(index)
        begin = task * BLOCK
        end = min(begin + BLOCK, size)
        if velocity.size == 0:
            _sgd(w[begin:end], dw[begin:end], hyper)
        else:
            _sgd_momentum(w[begin:end], dw[begin:end], velocity[begin:end], hyper)


@serial
def _adam(w, dw, m, v, hyper):
    kind = w.dtype.type
    step, shrink, eps = kind(hyper[0]), kind(hyper[1]), kind(hyper[4])
    beta1, beta2, correction = kind(hyper[2]), kind(hyper[3]), kind(hyper[5])
    rest1, rest2 = kind(1 - hyper[2]), kind(1 - hyper[3])
    l2, l1 = kind(hyper[6]), kind(hyper[7])
    for i in range(w.size):
        p = w[i]
        sign = l1 if p > 0 else (-l1 if p < 0 else kind(0))
        g = dw[i] + l2 * p + sign
        first = beta1 * m[i] + rest1 * g
        second = beta2 * v[i] + rest2 * g * g
        m[i] = first
        v[i] = second
        w[i] = shrink * p - step * first / (math.sqrt(second) * correction + eps)


@kernel
def adam_update(w, dw, m, v, hyper, size):
    """In place on w, m, v (size), by the gradient dw (size): Adam (arXiv:1412.6980) and AdamW (arXiv:1711.05101).

    hyper: (lr / (1 - beta1^t), factor on w: 1 or AdamW's 1 - lr * weight_decay, beta1, beta2, eps,
    1 / sqrt(1 - beta2^t), l2, l1) in float64.
    """
    for index in prange((size + BLOCK - 1) // BLOCK):
        task = np.int64(index)
        begin = task * BLOCK
        end = min(begin + BLOCK, size)
        _adam(w[begin:end], dw[begin:end], m[begin:end], v[begin:end], hyper)


@serial
def _unscale(gradient, scale):
    """Divide by the scale; whether all elements were finite."""
    inverse, zero = gradient.dtype.type(1) / scale, gradient.dtype.type(0)
    total = zero
    for i in range(gradient.size):
        value = gradient[i] * inverse
        gradient[i] = value
        total += value * zero
    return total == zero


@kernel
def unscale(gradient, scale, found, size):
    """gradient (size) /= scale, in place; found = 1 where an element of it is not finite. scale, found: of one element.

    What is found stays so until somebody writes zero.
    """
    for index in prange((size + BLOCK - 1) // BLOCK):
        begin = np.int64(index) * BLOCK
        if not _unscale(gradient[begin : min(begin + BLOCK, size)], scale[0]):
            found[0] = 1  # the same from every thread
