"""Normalizations and their gradients against the float64 oracle, in both layouts, also between guard bands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from channels_last import ChannelsLast
from gradcheck import check_backward
from guards import run_guarded
from harness import Case, to_onnx_order
from reference.normalize import normalize, normalize_backward

from nbcnn.errors import ModelError

KINDS = [(Case, np.float32), (Case, np.float64), (ChannelsLast, np.float32), (ChannelsLast, np.float64)]
TOLERANCE = {np.float32: 3e-5, np.float64: 1e-11}
EPSILON = 1e-3
SHAPES = [(2, 6, 5, 4), (1, 6, 1, 1), (3, 18, 2), (1, 34, 20, 15), (2, 4, 2, 3, 2), (2, 6)]


def trained(case: Case, dy: np.ndarray, wanted: tuple[int, ...]) -> list[np.ndarray]:
    """The output and the gradients, computed between guard bands."""
    plan = case.training_plan([dy], wanted)
    found = run_guarded(plan)
    arrays = [to_onnx_order(found[v.name], v.layout) for v in plan.graph.outputs]
    return [arrays[0], *arrays[case.outputs :]]


def check(case: Case, x: np.ndarray, op: str, axes: tuple[int, ...], dtype: Any, **settings: Any) -> None:
    """An operator without parameters."""
    dy = np.random.default_rng(2).standard_normal(x.shape).astype(dtype)
    near: dict[str, Any] = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    y = normalize(op, x, axes, **settings)[0]
    np.testing.assert_allclose(case.run()[0], y, **near)
    found, dx = trained(case, dy, (0,))
    np.testing.assert_allclose(found, y, **near)
    np.testing.assert_allclose(dx, normalize_backward(dy, op, x, axes, **settings), **near)


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize("groups", [0, 1, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_groups_of_channels(shape: tuple[int, ...], groups: int, kind: type[Case], dtype: Any) -> None:
    """InstanceNormalization (groups 0: as many as there are channels) and GroupNormalization."""
    rng = np.random.default_rng(1)
    op = "GroupNormalization" if groups else "InstanceNormalization"
    n, channels = shape[:2]
    x, dy = (rng.standard_normal((2, *shape)) * 2 + 3).astype(dtype)
    scale, bias = rng.standard_normal((2, channels)).astype(dtype)
    attrs = {"epsilon": EPSILON} | ({"num_groups": groups} if groups else {})
    case = kind(op, [x, scale, bias], attrs, weights=(1, 2), opset=21, dtype=dtype)
    apart = (n, groups or channels, channels // (groups or channels), *shape[2:])
    axes = tuple(range(2, len(apart)))
    near: dict[str, Any] = {"rtol": 10 * TOLERANCE[dtype], "atol": 10 * TOLERANCE[dtype]}

    def wide(v: np.ndarray) -> np.ndarray:
        return v.astype(np.float64).reshape(1, channels, *(1,) * (len(shape) - 2))

    normalized = normalize(op, x.reshape(apart), axes, EPSILON)[0].reshape(shape)
    y = normalized * wide(scale) + wide(bias)
    np.testing.assert_allclose(case.run()[0], y, **near)
    found, dx, dscale, dbias = trained(case, dy, (0, 1, 2))
    np.testing.assert_allclose(found, y, **near)
    grad = (dy * wide(scale)).reshape(apart)
    np.testing.assert_allclose(dx, normalize_backward(grad, op, x.reshape(apart), axes, EPSILON).reshape(shape), **near)
    others = (0, *range(2, len(shape)))
    loose = {"rtol": near["rtol"], "atol": near["atol"] * 10}
    np.testing.assert_allclose(dscale, (dy * normalized).sum(axis=others), **loose)
    np.testing.assert_allclose(dbias, dy.astype(np.float64).sum(axis=others), **loose)


@pytest.mark.parametrize("kind", [Case, ChannelsLast])
def test_parameters_of_groups(kind: type[Case]) -> None:
    """Opset 18 has a scale and a bias for each group."""
    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal((2, 2, 6, 3, 4))
    scale, bias = rng.standard_normal((2, 3))
    case = kind("GroupNormalization", [x, scale, bias], {"num_groups": 3}, (1, 2), opset=18, dtype=np.float64)
    normalized = normalize("GroupNormalization", x.reshape(2, 3, 24), (2,), 1e-5)[0]
    y = normalized * scale[:, None] + bias[:, None]
    np.testing.assert_allclose(case.run()[0], y.reshape(x.shape), rtol=1e-11)
    _, dscale, dbias = trained(case, dy, (1, 2))
    np.testing.assert_allclose(dscale, (dy.reshape(2, 3, 24) * normalized).sum(axis=(0, 2)), rtol=1e-11)
    np.testing.assert_allclose(dbias, dy.reshape(2, 3, 24).sum(axis=(0, 2)), rtol=1e-11)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("op", ["LayerNormalization", "RMSNormalization"])
@pytest.mark.parametrize(
    ("shape", "axis", "scale_shape"),
    [
        ((2, 3, 4, 5), -1, (5,)),
        ((2, 3, 4, 5), 1, (3, 4, 5)),
        ((2, 3, 4, 5), 1, (5,)),
        ((2, 3, 4, 5), 2, (1, 4, 1)),
        ((2, 3, 4, 5), 2, (3, 1, 5)),
        ((7, 33), 0, (7, 33)),
        ((300, 17), 1, (17,)),
        ((3, 9000), 1, (9000,)),
        ((5, 1), -1, ()),
    ],
)
def test_last_axes(shape: tuple[int, ...], axis: int, scale_shape: tuple[int, ...], op: str, dtype: Any) -> None:
    rng = np.random.default_rng(3)
    x, dy = (rng.standard_normal((2, *shape)) * 2 + 1).astype(dtype)
    parameters = [rng.standard_normal(scale_shape).astype(dtype) for _ in range(1 if op.startswith("RMS") else 2)]
    wanted = tuple(range(len(parameters) + 1))
    attrs = {"axis": axis, "epsilon": EPSILON}
    case = Case(op, [x, *parameters], attrs, weights=wanted[1:], opset=23, dtype=dtype)
    axes = tuple(range(axis % len(shape), len(shape)))
    near: dict[str, Any] = {"rtol": 10 * TOLERANCE[dtype], "atol": 10 * TOLERANCE[dtype]}
    scale, bias = (*parameters, np.zeros(()))[:2]
    normalized = normalize(op, x, axes, EPSILON)[0]
    np.testing.assert_allclose(case.run()[0], normalized * scale + bias, **near)
    found, dx, *others = trained(case, dy, wanted)
    np.testing.assert_allclose(found, normalized * scale + bias, **near)
    np.testing.assert_allclose(dx, normalize_backward(dy * scale, op, x, axes, EPSILON), **near)
    repeated = (1,) * (len(shape) - len(scale_shape)) + scale_shape
    over = tuple(i for i, n in enumerate(repeated) if n == 1)
    for gradient, whole in zip(others, (dy * normalized, dy.astype(np.float64)), strict=False):
        total = whole.sum(axis=over).reshape(scale_shape)
        np.testing.assert_allclose(gradient, total, rtol=near["rtol"], atol=near["atol"] * 10)


def test_layer_norm_without_bias_and_with_statistics() -> None:
    x = np.random.default_rng(4).standard_normal((2, 3, 8)).astype(np.float32)
    y, mean, inverse = Case("LayerNormalization", [x, np.ones(8, np.float32)], outputs=3).run()
    wanted = normalize("LayerNormalization", x, (2,), 1e-5)
    for found, value in zip((y, mean, inverse), wanted, strict=True):
        assert found.shape == value.shape
        np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize("axes", [(0, 2, 3), (0,), (1,), (2, 3), (-1,), (0, 2), (0, 1, 2, 3), (1, 3), (0, 3)])
def test_mean_variance(axes: tuple[int, ...], kind: type[Case], dtype: Any) -> None:
    x = np.random.default_rng(5).standard_normal((3, 5, 4, 7)).astype(dtype)
    case = kind("MeanVarianceNormalization", [x], {"axes": list(axes)}, opset=13, dtype=dtype)
    check(case, x, "MeanVarianceNormalization", axes, dtype)


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_p_norm(axis: int, p: int, kind: type[Case], dtype: Any) -> None:
    x = np.random.default_rng(6).standard_normal((3, 5, 4, 7)).astype(dtype)
    case = kind("LpNormalization", [x], {"axis": axis, "p": p}, opset=22, dtype=dtype)
    check(case, x, "LpNormalization", (axis,), dtype, p=p)


def test_p_norm_of_nothing_but_zeros() -> None:
    x = np.array([[0, 0], [3, 4]], np.float32)
    (y,) = Case("LpNormalization", [x]).run()
    np.testing.assert_allclose(y, [[0, 0], [0.6, 0.8]], rtol=1e-6)


@pytest.mark.parametrize("op", ["InstanceNormalization", "RMSNormalization", "MeanVarianceNormalization"])
@pytest.mark.parametrize("p", [1, 2])
def test_the_oracle(op: str, p: int) -> None:
    op = "LpNormalization" if p == 1 else op
    rng = np.random.default_rng(7)
    check_backward(
        lambda x: normalize(op, x, (1,), 1e-3, p)[0],
        lambda dy, x: normalize_backward(dy, op, x, (1,), 1e-3, p),
        [rng.standard_normal((3, 5))],
        rng,
    )


@pytest.mark.parametrize("kind", [Case, ChannelsLast])
def test_large_mean_and_nan(kind: type[Case]) -> None:
    """The variance is not lost beside the mean; a NaN stays in its picture and channel."""
    x = np.random.default_rng(8).standard_normal((2, 3, 40, 40)).astype(np.float32) + 1000
    ones = np.ones(3, np.float32)
    case = kind("InstanceNormalization", [x, ones, 0 * ones], weights=(1, 2))
    wanted = normalize("InstanceNormalization", x, (2, 3), 1e-5)[0]
    np.testing.assert_allclose(case.run()[0], wanted, atol=2e-3)
    x[1, 2, 5, 5] = np.nan
    (y,) = Case("InstanceNormalization", [x, ones, 0 * ones], weights=(1, 2)).run()
    assert np.isnan(y).sum() == 1600
    assert np.isnan(y[1, 2]).all()


@pytest.mark.parametrize(
    ("op", "inputs", "attrs", "message"),
    [
        ("GroupNormalization", [(1, 6, 2), (6,), (6,)], {"num_groups": 4}, "num_groups=4"),
        ("InstanceNormalization", [(1, 6, 2), (5,), (6,)], {}, r"scale has shape \(5,\)"),
        ("LayerNormalization", [(1, 6, 2), (3,)], {}, "does not broadcast"),
        ("LpNormalization", [(1, 6)], {"p": 3}, "p is 3"),
        ("MeanVarianceNormalization", [(1, 6)], {}, "axis 2"),
    ],
)
def test_what_is_refused(op: str, inputs: list[tuple[int, ...]], attrs: dict[str, Any], message: str) -> None:
    arrays = [np.zeros(shape, np.float32) for shape in inputs]
    with pytest.raises(ModelError, match=message):
        Case(op, arrays, attrs, opset=22).run()
