"""MatMul of stacks of matrices on a GPU, and its gradients, which walk them in every order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from harness import Case

RNG = np.random.default_rng(4)
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}
SHAPES = [
    ((2, 3, 5), (2, 5, 4)),
    ((1, 19, 5), (2, 5, 1)),
    ((2, 1, 9, 5), (3, 5, 18)),
    ((2, 3, 1, 2, 1, 4), (3, 2, 2, 4, 2)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("first", "second"), SHAPES)
def test_matmul(first: tuple[int, ...], second: tuple[int, ...], dtype: Any) -> None:
    a, b = (RNG.standard_normal(shape).astype(dtype) for shape in (first, second))
    want = reference.matmul(a, b)
    dy = RNG.standard_normal(want.shape).astype(dtype)
    (y,), grads = Case("MatMul", [a, b], dtype=dtype, device="cuda").run_training([dy], (0, 1))
    for got, expected in zip([y, *grads], [want, *reference.matmul_backward(dy, a, b)], strict=True):
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_nan_stays_where_it_is() -> None:
    a, b = (RNG.standard_normal(shape).astype(np.float32) for shape in ((2, 3, 5), (2, 5, 4)))
    a[0, 1, 2] = np.nan
    (y,) = Case("MatMul", [a, b], device="cuda").run()
    np.testing.assert_array_equal(np.isnan(y), np.isnan(a @ b))
