"""Losses, each -> (mean loss, gradient by the prediction), and the penalties on weights, each -> (value, gradient)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reference._float64 import Array, f64
from reference.elementwise import log_softmax, sigmoid

Loss = tuple[float, Array]


def softmax_cross_entropy(logits: npt.ArrayLike, target: npt.ArrayLike) -> Loss:
    """logits (N, C, d...); target: class numbers (N, d...), or one-hot or soft labels (N, C, d...).

    The mean over all N * d... positions of -sum_c target_c log softmax(logits)_c, as torch.nn.CrossEntropyLoss.
    """
    logits = f64(logits)
    classes = logits.shape[1]
    labels = np.asarray(target)
    if labels.shape != logits.shape:
        labels = np.moveaxis(np.eye(classes)[labels], -1, 1)
    labels = f64(labels)
    count = logits.size // classes
    log_probability = log_softmax(logits, axis=1)
    loss = -(labels * log_probability).sum() / count
    return float(loss), (np.exp(log_probability) * labels.sum(axis=1, keepdims=True) - labels) / count


def squared_error(pred: npt.ArrayLike, target: npt.ArrayLike) -> Loss:
    """The mean over all elements of (pred - target)^2, as torch.nn.MSELoss."""
    error = f64(pred) - f64(target)
    return float((error**2).mean()), 2 * error / error.size


def binary_cross_entropy(prob: npt.ArrayLike, target: npt.ArrayLike) -> Loss:
    """The mean over all elements of -(t log p + (1 - t) log(1 - p)), as torch.nn.BCELoss.

    Its two guards too: a logarithm is at least -100, and the gradient's denominator p (1 - p) at least 1e-12.
    """
    p, t = f64(prob), f64(target)
    with np.errstate(divide="ignore"):
        loss = -(t * np.maximum(np.log(p), -100) + (1 - t) * np.maximum(np.log1p(-p), -100)).mean()
    return float(loss), (p - t) / np.maximum(p * (1 - p), 1e-12) / p.size


def binary_cross_entropy_with_logits(logits: npt.ArrayLike, target: npt.ArrayLike) -> Loss:
    """binary_cross_entropy of sigmoid(logits), without its overflow: log(1 + exp(x)) - t x."""
    x, t = f64(logits), f64(target)
    return float((np.logaddexp(0.0, x) - t * x).mean()), (sigmoid(x) - t) / x.size


def l1(w: npt.ArrayLike, strength: float) -> Loss:
    """strength * sum |w|."""
    return float(strength * np.abs(f64(w)).sum()), strength * np.sign(f64(w))


def l2(w: npt.ArrayLike, strength: float) -> Loss:
    """strength / 2 * sum w^2, so that its gradient is strength * w: what SGD calls weight decay."""
    return float(strength / 2 * (f64(w) ** 2).sum()), strength * f64(w)
