"""BatchNormalization on a GPU against the float64 oracle: batch and running statistics, clamps and residuals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from harness import Case

DTYPES = (np.float32, np.float64)
SHAPES = [(2, 5, 3, 4), (3, 17, 2, 1), (1, 33, 2, 3), (1, 2, 16, 33), (2, 3, 5)]
EPSILON = 1e-3


def arguments(shape: tuple[int, ...], dtype: Any) -> list[np.ndarray]:
    """x with channels far from zero, scale, bias, running mean, running variance."""
    rng = np.random.default_rng(0)
    c = shape[1]
    x = rng.standard_normal(shape) * 2 + rng.standard_normal((1, c, *[1] * (len(shape) - 2))) * 5
    arrays = (x, rng.uniform(-2, 2, c), rng.standard_normal(c), rng.standard_normal(c), rng.uniform(0.3, 2, c))
    return [a.astype(dtype) for a in arrays]


def case(inputs: list[np.ndarray], dtype: Any) -> Case:
    return Case("BatchNormalization", [*inputs], {"epsilon": EPSILON}, (1, 2, 3, 4), dtype=dtype, device="cuda")


def close(got: np.ndarray, expected: np.ndarray, dtype: Any) -> None:
    """Differences beside the largest value: gradients are sums of terms that cancel."""
    tolerance = (3e-5 if dtype == np.float32 else 1e-10) * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_running_statistics(dtype: Any) -> None:
    inputs = arguments((2, 5, 3, 4), dtype)
    (y,) = case(inputs, dtype).run()
    close(y, reference.batch_normalization(*inputs, epsilon=EPSILON), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_training(shape: tuple[int, ...], dtype: Any) -> None:
    inputs = arguments(shape, dtype)
    dy = np.random.default_rng(1).standard_normal(shape).astype(dtype)
    (y,), grads = case(inputs, dtype).run_training([dy], (0, 1, 2))
    close(y, reference.batch_normalization_training(*inputs, epsilon=EPSILON)[0], dtype)
    expected = reference.batch_normalization_training_backward(dy, *inputs[:2], epsilon=EPSILON)
    for got, want in zip(grads, expected, strict=True):
        close(got, want, dtype)


def test_channels_far_from_zero() -> None:
    """What a difference of sums of squares would leave nothing of in float32."""
    x, scale, *others = arguments((1, 2, 17, 20), np.float32)
    x += np.float32(3000)
    (y,) = case([x, scale, *others], np.float32).run_training([np.ones_like(x)])[0]
    expected = reference.batch_normalization_training(x, scale, *others, epsilon=EPSILON)[0]
    np.testing.assert_allclose(y, expected, rtol=0, atol=3e-4)
