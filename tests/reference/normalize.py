"""ONNX InstanceNormalization-22, GroupNormalization-21, LayerNormalization-17, RMSNormalization-23,
MeanVarianceNormalization-13 and LpNormalization-22.

All divide what is left of x, after its mean is taken off, by some size of it; both over axes that are taken as one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from reference._float64 import Array, f64

CENTERED = ("InstanceNormalization", "GroupNormalization", "LayerNormalization", "MeanVarianceNormalization")


def normalize(
    op: str, x: npt.ArrayLike, axes: Sequence[int], epsilon: float = 0.0, p: int = 2
) -> tuple[Array, Array, Array]:
    """-> (normalized x, mean, what it was multiplied with), the last two with ones for the axes."""
    x, axes = f64(x), tuple(axes)
    mean = x.mean(axis=axes, keepdims=True) if op in CENTERED else np.zeros((1,) * x.ndim)
    left = x - mean
    if op == "LpNormalization":
        size = np.linalg.norm(left, ord=p, axis=axes[0], keepdims=True)
    elif op == "MeanVarianceNormalization":
        size = np.sqrt((left**2).mean(axis=axes, keepdims=True)) + 1e-9
    else:
        size = np.sqrt((left**2).mean(axis=axes, keepdims=True) + epsilon)
    inverse = np.divide(1, size, out=np.zeros_like(size), where=size != 0)
    return left * inverse, mean, inverse


def normalize_backward(
    dy: npt.ArrayLike, op: str, x: npt.ArrayLike, axes: Sequence[int], epsilon: float = 0.0, p: int = 2
) -> Array:
    """The gradient by x, from the derivative of a quotient: dx = (dy - y' * sum(dy * y)) / size, less its mean where
    the mean was taken off; y' is the derivative of the size by x.
    """
    dy, x, axes = f64(dy), f64(x), tuple(axes)
    y, mean, inverse = normalize(op, x, axes, epsilon, p)
    along = (dy * y).sum(axis=axes, keepdims=True)
    if op == "LpNormalization":
        slope = np.sign(x) if p == 1 else y
    else:
        slope = (x - mean) * inverse / np.prod([x.shape[axis] for axis in axes])
    dx = (dy - slope * along) * inverse
    return dx - dx.mean(axis=axes, keepdims=True) if op in CENTERED else dx
