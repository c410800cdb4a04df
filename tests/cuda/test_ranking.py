"""ArgMax, ArgMin and TopK on a GPU, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import Case

RNG = np.random.default_rng(23)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize(("shape", "axis"), [((2, 5, 3, 4), 1), ((2, 37), 1), ((9,), 0), ((3, 33, 2), 1)])
@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
def test_arg(op: str, shape: tuple[int, ...], axis: int, last: int, dtype: Any) -> None:
    x = RNG.integers(0, 6, shape).astype(dtype)  # with many ties
    x[-1] = np.nan if x.ndim > 1 and op == "ArgMin" else x[-1]
    find = np.argmax if op == "ArgMax" else np.argmin
    want = x.shape[axis] - 1 - find(np.flip(x, axis), axis) if last else find(x, axis)
    attrs = {"axis": axis, "keepdims": 0, "select_last_index": last}
    (y,) = Case(op, [x], attrs, opset=13, dtype=dtype, device="cuda").run()
    np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize(
    ("shape", "axis", "k"), [((2, 5, 3), 1, 3), ((2, 7), 1, 7), ((131,), 0, 2), ((2, 70, 2), 1, 1), ((1, 1), 1, 1)]
)
def test_top_k(shape: tuple[int, ...], axis: int, k: int, largest: int, dtype: Any) -> None:
    x = RNG.integers(0, 6, shape).astype(dtype)
    x.flat[0] = np.nan
    rank = np.where(np.isnan(x), np.inf, x)
    at = np.argsort(-rank if largest else rank, axis, kind="stable").take(range(k), axis)
    dy = RNG.standard_normal(at.shape).astype(dtype)
    attrs = {"axis": axis, "largest": largest}
    case = Case("TopK", [x, np.array([k])], attrs, (1,), outputs=2, opset=11, dtype=dtype, device="cuda")
    (values, indices), (_, (dx,)) = case.run(), case.run_training([dy])
    np.testing.assert_array_equal(indices, at)
    np.testing.assert_array_equal(values, np.take_along_axis(x, at, axis))
    expected = np.zeros_like(x)
    np.put_along_axis(expected, at, dy, axis)
    np.testing.assert_array_equal(dx, expected)
