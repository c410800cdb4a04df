"""Steps of the optimizers that ONNX defines (domain ai.onnx.preview.training, version 1), from old to new arrays."""

from __future__ import annotations

import numpy as np

from nbcnn.kernels.cuda._cuda import cuda, kernel, spread
from nbcnn.kernels.cuda.real import sqrt
from nbcnn.kernels.opcodes import ADAGRAD, ADAM, NESTEROV

__all__ = ["training_step"]


@kernel
def _adam(rates, made, x, g, v, h, x_new, v_new, h_new, settings):
    kind = x.dtype.type
    rate, steps = np.float64(rates[0]), np.float64(made[0])
    if steps > 0.0:  # the averages start at zero, which is set right here
        rate *= sqrt(1.0 - settings[3] ** steps) / (1.0 - settings[2] ** steps)
    norm, keep, step = kind(settings[0]), kind(1.0 - settings[1]), kind(rate)
    alpha, beta, epsilon = kind(settings[2]), kind(settings[3]), kind(settings[4])
    rest_alpha, rest_beta = kind(1.0 - settings[2]), kind(1.0 - settings[3])
    i = cuda.grid(1)
    while i < x.size:
        gradient = norm * x[i] + g[i]
        first = alpha * v[i] + rest_alpha * gradient
        second = beta * h[i] + rest_beta * gradient * gradient
        v_new[i] = first
        h_new[i] = second
        x_new[i] = keep * (x[i] - step * first / (sqrt(second) + epsilon))
        i += cuda.gridsize(1)


@kernel
def _adagrad(rates, made, x, g, h, x_new, h_new, settings):
    kind = x.dtype.type
    rate, steps = np.float64(rates[0]), np.float64(made[0])
    norm, step, epsilon = kind(settings[0]), kind(rate / (1.0 + steps * settings[1])), kind(settings[2])
    i = cuda.grid(1)
    while i < x.size:
        gradient = norm * x[i] + g[i]
        total = h[i] + gradient * gradient
        h_new[i] = total
        x_new[i] = x[i] - step * gradient / (sqrt(total) + epsilon)
        i += cuda.gridsize(1)


@kernel
def _momentum(nesterov, rates, made, x, g, v, x_new, v_new, settings):
    kind = x.dtype.type
    norm, alpha, step = kind(settings[0]), kind(settings[1]), kind(np.float64(rates[0]))
    beta = kind(settings[2]) if made[0] > 0 else kind(1)
    i = cuda.grid(1)
    while i < x.size:
        gradient = norm * x[i] + g[i]
        speed = alpha * v[i] + beta * gradient
        v_new[i] = speed
        x_new[i] = x[i] - step * (gradient + alpha * speed if nesterov else speed)
        i += cuda.gridsize(1)


def training_step(kind, rate, steps, x, g, v, h, x_new, v_new, h_new, settings):
    """One step on x by its gradient g. rate, steps (1): the learning rate, and how many steps were made before.

    v, h: the states, h only of ADAM. settings, five of them: norm_coefficient, norm_coefficient_post, alpha, beta,
    epsilon for ADAM; norm_coefficient, decay_factor, epsilon for ADAGRAD; norm_coefficient, alpha, beta otherwise.
    """
    if kind == ADAM:
        spread(_adam, x.size, rate, steps, x, g, v, h, x_new, v_new, h_new, settings)
    elif kind == ADAGRAD:
        spread(_adagrad, x.size, rate, steps, x, g, v, x_new, v_new, settings)
    else:
        spread(_momentum, x.size, kind == NESTEROV, rate, steps, x, g, v, x_new, v_new, settings)
