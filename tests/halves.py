"""Arrays of 16 bits for tests of kernels: rounded on the host, and kept so on the device."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbcnn.kernels.cuda import runtime
from nbcnn.kernels.cuda.halves import KINDS, HalfArray, is_half

__all__ = ["EPSILON", "give", "rounded", "take"]

EPSILON = {None: 0.0, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""What rounding to nearest costs at the most, as a part of the number."""


def rounded(array: np.ndarray, kind: str | None) -> np.ndarray:
    """float32 as an array of a kind holds it; None: as it is."""
    return array if kind is None else array.astype(KINDS[kind]).astype(np.float32)


def give(array: np.ndarray, kind: str | None) -> Any:
    """An array on the device, flat, in 16 bits if a kind is given."""
    flat = np.ascontiguousarray(array).reshape(-1)
    if kind is None:
        return runtime.upload(flat)
    return HalfArray(runtime.upload(flat.astype(KINDS[kind]).view(np.uint16)), kind)


def take(array: Any) -> np.ndarray:
    """What `give` gave, as float32."""
    if is_half(array):
        return runtime.download(array.bits).view(array.kept).astype(np.float32)
    return runtime.download(array)
