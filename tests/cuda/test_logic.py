"""Comparisons of floats on a GPU against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness import Case

RNG = np.random.default_rng(3)
OPS: dict[str, Callable[..., Any]] = {
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shapes", [((299,), (299,)), ((2, 5, 3, 4), (5, 1, 1)), ((3, 1, 5), (1, 4, 1)), ((), (6, 8))])
@pytest.mark.parametrize("op", OPS)
def test_comparisons(op: str, shapes: tuple[tuple[int, ...], tuple[int, ...]], dtype: Any) -> None:
    a, b = (np.asarray(RNG.integers(-2, 3, shape)).astype(dtype) for shape in shapes)
    (y,) = Case(op, [a, b], dtype=dtype, device="cuda").run()
    np.testing.assert_array_equal(y, OPS[op](a, b))


@pytest.mark.parametrize("op", OPS)
def test_nan_and_infinity(op: str) -> None:
    values = np.array([0, 1, -0.0, np.inf, -np.inf, np.nan], np.float32)
    a, b = np.repeat(values, 6), np.tile(values, 6)
    (y,) = Case(op, [a, b], device="cuda").run()
    np.testing.assert_array_equal(y, OPS[op](a, b))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
@pytest.mark.parametrize("op", OPS)
def test_integers(op: str, dtype: Any) -> None:
    a, b = RNG.integers(0, 3, (2, 3, 7)).astype(dtype)
    (y,) = Case(op, [a, b], device="cuda").run()
    np.testing.assert_array_equal(y, OPS[op](a, b))
