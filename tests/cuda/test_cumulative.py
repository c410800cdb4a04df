"""CumSum and CumProd on a GPU against NumPy: a thread for each line, and a block for each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import Case

RNG = np.random.default_rng(10)
SHAPES = [((7,), 0), ((2, 40), 1), ((33, 2), 0), ((2, 5, 33), 1)]


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize(("op", "dtype"), [("CumSum", np.float32), ("CumProd", np.float64)])
def test_cumulative(op: str, shape: tuple[int, ...], axis: int, reverse: int, exclusive: int, dtype: Any) -> None:
    x = RNG.uniform(0.5, 1.5, shape).astype(dtype)
    attrs = {"exclusive": exclusive, "reverse": reverse}
    (y,) = Case(op, [x, np.array(axis)], attrs, weights=(1,), dtype=dtype, opset=26, device="cuda").run()
    wanted = np.flip(x, axis) if reverse else x
    if exclusive:
        start = np.full_like(np.take(wanted, [0], axis), 0 if op == "CumSum" else 1)
        wanted = np.concatenate([start, np.take(wanted, range(shape[axis] - 1), axis)], axis)
    wanted = (np.cumsum if op == "CumSum" else np.cumprod)(wanted.astype(np.float64), axis)
    wanted = np.flip(wanted, axis) if reverse else wanted
    np.testing.assert_allclose(y, wanted, rtol=1e-5 if dtype is np.float32 else 1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradient_of_sums(dtype: Any) -> None:
    """Each element is in the sums from its own on."""
    x, dy = RNG.standard_normal((2, 3, 45)).astype(dtype)
    case = Case("CumSum", [x, np.array(1)], weights=(1,), dtype=dtype, device="cuda")
    _, (dx,) = case.run_training([dy])
    np.testing.assert_allclose(dx, dy[:, ::-1].cumsum(1)[:, ::-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize(("shape", "dtype"), [((3, 5, 2), np.float32), ((2, 45), np.float32), ((2, 45), np.float64)])
def test_gradient_of_products(shape: tuple[int, ...], reverse: int, exclusive: int, dtype: Any) -> None:
    """By the definition: each element's derivative is the product of the others. With zeros."""
    x, dy = RNG.uniform(0.5, 1.5, shape).astype(dtype), RNG.standard_normal(shape).astype(dtype)
    x[RNG.random(shape) < 0.1] = 0
    attrs = {"exclusive": exclusive, "reverse": reverse}
    case = Case("CumProd", [x, np.array(1)], attrs, weights=(1,), dtype=dtype, opset=26, device="cuda")
    _, (dx,) = case.run_training([dy])
    factors, given = (np.moveaxis(np.flip(a, 1) if reverse else a, 1, 0).astype(np.float64) for a in (x, dy))
    wanted = np.zeros_like(factors)
    for last in range(len(factors)):
        for one in range(last + 1 - exclusive):
            others = [k for k in range(last + 1 - exclusive) if k != one]
            wanted[one] += given[last] * factors[others].prod(0)
    wanted = np.moveaxis(wanted, 0, 1)
    wanted = np.flip(wanted, 1) if reverse else wanted
    near = 1e-4 if dtype is np.float32 else 1e-12
    np.testing.assert_allclose(dx, wanted, rtol=near, atol=near)
