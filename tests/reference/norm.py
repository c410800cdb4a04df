"""ONNX BatchNormalization-15, Dropout-22 and LRN-13, over (N, C, spatial...)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reference._float64 import Array, f64


def batch_normalization(
    x: npt.ArrayLike,
    scale: npt.ArrayLike,
    b: npt.ArrayLike,
    mean: npt.ArrayLike,
    var: npt.ArrayLike,
    epsilon: float = 1e-5,
) -> Array:
    """Inference, and a frozen layer in training: y = (x - mean) / sqrt(var + epsilon) * scale + b; all four (C)."""
    x = f64(x)
    scale, b, mean, var = (_per_channel(v, x) for v in (scale, b, mean, var))
    return (x - mean) / np.sqrt(var + epsilon) * scale + b


def batch_normalization_backward(
    dy: npt.ArrayLike,
    x: npt.ArrayLike,
    scale: npt.ArrayLike,
    mean: npt.ArrayLike,
    var: npt.ArrayLike,
    epsilon: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """The frozen layer: mean and var are constants. -> (dx, dscale, db)."""
    dy, x = f64(dy), f64(x)
    axes = (0, *range(2, x.ndim))
    inverse = 1 / np.sqrt(_per_channel(var, x) + epsilon)
    normalized = (x - _per_channel(mean, x)) * inverse
    return dy * _per_channel(scale, x) * inverse, (dy * normalized).sum(axis=axes), dy.sum(axis=axes)


def batch_normalization_training(
    x: npt.ArrayLike,
    scale: npt.ArrayLike,
    b: npt.ArrayLike,
    running_mean: npt.ArrayLike,
    running_var: npt.ArrayLike,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
) -> tuple[Array, Array, Array]:
    """training_mode=1: batch statistics, and running = running * momentum + batch * (1 - momentum).

    -> (y, new running mean, new running variance). The batch variance is the population one (divided by N, not N - 1)
    in both uses, as ONNX says; PyTorch takes N - 1 for the running variance and calls 1 - momentum its momentum.
    """
    x = f64(x)
    axes = (0, *range(2, x.ndim))
    mean, var = x.mean(axis=axes), x.var(axis=axes)
    y = batch_normalization(x, scale, b, mean, var, epsilon)
    new_mean = f64(running_mean) * momentum + mean * (1 - momentum)
    return y, new_mean, f64(running_var) * momentum + var * (1 - momentum)


def batch_normalization_training_backward(
    dy: npt.ArrayLike, x: npt.ArrayLike, scale: npt.ArrayLike, epsilon: float = 1e-5
) -> tuple[Array, Array, Array]:
    """-> (dx, dscale, db), with the batch statistics' share of dx (Ioffe and Szegedy, arXiv 1502.03167, section 3)."""
    dy, x = f64(dy), f64(x)
    axes = (0, *range(2, x.ndim))
    count = x.size // x.shape[1]
    deviation = x - x.mean(axis=axes, keepdims=True)
    var = x.var(axis=axes, keepdims=True)
    d_normalized = dy * _per_channel(scale, x)
    d_var = (d_normalized * deviation).sum(axis=axes, keepdims=True) * -0.5 * (var + epsilon) ** -1.5
    # The term through var that the paper adds here is a multiple of sum(x - mean), which is zero.
    d_mean = -(d_normalized / np.sqrt(var + epsilon)).sum(axis=axes, keepdims=True)
    dx = d_normalized / np.sqrt(var + epsilon) + d_var * 2 * deviation / count + d_mean / count
    return dx, (dy * deviation / np.sqrt(var + epsilon)).sum(axis=axes), dy.sum(axis=axes)


def dropout(x: npt.ArrayLike, mask: npt.ArrayLike, ratio: float = 0.5) -> Array:
    """Inverted dropout in training: what the mask (True or 1: kept) keeps is divided by 1 - ratio."""
    return f64(x) * f64(mask) / (1 - ratio)


def dropout_backward(dy: npt.ArrayLike, mask: npt.ArrayLike, ratio: float = 0.5) -> Array:
    return f64(dy) * f64(mask) / (1 - ratio)


def lrn(x: npt.ArrayLike, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Array:
    """y = x / (bias + alpha / size * sum of x^2 over `size` channels around)^beta."""
    x = f64(x)
    return x / _lrn_base(x, size, alpha, bias) ** beta


def lrn_backward(
    dy: npt.ArrayLike, x: npt.ArrayLike, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0
) -> Array:
    dy, x = f64(dy), f64(x)
    base = _lrn_base(x, size, alpha, bias)
    dx = dy * base**-beta
    for c in range(x.shape[1]):
        around = _lrn_channels(c, size, x.shape[1])
        # y[c] depends on every x[j] around c through base[c].
        d_base = dy[:, c] * x[:, c] * -beta * base[:, c] ** (-beta - 1)
        dx[:, around] += d_base[:, None] * alpha / size * 2 * x[:, around]
    return dx


def _lrn_channels(c: int, size: int, channels: int) -> slice:
    """Channels c - floor((size - 1) / 2) to c + ceil((size - 1) / 2), both included."""
    return slice(max(0, c - (size - 1) // 2), min(channels - 1, c + size // 2) + 1)


def _lrn_base(x: Array, size: int, alpha: float, bias: float) -> Array:
    base = np.empty_like(x)
    for c in range(x.shape[1]):
        base[:, c] = bias + alpha / size * (x[:, _lrn_channels(c, size, x.shape[1])] ** 2).sum(axis=1)
    return base


def _per_channel(v: npt.ArrayLike, x: Array) -> Array:
    """(C) -> (C, 1...), which broadcasts against x (N, C, spatial...)."""
    return f64(v).reshape(-1, *[1] * (x.ndim - 2))
