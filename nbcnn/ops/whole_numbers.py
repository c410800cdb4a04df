"""Arithmetic on integers in NumPy, as ONNX has it: elements keep their type, overflow wraps around.

These are the values of shape arithmetic, and masks and indices of networks; floats have kernels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nbcnn.errors import ModelError

__all__ = ["Fold", "divide", "modulo", "power", "remainder"]

Fold = Callable[[np.ndarray, np.ndarray], np.ndarray]


def divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """ONNX Div: integers are truncated toward zero. Raises ModelError for an integer divided by zero."""
    if a.dtype.kind == "f":
        return np.divide(a, b)
    _refuse_zero(b)
    quotient, rest = np.floor_divide(a, b), np.remainder(a, b)
    up = (rest != 0) & ((a < 0) ^ (b < 0))
    return np.add(quotient, up.astype(quotient.dtype))


def modulo(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """ONNX Mod: the sign of the divisor."""
    if a.dtype.kind != "f":
        _refuse_zero(b)
    return np.mod(a, b)


def remainder(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """ONNX Mod with fmod=1: the sign of the dividend."""
    if a.dtype.kind != "f":
        _refuse_zero(b)
    return np.fmod(a, b)


def power(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """ONNX Pow: of the type of a, whatever the exponent's is; what is no integer is truncated toward zero."""
    if "f" in (a.dtype.kind, b.dtype.kind):
        return np.power(a, b).astype(a.dtype)
    wide = np.uint64 if a.dtype.kind == "u" else np.int64
    base, exponent = a.astype(wide), b.astype(np.int64)
    whole = np.power(base, np.maximum(exponent, 0).astype(wide))
    odd = np.where(exponent % 2 == 0, base * base, base)
    inverse = np.where(base * base == 1, odd, 0)  # 1 and -1 alone have one that is an integer
    return np.where(exponent < 0, inverse, whole).astype(a.dtype)


def _refuse_zero(b: np.ndarray) -> None:
    if not b.all():
        raise ModelError("an integer is divided by zero")
