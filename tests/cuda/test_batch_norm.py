"""BatchNormalization on a GPU against the float64 oracle: batch and running statistics, clamps and residuals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from halves import EPSILON as ROUNDING
from halves import give, rounded, take
from harness import Case

from nbcnn.kernels.cuda import batch_norm, row_parts

DTYPES = (np.float32, np.float64)
SHAPES = [(2, 5, 3, 4), (3, 17, 2, 1), (1, 33, 2, 3), (1, 2, 16, 33), (2, 3, 5), (2, 12, 5, 5), (1, 36, 2, 3)]
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


@pytest.mark.parametrize(
    ("rows", "channels", "least", "residual", "kind"),
    [
        (37, 8, 64, True, "float16"),
        (37, 8, 64, False, "bfloat16"),
        (20, 6, 64, True, "bfloat16"),
        (50, 4, 2048, False, "float16"),
        (50, 4, 2048, True, None),
    ],
)
def test_kernels_of_16_bits(
    rows: int, channels: int, least: int, residual: bool, kind: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Statistics stay float32. With a residual, what the clamp let through is told by y, and kept as its gradient."""
    monkeypatch.setattr(row_parts, "ELEMENTS", least)  # few: sums in several parts
    rng = np.random.default_rng(2)
    x, added, dy = (rounded(rng.standard_normal((rows, channels)).astype(np.float32), kind) for _ in range(3))
    scale, bias = (rng.uniform(0.5, 2, channels).astype(np.float32) for _ in range(2))
    dims, settings = (rows, channels), (np.float32(EPSILON), np.float32(0), np.float32(2))
    none, device = give(np.empty(0, np.float32), None), [give(a, kind) for a in (x, dy)]
    added_device = give(added, kind) if residual else none
    factors = [give(a, None) for a in (scale, bias)]
    mean, var, dscale, dbias = (give(np.full(channels, np.nan, np.float32), None) for _ in range(4))
    y, dx, dz = (give(np.full((rows, channels), np.nan, np.float32), kind) for _ in range(3))
    partials = give(np.zeros(2 * channels * row_parts.parts_of(1, *dims)), None)

    batch_norm.batch_norm_statistics(device[0], mean, var, partials, dims)
    batch_norm.batch_norm_apply(device[0], *factors, mean, var, added_device, y, none, dims, *settings)
    operands = device[1], device[0], y if residual else none, *factors, mean, var, dscale, dbias
    batch_norm.batch_norm_sums(*operands, partials, none, dims, *settings)
    batch_norm.batch_norm_input_grad(*operands, dx, dz if residual else none, none, dims, *settings)

    inputs = x.astype(np.float64), scale, bias, bias, scale
    want = reference.batch_normalization_training(*inputs, epsilon=EPSILON)[0] + residual * added
    inside = (take(y) > 0) & (take(y) < 2) if residual else (want > 0) & (want < 2)
    behind = np.where(inside.reshape(dims), dy, 0)
    grads = reference.batch_normalization_training_backward(behind.astype(np.float64), *inputs[:2], epsilon=EPSILON)
    got = [take(a) for a in (y, dx, dscale, dbias)]
    for found, expected, kept in zip(got, [np.clip(want, 0, 2), *grads], [kind, kind, None, None], strict=True):
        np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1.01 * ROUNDING[kept], atol=1e-4)
    if residual:
        np.testing.assert_array_equal(take(dz).reshape(behind.shape), behind)
