"""Casts in NumPy between any two element types, by the rules of ONNX Cast."""

from __future__ import annotations

import numpy as np

from nbcnn.errors import ModelError
from nbcnn.graph import Node
from nbcnn.ops.element_types import is_text

__all__ = ["convert"]

BYTES = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz")
"""The floats that `saturate` is about."""
EXPONENT = 23
"""Where the exponent of a float32 begins."""


def convert(
    node: Node, x: np.ndarray, source: np.dtype, to: np.dtype, saturate: bool = True, round_mode: str = "up"
) -> np.ndarray:
    """x, whose type by the file is `source`, as `to`. Raises ModelError for text that is no number.

    saturate: what a float of a byte cannot hold becomes its largest number, not infinite or NaN. round_mode: of
    float8_e8m0, "up", "down" or "nearest".
    """
    if is_text(to):
        return _to_text(x, source)
    if is_text(x.dtype):
        return _from_text(node, x, to)
    x = _opened(x)
    if to.name == "float8_e8m0fnu":
        return _to_power_of_two(x, saturate, round_mode).view(to)
    if to.name in BYTES and saturate:
        return _saturated(x, to)
    return x.astype(to)


def _to_text(x: np.ndarray, source: np.dtype) -> np.ndarray:
    """Numbers as NumPy writes them in their own type, which is the shortest text that gives them back."""
    x = x if is_text(x.dtype) else x.astype(source)
    return np.array([_text(item) for item in x.reshape(-1)], object).reshape(x.shape)


def _text(item: object) -> str:
    return item.decode() if isinstance(item, bytes) else str(item)


def _from_text(node: Node, x: np.ndarray, to: np.dtype) -> np.ndarray:
    texts = [_text(item) for item in x.reshape(-1)]
    try:
        numbers = np.array([_number(text, to) for text in texts], np.float64 if to.kind in "fV" else object)
        return numbers.astype(to).reshape(x.shape)
    except (ValueError, OverflowError) as error:
        raise ModelError(f"{node.label}: a string cannot be cast to {to.name}: {error}") from None


def _number(text: str, to: np.dtype) -> float:
    try:
        return float(text) if to.kind in "fV" else int(text)
    except ValueError:
        return float(text) if to.kind == "b" else int(float(text))


def _saturated(x: np.ndarray, to: np.dtype) -> np.ndarray:
    import ml_dtypes

    largest = np.float32(ml_dtypes.finfo(to).max)
    return np.clip(x if x.dtype.kind == "f" else x.astype(np.float32), -largest, largest).astype(to)


def _opened(x: np.ndarray) -> np.ndarray:
    """Numbers of a type that NumPy itself does not have, in one that holds them all: few of those know each other."""
    if x.dtype.isbuiltin == 1:
        return x
    return x.astype({"int": np.int8, "uin": np.uint8}.get(x.dtype.name[:3], np.float32))


def _to_power_of_two(x: np.ndarray, saturate: bool, mode: str) -> np.ndarray:
    """The exponents of float8_e8m0: ONNX's tables for Cast, opset 24. Signs are dropped."""
    bits = x.astype(np.float32).view(np.uint32)
    exponent, rest = (bits >> EXPONENT) & 0xFF, bits & ((1 << EXPONENT) - 1)
    half = np.uint32(1 << (EXPONENT - 1))
    special = exponent == 0xFF
    up = (
        ~special
        & {
            "nearest": (rest > half) | ((rest == half) & (exponent > 0)),
            "up": rest > 0,
            "down": False,
        }[mode]
    )
    if saturate:
        up &= exponent != 0xFE
    return np.where(special, 0xFF, exponent + up).astype(np.uint8)
