"""ONNX operators of one input, element by element, and the two that normalize an axis: Softmax and LogSoftmax.

Forward `op(x, attributes)`, backward `op_backward(dy, x, attributes) -> dx`. At a kink the derivative is PyTorch's.
Abs ends in an underscore, as it bears the name of a Python builtin.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from reference._float64 import Array, f64, unbroadcast

SELU_ALPHA = 1.67326319217681884765625  # the default values in ONNX Selu-22
SELU_GAMMA = 1.05070102214813232421875


def relu(x: npt.ArrayLike) -> Array:
    return np.maximum(f64(x), 0.0)


def relu_backward(dy: npt.ArrayLike, x: npt.ArrayLike) -> Array:
    return f64(dy) * (f64(x) > 0)


def leaky_relu(x: npt.ArrayLike, alpha: float = 0.01) -> Array:
    return np.where(f64(x) > 0, f64(x), alpha * f64(x))


def leaky_relu_backward(dy: npt.ArrayLike, x: npt.ArrayLike, alpha: float = 0.01) -> Array:
    return f64(dy) * np.where(f64(x) > 0, 1.0, alpha)


def prelu(x: npt.ArrayLike, slope: npt.ArrayLike) -> Array:
    """slope broadcasts to x, such as (C, 1, 1) to (N, C, H, W)."""
    return np.where(f64(x) > 0, f64(x), f64(slope) * f64(x))


def prelu_backward(dy: npt.ArrayLike, x: npt.ArrayLike, slope: npt.ArrayLike) -> tuple[Array, Array]:
    """-> (dx, dslope)."""
    dy, x, slope = f64(dy), f64(x), f64(slope)
    return dy * np.where(x > 0, 1.0, slope), unbroadcast(np.where(x > 0, 0.0, dy * x), slope.shape)


def elu(x: npt.ArrayLike, alpha: float = 1.0) -> Array:
    x = f64(x)
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def elu_backward(dy: npt.ArrayLike, x: npt.ArrayLike, alpha: float = 1.0) -> Array:
    x = f64(x)
    return f64(dy) * np.where(x > 0, 1.0, alpha * np.exp(np.minimum(x, 0.0)))


def selu(x: npt.ArrayLike, alpha: float = SELU_ALPHA, gamma: float = SELU_GAMMA) -> Array:
    return gamma * elu(x, alpha)


def selu_backward(dy: npt.ArrayLike, x: npt.ArrayLike, alpha: float = SELU_ALPHA, gamma: float = SELU_GAMMA) -> Array:
    return gamma * elu_backward(dy, x, alpha)


def sigmoid(x: npt.ArrayLike) -> Array:
    """1 / (1 + exp(-x)), written with tanh, which never overflows."""
    return 0.5 * (1 + np.tanh(0.5 * f64(x)))


def sigmoid_backward(dy: npt.ArrayLike, x: npt.ArrayLike) -> Array:
    # 1 - sigmoid(x) = sigmoid(-x), without the cancellation.
    return f64(dy) * sigmoid(x) * sigmoid(-f64(x))


def hard_sigmoid(x: npt.ArrayLike, alpha: float = 0.2, beta: float = 0.5) -> Array:
    return np.clip(alpha * f64(x) + beta, 0.0, 1.0)


def hard_sigmoid_backward(dy: npt.ArrayLike, x: npt.ArrayLike, alpha: float = 0.2, beta: float = 0.5) -> Array:
    line = alpha * f64(x) + beta
    return f64(dy) * alpha * ((line > 0) & (line < 1))


def tanh(x: npt.ArrayLike) -> Array:
    return np.tanh(f64(x))


def tanh_backward(dy: npt.ArrayLike, x: npt.ArrayLike) -> Array:
    return f64(dy) * (1 - np.tanh(f64(x)) ** 2)


def softplus(x: npt.ArrayLike) -> Array:
    """log(1 + exp(x))."""
    return np.logaddexp(0.0, f64(x))


def softplus_backward(dy: npt.ArrayLike, x: npt.ArrayLike) -> Array:
    return f64(dy) * sigmoid(x)


def softsign(x: npt.ArrayLike) -> Array:
    return f64(x) / (1 + np.abs(f64(x)))


def softsign_backward(dy: npt.ArrayLike, x: npt.ArrayLike) -> Array:
    return f64(dy) / (1 + np.abs(f64(x))) ** 2


def erf(x: npt.ArrayLike) -> Array:
    return f64(np.vectorize(math.erf, otypes=[float])(f64(x)))


def erf_backward(dy: npt.ArrayLike, x: npt.ArrayLike) -> Array:
    return f64(dy) * 2 / np.sqrt(np.pi) * np.exp(-(f64(x) ** 2))


def clip(x: npt.ArrayLike, min: float | None = None, max: float | None = None) -> Array:
    """min(max(x, `min`), `max`), in this order: `max` wins where the two cross."""
    y = f64(x)
    y = y if min is None else np.maximum(y, min)
    return y if max is None else np.minimum(y, max)


def clip_backward(dy: npt.ArrayLike, x: npt.ArrayLike, min: float | None = None, max: float | None = None) -> Array:
    """The bounds themselves let the gradient through."""
    low = -np.inf if min is None else min
    high = np.inf if max is None else max
    return f64(dy) * ((f64(x) >= low) & (f64(x) <= high))


def sign(x: npt.ArrayLike) -> Array:
    return np.sign(f64(x))


def sign_backward(dy: npt.ArrayLike, x: npt.ArrayLike) -> Array:
    return np.zeros_like(f64(x))


def abs_(x: npt.ArrayLike) -> Array:
    return np.abs(f64(x))


def abs_backward(dy: npt.ArrayLike, x: npt.ArrayLike) -> Array:
    return f64(dy) * np.sign(f64(x))


def neg(x: npt.ArrayLike) -> Array:
    return -f64(x)


def neg_backward(dy: npt.ArrayLike, x: npt.ArrayLike) -> Array:
    return -f64(dy)


def exp(x: npt.ArrayLike) -> Array:
    return np.exp(f64(x))


def exp_backward(dy: npt.ArrayLike, x: npt.ArrayLike) -> Array:
    return f64(dy) * np.exp(f64(x))


def log(x: npt.ArrayLike) -> Array:
    return np.log(f64(x))


def log_backward(dy: npt.ArrayLike, x: npt.ArrayLike) -> Array:
    return f64(dy) / f64(x)


def sqrt(x: npt.ArrayLike) -> Array:
    return np.sqrt(f64(x))


def sqrt_backward(dy: npt.ArrayLike, x: npt.ArrayLike) -> Array:
    return f64(dy) / (2 * np.sqrt(f64(x)))


def softmax(x: npt.ArrayLike, axis: int = -1) -> Array:
    """Softmax-13: along one axis (before opset 13: reshape to two dimensions first)."""
    return np.exp(log_softmax(x, axis))


def softmax_backward(dy: npt.ArrayLike, x: npt.ArrayLike, axis: int = -1) -> Array:
    dy, y = f64(dy), softmax(x, axis)
    return y * (dy - (dy * y).sum(axis=axis, keepdims=True))


def log_softmax(x: npt.ArrayLike, axis: int = -1) -> Array:
    shifted = f64(x) - f64(x).max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def log_softmax_backward(dy: npt.ArrayLike, x: npt.ArrayLike, axis: int = -1) -> Array:
    return f64(dy) - softmax(x, axis) * f64(dy).sum(axis=axis, keepdims=True)
