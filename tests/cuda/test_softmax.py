"""Softmax, LogSoftmax and Hardmax on a GPU, and the gradients, against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from harness import Case

TOLERANCE = {np.float32: 3e-6, np.float64: 1e-13}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "axis"), [((3, 10), 1), ((1, 150), -1), ((2, 5, 3, 2), 1), ((2, 33, 2), 2), ((4,), 0)]
)
@pytest.mark.parametrize(("op", "name"), [("Softmax", "softmax"), ("LogSoftmax", "log_softmax")])
def test_against_the_oracle(op: str, name: str, shape: tuple[int, ...], axis: int, dtype: Any) -> None:
    rng = np.random.default_rng(1)
    x, dy = (rng.standard_normal((2, *shape)) * 4).astype(dtype)
    case = Case(op, [x], {"axis": axis}, opset=13, dtype=dtype, device="cuda")
    (y,), (dx,) = case.run_training([dy])
    near: dict[str, Any] = {"rtol": TOLERANCE[dtype], "atol": 4 * TOLERANCE[dtype]}
    np.testing.assert_allclose(y, getattr(reference, name)(x, axis), **near)
    np.testing.assert_allclose(dx, getattr(reference, f"{name}_backward")(dy, x, axis), **near)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_nan_stays(op: str) -> None:
    x = np.zeros((2, 40), np.float32)
    x[0, 33] = np.nan
    (y,) = Case(op, [x], {"axis": 1}, opset=13, device="cuda").run()
    assert np.isnan(y[0]).all() and np.isfinite(y[1]).all()


def test_large_inputs_do_not_overflow() -> None:
    x = np.array([[1e4, 0, -1e4], [-1e30, 0, 1], [500, 500, 500]], np.float32)
    (y,) = Case("Softmax", [x], {"axis": 1}, opset=13, device="cuda").run()
    np.testing.assert_allclose(y, reference.softmax(x, 1), rtol=3e-6, atol=3e-6)


def test_hardmax_finds_the_first_of_the_largest() -> None:
    x = np.array([[1, 3, 3, 2], [0, 0, 0, 0], [-1, -3, -1, -0.5]], np.float32)
    (y,) = Case("Hardmax", [x], {"axis": 1}, opset=13, device="cuda").run()
    np.testing.assert_array_equal(y, [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
