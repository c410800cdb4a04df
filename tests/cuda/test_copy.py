"""Copies and fills on a GPU: what Transpose, Concat, Slice, Expand and Pad come to."""

from __future__ import annotations

import numpy as np
import pytest
from harness import Case


@pytest.mark.parametrize("perm", [(1, 0, 2), (2, 1, 0), (0, 2, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_transpose(perm: tuple[int, ...], dtype: type) -> None:
    x = np.arange(2 * 5 * 7).reshape(2, 5, 7).astype(dtype)
    (y,) = Case("Transpose", [x], {"perm": perm}, device="cuda").run()
    np.testing.assert_array_equal(y, x.transpose(perm))


def test_concat_and_its_gradient() -> None:
    a, b = (np.random.default_rng(n).standard_normal((2, n, 3)) for n in (1, 4))
    dy = np.random.default_rng(0).standard_normal((2, 5, 3))
    case = Case("Concat", [a, b], {"axis": 1}, dtype=np.float64, device="cuda")
    (y,), (da, db) = case.run_training([dy], wanted=(0, 1))
    np.testing.assert_array_equal(y, np.concatenate([a, b], 1))
    np.testing.assert_array_equal(da, dy[:, :1])
    np.testing.assert_array_equal(db, dy[:, 1:])


def test_pad() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    (y,) = Case("Pad", [x, np.array([0, 0, 1, 2, 0, 0, 0, 1]), np.float32(7)], weights=(1, 2), device="cuda").run()
    np.testing.assert_array_equal(y, np.pad(x, [(0, 0), (0, 0), (1, 0), (2, 1)], constant_values=7))
