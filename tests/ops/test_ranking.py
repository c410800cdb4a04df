"""ArgMax, ArgMin and TopK against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from channels_last import ChannelsLast
from harness import Case

from nbcnn.errors import ModelError

RNG = np.random.default_rng(23)
KINDS = [(Case, np.float32), (Case, np.float64), (ChannelsLast, np.float32)]
SHAPES_AND_AXES = [
    ((2, 5, 3, 4), 1),
    ((2, 5, 3, 4), 0),
    ((2, 5, 3, 4), 2),
    ((2, 33, 1, 7), -1),
    ((2, 21, 40, 30), 1),
    ((3, 17), 1),
    ((9,), 0),
    ((1, 1, 1), 2),
]


def expected_index(x: np.ndarray, op: str, axis: int, keepdims: int, last: int) -> np.ndarray:
    f = {"ArgMax": np.argmax, "ArgMin": np.argmin}[op]
    if last:
        return x.shape[axis] - 1 - f(np.flip(x, axis), axis, keepdims=bool(keepdims))
    return f(x, axis, keepdims=bool(keepdims))


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize(("shape", "axis"), SHAPES_AND_AXES)
@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_arg(
    op: str, shape: tuple[int, ...], axis: int, keepdims: int, last: int, kind: type[Case], dtype: Any
) -> None:
    x = RNG.integers(0, 6, shape).astype(dtype)  # with many ties
    attrs = {"axis": axis, "keepdims": keepdims, "select_last_index": last}
    (y,) = kind(op, [x], attrs, opset=13, dtype=dtype).run()
    assert y.dtype == np.int64
    np.testing.assert_array_equal(y, expected_index(x, op, axis, keepdims, last))


@pytest.mark.parametrize("shape", [(3, 8), (3, 8, 20)])
def test_nan_is_found_first(shape: tuple[int, ...]) -> None:
    x = RNG.standard_normal(shape).astype(np.float32)
    x[1, 2], x[1, 5] = np.nan, np.nan
    for op in ("ArgMax", "ArgMin"):
        for last in (0, 1):
            (y,) = Case(op, [x], {"axis": 1, "select_last_index": last}, opset=13).run()
            np.testing.assert_array_equal(y, expected_index(x, op, 1, 1, last))


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, bool])
def test_other_types(dtype: Any) -> None:
    x = RNG.integers(0, 2, (4, 7)).astype(dtype)
    (y,) = Case("ArgMax", [x], {"axis": 1}, opset=13).run()
    np.testing.assert_array_equal(y, x.argmax(1, keepdims=True))
    if dtype is not bool:
        values, at = Case("TopK", [x, np.array([3])], {"largest": 0}, weights=(1,), outputs=2).run()
        order = np.argsort(x, 1, kind="stable")[:, :3]
        np.testing.assert_array_equal(at, order)
        np.testing.assert_array_equal(values, np.take_along_axis(x, order, 1))


def first_in_order(x: np.ndarray, k: int, axis: int, largest: int) -> np.ndarray:
    """Indices of the first k, with NaN as the largest and equal ones in order."""
    rank = np.where(np.isnan(x), np.inf, x)
    return np.argsort(-rank if largest else rank, axis, kind="stable").take(range(k), axis)


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize(("shape", "axis"), SHAPES_AND_AXES)
@pytest.mark.parametrize("part", [1, 3, 99])
def test_top_k(part: int, shape: tuple[int, ...], axis: int, largest: int, kind: type[Case], dtype: Any) -> None:
    k = min(part, shape[axis])
    x = RNG.integers(0, 6, shape).astype(dtype)
    x.flat[0] = np.nan if x.size > 1 else 0
    at = first_in_order(x, k, axis, largest)
    case = kind("TopK", [x, np.array([k])], {"axis": axis, "largest": largest}, (1,), outputs=2, opset=11, dtype=dtype)
    if kind is ChannelsLast:
        x.flat[0] = 0  # a NaN would spread through its convolution
        at = first_in_order(x, k, axis, largest)
    values, indices = case.run()
    np.testing.assert_array_equal(indices, at)
    np.testing.assert_array_equal(values, np.take_along_axis(x, at, axis))
    dy = RNG.standard_normal(at.shape).astype(dtype)
    _, (dx,) = case.run_training([dy])
    expected = np.zeros_like(x)
    np.put_along_axis(expected, at, dy, axis)
    np.testing.assert_array_equal(dx, expected)


def test_k_of_older_opsets_and_values_alone() -> None:
    x = RNG.standard_normal((3, 9)).astype(np.float32)
    (y,) = Case("TopK", [x], {"k": 4}, opset=1).run()
    np.testing.assert_array_equal(y, -np.sort(-x, 1)[:, :4])
    with pytest.raises(ModelError, match=r"cannot take the first \[10\] of axis 1 of \(3, 9\)"):
        Case("TopK", [x, np.array([10])], weights=(1,)).run()
    (y,) = Case("TopK", [x, np.array([0])], weights=(1,)).run()
    assert y.shape == (3, 0)
