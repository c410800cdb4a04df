"""Pooling on a GPU, forward and backward, against the float64 oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from harness import Case

DTYPES = (np.float32, np.float64)
FUNCTIONS = {"MaxPool": "max_pool", "AveragePool": "average_pool", "LpPool": "lp_pool"}

# (input shape, attributes): windows that overlap, leave gaps, tile the picture, reach into the padding.
WINDOWS: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((1, 1, 2, 1), {"kernel_shape": [1, 1]}),
    ((1, 5, 4, 6), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ((2, 9, 5, 4), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((2, 8, 5, 4), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((1, 12, 4, 6), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ((1, 3, 5, 6), {"kernel_shape": [3, 2], "strides": [1, 1], "pads": [0, 1, 2, 0]}),
    ((1, 2, 6, 7), {"kernel_shape": [2, 3], "strides": [3, 2], "pads": [1, 2, 1, 1], "dilations": [3, 2]}),
    ((1, 3, 6, 6), {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
    ((2, 5, 9), {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}),
    ((1, 3, 3, 4, 3), {"kernel_shape": [2, 3, 2], "strides": [2, 1, 1], "pads": [1, 1, 0, 0, 1, 1]}),
]


def rounding(dtype: Any) -> float:
    return 2e-5 if dtype == np.float32 else 1e-12


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "attrs"), WINDOWS)
@pytest.mark.parametrize("op", FUNCTIONS)
def test_pool(op: str, shape: tuple[int, ...], attrs: dict[str, Any], dtype: Any) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal(shape).astype(dtype)
    y = getattr(reference, FUNCTIONS[op])(x, **attrs)
    dy = rng.standard_normal(y.shape).astype(dtype)
    dx = getattr(reference, f"{FUNCTIONS[op]}_backward")(dy, x, **attrs)
    case = Case(op, [x], attrs, opset=22, dtype=dtype, device="cuda")
    (got,), ((trained,), (got_dx,)) = case.run(), case.run_training([dy])
    np.testing.assert_allclose(got, y, rtol=rounding(dtype), atol=rounding(dtype))
    np.testing.assert_allclose(trained, y, rtol=rounding(dtype), atol=rounding(dtype))
    np.testing.assert_allclose(got_dx, dx, rtol=rounding(dtype), atol=rounding(dtype))


@pytest.mark.parametrize("power", [1, 3])
def test_other_norms(power: int) -> None:
    rng = np.random.default_rng(2)
    x, attrs = rng.standard_normal((1, 3, 4, 4)), {"kernel_shape": [2, 2], "p": power}
    y = reference.lp_pool(x, **attrs)
    dy = rng.standard_normal(y.shape)
    (got,), (got_dx,) = Case("LpPool", [x], attrs, opset=22, dtype=np.float64, device="cuda").run_training([dy])
    np.testing.assert_allclose(got, y, rtol=1e-12)
    np.testing.assert_allclose(got_dx, reference.lp_pool_backward(dy, x, **attrs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("op", ["GlobalMaxPool", "GlobalLpPool"])
def test_global_pool(op: str) -> None:
    x = np.random.default_rng(3).standard_normal((2, 3, 3, 4))
    y = x.max((2, 3), keepdims=True) if op == "GlobalMaxPool" else np.sqrt((x * x).sum((2, 3), keepdims=True))
    (got,) = Case(op, [x], dtype=np.float64, device="cuda").run()
    np.testing.assert_allclose(got, y, rtol=1e-12)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("attrs", [{"strides": [2, 2]}, {"pads": [1, 0, 0, 1]}])
def test_the_first_of_equals_is_named_and_gets_the_gradient(attrs: dict[str, Any], order: int) -> None:
    rng, attrs = np.random.default_rng(4), {"kernel_shape": [2, 2], **attrs}
    x = rng.integers(-2, 3, (2, 3, 4, 4)).astype(np.float32)
    y = reference.max_pool(x, **attrs)
    case = Case("MaxPool", [x], attrs | {"storage_order": order}, outputs=2, opset=12, device="cuda")
    dy = rng.standard_normal(y.shape)
    got, indices = case.run()
    _, (dx,) = Case("MaxPool", [x], attrs, opset=12, device="cuda").run_training([dy.astype(np.float32)])
    np.testing.assert_array_equal(got, y)
    np.testing.assert_array_equal((x.swapaxes(2, 3) if order else x).reshape(-1)[indices], y)
    np.testing.assert_allclose(dx, reference.max_pool_backward(dy, x, **attrs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2])
def test_nan_wins_and_infinities_stay(stride: int) -> None:
    x = np.random.default_rng(5).standard_normal((1, 2, 4, 4)).astype(np.float32)
    x[0, 0, 1, 2], x[0, 0, 0, 0], x[0, 1, 3], x[0, 1, 0, :2] = np.nan, np.inf, -np.inf, np.nan
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2), (2, 3))[:, :, ::stride, ::stride]
    case = Case("MaxPool", [x], {"kernel_shape": [2, 2], "strides": [stride, stride]}, device="cuda")
    maxima = windows.max((-2, -1))
    (y,), ((trained,), (dx,)) = case.run(), case.run_training([np.ones_like(maxima)])
    np.testing.assert_array_equal(y, maxima)
    np.testing.assert_array_equal(trained, maxima)
    assert dx.sum() == y.size
    if stride == 2:
        assert dx[0, 0, 0, 0] == dx[0, 0, 1, 2] == dx[0, 1, 0, 0] == 1
