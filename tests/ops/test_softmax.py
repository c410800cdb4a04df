"""Softmax and LogSoftmax against the oracle, at the opsets that differ."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
import reference
from channels_last import ChannelsLast
from harness import Case

from nbcnn.errors import ModelError

RNG = np.random.default_rng(1)
TOLERANCE = {np.float32: 3e-6, np.float64: 1e-13}
OPS = [("Softmax", "softmax"), ("LogSoftmax", "log_softmax")]


def check(op: str, name: str, x: np.ndarray, attrs: dict[str, Any], opset: int, dtype: Any) -> None:
    """Compare with the oracle, which knows opset 13: before, the axes from `axis` on are one."""
    dy = RNG.standard_normal(x.shape).astype(dtype)
    forward, backward = getattr(reference, name), getattr(reference, f"{name}_backward")
    axis = attrs.get("axis", 1 if opset < 13 else -1)
    shape = x.shape
    if opset < 13:
        axis, shape = -1, (prod(shape[:axis]), prod(shape[axis:]))
    y = forward(x.reshape(shape), axis).reshape(x.shape)
    dx = backward(dy.reshape(shape), x.reshape(shape), axis).reshape(x.shape)
    near: dict[str, Any] = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    for kind in (Case, ChannelsLast) if x.ndim > 2 else (Case,):
        case = kind(op, [x], attrs, opset=opset, dtype=dtype)
        np.testing.assert_allclose(case.run()[0], y, **near)
        (found,), (grad,) = case.run_training([dy])
        np.testing.assert_allclose(found, y, **near)
        np.testing.assert_allclose(grad, dx, **near)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("opset", [7, 11, 13, 22])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((3, 10), None), ((1, 1000), -1), ((2, 5, 3, 4), 1), ((2, 5, 3, 4), 2), ((2, 3, 1, 17), None), ((4,), 0)],
)
@pytest.mark.parametrize(("op", "name"), OPS)
def test_against_the_oracle(
    op: str, name: str, shape: tuple[int, ...], axis: int | None, opset: int, dtype: Any
) -> None:
    x = (RNG.standard_normal(shape) * 4).astype(dtype)
    check(op, name, x, {} if axis is None else {"axis": axis}, opset, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("op", "name"), OPS)
def test_many_lines(op: str, name: str, dtype: Any) -> None:
    check(op, name, RNG.standard_normal((1733, 7)).astype(dtype), {}, 13, dtype)


@pytest.mark.parametrize(("op", "name"), OPS)
def test_large_inputs_do_not_overflow(op: str, name: str) -> None:
    check(op, name, np.array([[1e4, 0, -1e4], [-1e30, 0, 1], [500, 500, 500]], np.float32), {}, 13, np.float32)


@pytest.mark.parametrize(("op", "name"), OPS)
@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 2)])
def test_nan_stays(op: str, name: str, shape: tuple[int, ...]) -> None:
    x = np.zeros(shape, np.float32)
    x[0, 1] = np.nan
    assert np.isnan(Case(op, [x], {"axis": 1}).run()[0]).all()


@pytest.mark.parametrize("opset", [11, 13])
def test_axis_out_of_range_is_named(opset: int) -> None:
    with pytest.raises(ModelError, match=r"Softmax 'node': axis 4 is outside"):
        Case("Softmax", [np.ones((2, 3, 4), np.float32)], {"axis": 4}, opset=opset).run()


@pytest.mark.parametrize("kind", [Case, ChannelsLast])
@pytest.mark.parametrize("opset", [7, 11, 13])
@pytest.mark.parametrize("axis", [0, 1, 2, 3, None])
def test_hardmax(axis: int | None, opset: int, kind: type[Case]) -> None:
    x = RNG.integers(0, 4, (2, 5, 3, 4)).astype(np.float32)  # with ties
    (y,) = kind("Hardmax", [x], {} if axis is None else {"axis": axis}, opset=opset).run()
    axis = axis if axis is not None else (1 if opset < 13 else -1)
    flat = x.reshape(prod(x.shape[:axis]), -1) if opset < 13 else x
    along = -1 if opset < 13 else axis
    wanted = np.zeros_like(flat)
    np.put_along_axis(wanted, flat.argmax(axis=along, keepdims=True), 1, axis=along)
    np.testing.assert_array_equal(y, wanted.reshape(x.shape))


def test_hardmax_takes_the_first_nan() -> None:
    (y,) = Case("Hardmax", [np.array([[1, np.nan, 9, np.nan]], np.float32)]).run()
    np.testing.assert_array_equal(y, [[0, 1, 0, 0]])
