"""Steps of the optimizers on one parameter: one pass over its arrays, in whatever order the elements lie.

Formulas as PyTorch's. Settings come in a float64 array on the device, which the trainer writes before each step: no
plan, and no CUDA graph, depends on them. The penalty l1 * sum|w| + l2 / 2 * sum w^2 adds its gradient, l1 * sign(w) +
l2 * w with sign(0) = 0. A zero whose gradient is zero stays zero, as the padding of packed weights must.
"""

from __future__ import annotations

import math

from nbcnn.kernels.cuda._cuda import cuda, device, kernel, spread
from nbcnn.kernels.cuda.memory import WIDTH, read, write
from nbcnn.kernels.cuda.real import sqrt

__all__ = ["adam_update", "sgd_update", "unscale"]


@device
def _penalized(w, dw, l2, l1):
    """dw = the gradient of the loss and the penalties, for four elements."""
    zero = w.dtype.type(0)
    for k in range(WIDTH):
        sign = l1 if w[k] > zero else (-l1 if w[k] < zero else zero)
        dw[k] = dw[k] + l2 * w[k] + sign


@kernel
def _sgd_update(w, dw, velocity, hyper, size):
    kind = w.dtype.type
    lr, momentum, nesterov = kind(hyper[0]), kind(hyper[1]), hyper[2] != 0
    l2, l1 = kind(hyper[3]), kind(hyper[4])
    p = cuda.local.array(WIDTH, w.dtype)
    g = cuda.local.array(WIDTH, w.dtype)
    v = cuda.local.array(WIDTH, w.dtype)
    at = cuda.grid(1) * WIDTH
    while at < size:
        left = size - at
        read(w, at, left, p)
        read(dw, at, left, g)
        if velocity.size > 0:
            read(velocity, at, left, v)
        _penalized(p, g, l2, l1)
        if velocity.size > 0:
            for k in range(WIDTH):
                v[k] = momentum * v[k] + g[k]
                g[k] = g[k] + momentum * v[k] if nesterov else v[k]
            write(velocity, at, left, v)
        for k in range(WIDTH):
            p[k] = p[k] - lr * g[k]
        write(w, at, left, p)
        at += cuda.gridsize(1) * WIDTH


def sgd_update(w, dw, velocity, hyper, size):
    """In place on w (size) and velocity (size; empty: no momentum), by the gradient dw (size).

    hyper: (lr, momentum, nesterov, l2, l1) in float64.
    """
    spread(_sgd_update, -(-size // WIDTH), w, dw, velocity, hyper, size)


@kernel
def _adam_update(w, dw, m, v, hyper, size):
    kind = w.dtype.type
    step, shrink, eps = kind(hyper[0]), kind(hyper[1]), kind(hyper[4])
    beta1, beta2, correction = kind(hyper[2]), kind(hyper[3]), kind(hyper[5])
    rest1, rest2 = kind(1.0 - hyper[2]), kind(1.0 - hyper[3])
    l2, l1 = kind(hyper[6]), kind(hyper[7])
    p = cuda.local.array(WIDTH, w.dtype)
    g = cuda.local.array(WIDTH, w.dtype)
    first = cuda.local.array(WIDTH, w.dtype)
    second = cuda.local.array(WIDTH, w.dtype)
    at = cuda.grid(1) * WIDTH
    while at < size:
        left = size - at
        read(w, at, left, p)
        read(dw, at, left, g)
        read(m, at, left, first)
        read(v, at, left, second)
        _penalized(p, g, l2, l1)
        for k in range(WIDTH):
            first[k] = beta1 * first[k] + rest1 * g[k]
            second[k] = beta2 * second[k] + rest2 * g[k] * g[k]
            p[k] = shrink * p[k] - step * first[k] / (sqrt(second[k]) * correction + eps)
        write(m, at, left, first)
        write(v, at, left, second)
        write(w, at, left, p)
        at += cuda.gridsize(1) * WIDTH


def adam_update(w, dw, m, v, hyper, size):
    """In place on w, m, v (size), by the gradient dw (size): Adam (arXiv:1412.6980) and AdamW (arXiv:1711.05101).

    hyper: (lr / (1 - beta1^t), factor on w: 1 or AdamW's 1 - lr * weight_decay, beta1, beta2, eps,
    1 / sqrt(1 - beta2^t), l2, l1) in float64.
    """
    spread(_adam_update, -(-size // WIDTH), w, dw, m, v, hyper, size)


@kernel
def _unscale(gradient, scale, found, size):
    inverse = gradient.dtype.type(1) / scale[0]
    g = cuda.local.array(WIDTH, gradient.dtype)
    at = cuda.grid(1) * WIDTH
    while at < size:
        left, finite = size - at, True
        read(gradient, at, left, g)
        for k in range(WIDTH):
            g[k] *= inverse
            finite = finite and math.isfinite(g[k])
        write(gradient, at, left, g)
        if not finite:
            found[0] = 1  # the same from every thread
        at += cuda.gridsize(1) * WIDTH


def unscale(gradient, scale, found, size):
    """gradient (size) /= scale, in place; found = 1 where an element of it is not finite. scale, found: of one element.

    What is found stays so until somebody writes zero.
    """
    spread(_unscale, -(-size // WIDTH), gradient, scale, found, size)
