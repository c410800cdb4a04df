"""Rounding to narrower floats on a GPU, bit by bit."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from harness import Case

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
RNG = np.random.default_rng(5)
FLOATS: dict[str, tuple[int, Any]] = {"float16": (10, np.float16), "bfloat16": (16, ml_dtypes.bfloat16)}


def awkward(narrow: Any, dtype: Any) -> np.ndarray:
    """Numbers of a narrow type, the places half way between them, and next to these; special ones."""
    patterns = np.arange(0, 2**16, 331, dtype=np.uint16)
    numbers = patterns.view(narrow).astype(dtype)
    half = (numbers + (patterns + 1).astype(np.uint16).view(narrow).astype(dtype)) / 2
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 65504, 65519.99, 65520, 65535, 3.4e38, 3.39e38, 1e-45]
    found = [numbers, half, np.nextafter(half, dtype(np.inf)), np.nextafter(half, dtype(-np.inf)), special]
    return np.concatenate([np.asarray(a, dtype) for a in found])


@pytest.mark.parametrize("to", FLOATS)
def test_from_float32(to: str) -> None:
    code, narrow = FLOATS[to]
    x = awkward(narrow, np.float32)
    (y,) = Case("Cast", [x], {"to": code}, device="cuda").run()
    wanted = x.astype(narrow).astype(np.float32)
    np.testing.assert_array_equal(y, wanted)
    np.testing.assert_array_equal(np.signbit(y), np.signbit(wanted) if not np.isnan(wanted).any() else np.signbit(y))


def test_from_float64() -> None:
    """To float16, which NumPy rounds to at once."""
    x = awkward(np.float16, np.float64)
    (y,) = Case("Cast", [x], {"to": 10}, dtype=np.float64, device="cuda").run()
    np.testing.assert_array_equal(y, x.astype(np.float16).astype(np.float64))
