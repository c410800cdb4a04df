"""Normalizations on a GPU and their gradients against the float64 oracle: of lines, and of columns (channels last)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from channels_last import ChannelsLast
from harness import Case
from reference.normalize import normalize, normalize_backward

TOLERANCE = {np.float32: 3e-5, np.float64: 1e-11}
EPSILON = 1e-3


@pytest.mark.parametrize(
    ("kind", "shape", "groups", "dtype"),
    [
        (Case, (2, 6, 3, 2), 0, np.float64),
        (Case, (2, 6, 10), 2, np.float32),
        (Case, (1, 4), 2, np.float64),
        (ChannelsLast, (2, 6, 3, 2), 0, np.float64),
        (ChannelsLast, (2, 6, 3, 2), 2, np.float32),
        (ChannelsLast, (1, 2, 9, 40), 1, np.float64),
    ],
)
def test_groups_of_channels(kind: type[Case], shape: tuple[int, ...], groups: int, dtype: Any) -> None:
    """InstanceNormalization (groups 0: as many as there are channels) and GroupNormalization."""
    rng = np.random.default_rng(1)
    op = "GroupNormalization" if groups else "InstanceNormalization"
    n, channels = shape[:2]
    x, dy = (rng.standard_normal((2, *shape)) * 2 + 3).astype(dtype)
    scale, bias = rng.standard_normal((2, channels)).astype(dtype)
    attrs = {"epsilon": EPSILON} | ({"num_groups": groups} if groups else {})
    case = kind(op, [x, scale, bias], attrs, weights=(1, 2), opset=21, dtype=dtype, device="cuda")
    apart = x.reshape(n, groups or channels, channels // (groups or channels), *shape[2:])
    axes = tuple(range(2, apart.ndim))
    near: dict[str, Any] = {"rtol": 10 * TOLERANCE[dtype], "atol": 10 * TOLERANCE[dtype]}

    def wide(v: np.ndarray) -> np.ndarray:
        return v.astype(np.float64).reshape(1, channels, *(1,) * (len(shape) - 2))

    normalized = normalize(op, apart, axes, EPSILON)[0].reshape(shape)
    (y,), (dx, dscale, dbias) = case.run_training([dy], (0, 1, 2))
    np.testing.assert_allclose(y, normalized * wide(scale) + wide(bias), **near)
    grad = (dy * wide(scale)).reshape(apart.shape)
    np.testing.assert_allclose(dx, normalize_backward(grad, op, apart, axes, EPSILON).reshape(shape), **near)
    others = (0, *range(2, len(shape)))
    loose = {"rtol": near["rtol"], "atol": near["atol"] * 10}
    np.testing.assert_allclose(dscale, (dy * normalized).sum(axis=others), **loose)
    np.testing.assert_allclose(dbias, dy.astype(np.float64).sum(axis=others), **loose)


@pytest.mark.parametrize(
    ("op", "shape", "dtype"),
    [
        ("LayerNormalization", (2, 3, 5), np.float64),
        ("LayerNormalization", (70, 3), np.float32),
        ("LayerNormalization", (2, 45), np.float32),
        ("RMSNormalization", (2, 45), np.float64),
        ("RMSNormalization", (5, 1), np.float32),
    ],
)
def test_last_axis(op: str, shape: tuple[int, ...], dtype: Any) -> None:
    rng = np.random.default_rng(3)
    x, dy = (rng.standard_normal((2, *shape)) * 2 + 1).astype(dtype)
    parameters = [rng.standard_normal(shape[-1:]).astype(dtype) for _ in range(1 if op.startswith("RMS") else 2)]
    wanted = tuple(range(len(parameters) + 1))
    case = Case(op, [x, *parameters], {"epsilon": EPSILON}, wanted[1:], opset=23, dtype=dtype, device="cuda")
    axes = (len(shape) - 1,)
    near: dict[str, Any] = {"rtol": 10 * TOLERANCE[dtype], "atol": 10 * TOLERANCE[dtype]}
    scale, bias = (*parameters, np.zeros(()))[:2]
    normalized = normalize(op, x, axes, EPSILON)[0]
    (y,), (dx, *others) = case.run_training([dy], wanted)
    np.testing.assert_allclose(y, normalized * scale + bias, **near)
    np.testing.assert_allclose(dx, normalize_backward(dy * scale, op, x, axes, EPSILON), **near)
    over = tuple(range(len(shape) - 1))
    for gradient, whole in zip(others, (dy * normalized, dy.astype(np.float64)), strict=False):
        np.testing.assert_allclose(gradient, whole.sum(axis=over), rtol=near["rtol"], atol=near["atol"] * 10)


@pytest.mark.parametrize(
    ("op", "attrs", "axes", "settings", "dtype"),
    [
        ("MeanVarianceNormalization", {"axes": [0, 2]}, (0, 2), {}, np.float32),
        ("MeanVarianceNormalization", {"axes": [1]}, (1,), {}, np.float64),
        ("LpNormalization", {"axis": 1, "p": 1}, (1,), {"p": 1}, np.float32),
        ("LpNormalization", {"axis": 1, "p": 2}, (1,), {"p": 2}, np.float64),
        ("LpNormalization", {"axis": -1, "p": 1}, (2,), {"p": 1}, np.float64),
    ],
)
def test_without_parameters(
    op: str, attrs: dict[str, Any], axes: tuple[int, ...], settings: dict[str, Any], dtype: Any
) -> None:
    x, dy = np.random.default_rng(5).standard_normal((2, 2, 7, 5)).astype(dtype)
    (y,), (dx,) = Case(op, [x], attrs, opset=22, dtype=dtype, device="cuda").run_training([dy])
    near: dict[str, Any] = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    np.testing.assert_allclose(y, normalize(op, x, axes, **settings)[0], **near)
    np.testing.assert_allclose(dx, normalize_backward(dy, op, x, axes, **settings), **near)
