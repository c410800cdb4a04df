"""Gather of known indices and Resize on a GPU: products with sparse matrices, against NumPy and the float64 oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from harness import Case

RNG = np.random.default_rng(41)
DTYPES = (np.float32, np.float64)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "axis"), [((4, 3), 0), ((2, 5, 3), 1), ((2, 3, 11), 2)])
def test_gather(shape: tuple[int, ...], axis: int, dtype: Any) -> None:
    x, indices = RNG.standard_normal(shape).astype(dtype), np.array([1, 0, -1, 1])
    dy = RNG.standard_normal(np.take(x, indices, axis).shape).astype(dtype)
    case = Case("Gather", [x, indices], {"axis": axis}, weights=(1,), dtype=dtype, device="cuda")
    (y,), (dx,) = case.run_training([dy])
    np.testing.assert_array_equal(y, np.take(x, indices, axis))
    expected = np.zeros_like(x)
    np.add.at(np.moveaxis(expected, axis, 0), indices, np.moveaxis(dy, axis, 0))
    np.testing.assert_allclose(dx, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize(mode: str, dtype: Any) -> None:
    x = RNG.standard_normal((2, 5, 3, 4)).astype(dtype)
    scales = np.array([1, 1, 2, 1.5], np.float32)
    want = reference.resize(x, scales=scales, mode=mode)
    dy = RNG.standard_normal(want.shape).astype(dtype)
    case = Case("Resize", [x, None, scales], {"mode": mode}, weights=(2,), dtype=dtype, device="cuda")
    (y,), (dx,) = case.run_training([dy])
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dx, reference.resize_backward(dy, x, scales=scales, mode=mode), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_whole_numbers(dtype: Any) -> None:
    x = RNG.integers(0, 100, (2, 5, 3)).astype(dtype)
    (y,) = Case("Gather", [x, np.array([4, 0, 4])], {"axis": 1}, weights=(1,), device="cuda").run()
    np.testing.assert_array_equal(y, x[:, [4, 0, 4]])
