"""The Gather and Scatter operators on a GPU, against NumPy; indices are inputs, and often the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import Case

RNG = np.random.default_rng(31)
DTYPES = (np.float32, np.float64)
UFUNCS = {"none": np.multiply, "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def rounding(dtype: Any) -> float:
    return 1e-5 if dtype == np.float32 else 1e-12


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "axis"), [((4, 3), 0), ((2, 5, 3), 1), ((2, 3, 11), -1)])
def test_gather(shape: tuple[int, ...], axis: int, dtype: Any) -> None:
    x, indices = RNG.standard_normal(shape).astype(dtype), RNG.integers(-shape[axis], shape[axis], (3, 4))
    want = np.take(x, indices, axis)
    dy = RNG.standard_normal(want.shape).astype(dtype)
    (y,), (dx,) = Case("Gather", [x, indices], {"axis": axis}, dtype=dtype, device="cuda").run_training([dy])
    np.testing.assert_array_equal(y, want)
    expected = np.zeros_like(x)
    first = axis % len(shape)
    np.add.at(np.moveaxis(expected, axis, 0), indices, np.moveaxis(dy, (first, first + 1), (0, 1)))
    np.testing.assert_allclose(dx, expected, rtol=rounding(dtype), atol=rounding(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, 1])
def test_gather_elements(axis: int, dtype: Any) -> None:
    x, indices = RNG.standard_normal((5, 4, 3)).astype(dtype), RNG.integers(-4, 4, (5, 4, 2))
    dy = RNG.standard_normal(indices.shape).astype(dtype)
    (y,), (dx,) = Case("GatherElements", [x, indices], {"axis": axis}, dtype=dtype, device="cuda").run_training([dy])
    places = list(np.indices(indices.shape))
    places[axis] = indices
    np.testing.assert_array_equal(y, x[tuple(places)])
    expected = np.zeros_like(x)
    np.add.at(expected, tuple(places), dy)
    np.testing.assert_allclose(dx, expected, rtol=rounding(dtype), atol=rounding(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", UFUNCS)
def test_scatter_nd(reduction: str, dtype: Any) -> None:
    """More rows than a tile, so that sums go on from one to the next."""
    x, indices = RNG.standard_normal((3, 4, 9)).astype(dtype), RNG.integers(0, 3, (40, 2))
    updates = RNG.uniform(0.5, 1.5, (40, 9)).astype(dtype)
    want = x.copy()
    for place, row in zip(indices, updates, strict=True):
        want[tuple(place)] = row if reduction == "none" else UFUNCS[reduction](want[tuple(place)], row)
    attrs = {"reduction": reduction} if reduction != "none" else {}
    case = Case("ScatterND", [x, indices, updates], attrs, opset=18, dtype=dtype, device="cuda")
    (y,) = case.run()
    np.testing.assert_allclose(y, want, rtol=4 * rounding(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_of_scatter_elements(dtype: Any) -> None:
    x, updates = RNG.standard_normal((3, 4)).astype(dtype), RNG.standard_normal((2, 4)).astype(dtype)
    indices, dy = np.array([[0, 1, 2, 0], [2, 2, 1, 1]]), RNG.standard_normal((3, 4)).astype(dtype)
    case = Case("ScatterElements", [x, indices, updates], opset=18, dtype=dtype, device="cuda")
    (y,), (dx, du) = case.run_training([dy], wanted=(0, 2))
    want, left = x.copy(), dy.copy()
    np.put_along_axis(want, indices, updates, 0)
    np.put_along_axis(left, indices, 0, 0)
    np.testing.assert_array_equal(y, want)
    np.testing.assert_array_equal(dx, left)
    np.testing.assert_array_equal(du, np.take_along_axis(dy, indices, 0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["mul", "max", "min"])
def test_gradients_of_reductions(reduction: str, dtype: Any) -> None:
    """Factors and ties, element by element; zeros and equals are many."""
    x, updates = RNG.integers(-2, 3, (3, 4)).astype(dtype), RNG.integers(-2, 3, (5, 4)).astype(dtype)
    indices, dy = RNG.integers(-3, 3, (5, 1)), RNG.standard_normal((3, 4)).astype(dtype)
    case = Case("ScatterND", [x, indices, updates], {"reduction": reduction}, opset=18, dtype=dtype, device="cuda")
    _, (dx, du) = case.run_training([dy], wanted=(0, 2))
    want_x, want_u = np.zeros_like(x), np.zeros_like(updates)
    for row, column in np.ndindex(3, 4):
        rows = np.flatnonzero(indices[:, 0] % 3 == row)
        met = np.array([x[row, column], *updates[rows, column]])
        if reduction == "mul":
            shares = [np.delete(met, k).prod() for k in range(met.size)]
        else:
            shares = (met == UFUNCS[reduction].reduce(met)) / (met == UFUNCS[reduction].reduce(met)).sum()
        want_x[row, column] = shares[0] * dy[row, column]
        want_u[rows, column] = np.array(shares[1:]) * dy[row, column]
    np.testing.assert_allclose(dx, want_x, rtol=4 * rounding(dtype))
    np.testing.assert_allclose(du, want_u, rtol=4 * rounding(dtype))


def test_indices_out_of_range_read_nan_and_write_nothing() -> None:
    x, indices = np.ones((3, 2), np.float32), np.array([[0], [7], [-4]])
    read = Case("GatherND", [x, indices], device="cuda")
    write = Case("ScatterND", [x, indices, np.full((3, 2), 5, np.float32)], device="cuda")
    (y,), (z,) = read.run(), write.run()
    np.testing.assert_array_equal(y, [[1, 1], [np.nan, np.nan], [np.nan, np.nan]])
    np.testing.assert_array_equal(z, [[5, 5], [1, 1], [1, 1]])


def test_reverse_sequence() -> None:
    x = RNG.standard_normal((2, 6, 3)).astype(np.float32)
    attrs = {"time_axis": 0, "batch_axis": 1}
    (y,) = Case("ReverseSequence", [x, np.array([2, 1, 2, 1, 1, 2])], attrs, weights=(1,), device="cuda").run()
    want = x.copy()
    want[:, [0, 2, 5]] = x[::-1, [0, 2, 5]]
    np.testing.assert_array_equal(y, want)
