"""Steps of the optimizers that ONNX defines (domain ai.onnx.preview.training, version 1), from old to new arrays."""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.opcodes import ADAGRAD, ADAM, NESTEROV

__all__ = ["training_step"]

BLOCK = 16384
"""Elements of one task."""


@serial
def _adam(rate, steps, x, g, v, h, x_new, v_new, h_new, settings):
    kind = x.dtype.type
    if steps > 0:  # the averages start at zero, which is set right here
        rate *= math.sqrt(1 - settings[3] ** steps) / (1 - settings[2] ** steps)
    norm, keep, step = kind(settings[0]), kind(1 - settings[1]), kind(rate)
    alpha, beta, epsilon = kind(settings[2]), kind(settings[3]), kind(settings[4])
    rest_alpha, rest_beta = kind(1 - settings[2]), kind(1 - settings[3])
    for i in range(x.size):
        gradient = norm * x[i] + g[i]
        first = alpha * v[i] + rest_alpha * gradient
        second = beta * h[i] + rest_beta * gradient * gradient
        v_new[i] = first
        h_new[i] = second
        x_new[i] = keep * (x[i] - step * first / (math.sqrt(second) + epsilon))


@serial
def _adagrad(rate, steps, x, g, h, x_new, h_new, settings):
    kind = x.dtype.type
    norm, step, epsilon = kind(settings[0]), kind(rate / (1 + steps * settings[1])), kind(settings[2])
    for i in range(x.size):
        gradient = norm * x[i] + g[i]
        total = h[i] + gradient * gradient
        h_new[i] = total
        x_new[i] = x[i] - step * gradient / (math.sqrt(total) + epsilon)


@serial
def _momentum(nesterov, rate, steps, x, g, v, x_new, v_new, settings):
    kind = x.dtype.type
    norm, alpha, step = kind(settings[0]), kind(settings[1]), kind(rate)
    beta = kind(settings[2]) if steps > 0 else kind(1)
    for i in range(x.size):
        gradient = norm * x[i] + g[i]
        speed = alpha * v[i] + beta * gradient
        v_new[i] = speed
        x_new[i] = x[i] - step * (gradient + alpha * speed if nesterov else speed)


@kernel
def training_step(kind, rate, steps, x, g, v, h, x_new, v_new, h_new, settings):
    """One step on x by its gradient g. rate, steps (1): the learning rate, and how many steps were made before.

    v, h: the states, h only of ADAM. settings, five of them: norm_coefficient, norm_coefficient_post, alpha, beta,
    epsilon for ADAM; norm_coefficient, decay_factor, epsilon for ADAGRAD; norm_coefficient, alpha, beta otherwise.
    """
    for index in prange((x.size + BLOCK - 1) // BLOCK):
        task = np.int64(index)
        a, z = task * BLOCK, min((task + 1) * BLOCK, x.size)
        r, t = np.float64(rate[0]), steps[0]
        if kind == ADAM:
            _adam(r, t, x[a:z], g[a:z], v[a:z], h[a:z], x_new[a:z], v_new[a:z], h_new[a:z], settings)
        elif kind == ADAGRAD:
            _adagrad(r, t, x[a:z], g[a:z], v[a:z], x_new[a:z], v_new[a:z], settings)
        else:
            _momentum(kind == NESTEROV, r, t, x[a:z], g[a:z], v[a:z], x_new[a:z], v_new[a:z], settings)
