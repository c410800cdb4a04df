"""Where on a GPU against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import Case

RNG = np.random.default_rng(2)
SHAPES: list[tuple[tuple[int, ...], ...]] = [
    ((300,), (300,), (300,)),
    ((2, 5, 3, 4), (2, 5, 3, 4), ()),
    ((5, 1, 1), (2, 5, 3, 4), (2, 1, 1, 4)),
    ((), (2, 5, 3), (5, 1)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shapes", SHAPES)
def test_where(shapes: tuple[tuple[int, ...], ...], dtype: Any) -> None:
    c = np.asarray(RNG.integers(0, 2, shapes[0])).astype(bool)
    a, b = (np.asarray(RNG.standard_normal(shape)).astype(dtype) for shape in shapes[1:])
    (y,) = Case("Where", [c, a, b], dtype=dtype, device="cuda").run()
    np.testing.assert_array_equal(y, np.where(c, a, b))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients(dtype: Any) -> None:
    c = RNG.integers(0, 2, (3, 41)).astype(bool)
    a, b, dy = RNG.standard_normal((3, 3, 41)).astype(dtype)
    _, (da, db) = Case("Where", [c, a, b], dtype=dtype, device="cuda").run_training([dy], wanted=(1, 2))
    np.testing.assert_array_equal(da, np.where(c, dy, 0))
    np.testing.assert_array_equal(db, np.where(c, 0, dy))


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.bool_])
def test_numbers_of_any_type(dtype: Any) -> None:
    c = RNG.integers(0, 2, (3, 1)).astype(bool)
    a, b = RNG.integers(0, 2, (2, 3, 7)).astype(dtype)
    (y,) = Case("Where", [c, a, b], device="cuda").run()
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, np.where(c, a, b))
