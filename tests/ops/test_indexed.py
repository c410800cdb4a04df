"""Gather and Scatter with indices that are computed, against NumPy's own indexing and finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from channels_last import ChannelsLast
from gradcheck import directional
from harness import Case

from nbcnn.errors import ModelError

RNG = np.random.default_rng(17)
KINDS = [(Case, np.float32), (Case, np.float64), (ChannelsLast, np.float32)]
UFUNCS = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}

ELEMENTS: list[tuple[tuple[int, ...], tuple[int, ...], int]] = [
    ((2, 5, 3, 4), (2, 7, 3, 4), 1),
    ((2, 5, 3, 4), (1, 2, 3, 9), -1),
    ((3, 5, 2), (8, 4, 1), 0),
    ((6,), (9,), 0),
    ((2, 2, 2, 2, 2, 2), (2, 2, 2, 2, 3, 2), 4),
    ((2, 2, 2, 1, 2, 2, 2), (2, 2, 2, 1, 2, 2, 3), 6),
    ((2, 3), (2, 0), 1),
]
TUPLES: list[tuple[tuple[int, ...], tuple[int, ...], int]] = [
    ((2, 5, 3, 4), (6, 4), 0),
    ((2, 5, 3, 4), (2, 3, 2), 0),
    ((2, 5, 3, 4), (7, 1), 0),
    ((2, 5, 3, 4), (2, 6, 2), 1),
    ((2, 3, 4, 5), (2, 3, 2, 1), 2),
    ((4,), (1,), 0),
    ((3, 40), (0, 1), 0),
]


def element_indices(shape: tuple[int, ...], grid: tuple[int, ...], axis: int, kind: Any = np.int64) -> np.ndarray:
    return RNG.integers(-shape[axis], shape[axis], grid).astype(kind)


def tuple_indices(shape: tuple[int, ...], grid: tuple[int, ...], batch: int) -> np.ndarray:
    sizes = np.array(shape[batch : batch + grid[-1]])
    return RNG.integers(-sizes, sizes, grid)


def take_elements(x: np.ndarray, indices: np.ndarray, axis: int) -> np.ndarray:
    """GatherElements, one element at a time."""
    y = np.zeros(indices.shape, x.dtype)
    for place in np.ndindex(*indices.shape):
        source = list(place)
        source[axis] = indices[place]
        y[place] = x[tuple(source)]
    return y


def take_tuples(x: np.ndarray, indices: np.ndarray, batch: int) -> np.ndarray:
    """GatherND, one tuple at a time."""
    grid = indices.shape[:-1]
    y = np.zeros((*grid, *x.shape[batch + indices.shape[-1] :]), x.dtype)
    for place in np.ndindex(*grid):
        y[place] = x[(*place[:batch], *indices[place])]
    return y


def put_elements(x: np.ndarray, indices: np.ndarray, updates: np.ndarray, axis: int, reduction: str) -> np.ndarray:
    y = x.copy()
    for place in np.ndindex(*indices.shape):
        target = list(place)
        target[axis] = indices[place]
        at = tuple(target)
        y[at] = UFUNCS[reduction](y[at], updates[place]) if reduction in UFUNCS else updates[place]
    return y


def put_tuples(x: np.ndarray, indices: np.ndarray, updates: np.ndarray, reduction: str) -> np.ndarray:
    y = x.copy()
    for place in np.ndindex(*indices.shape[:-1]):
        at = tuple(indices[place])
        y[at] = UFUNCS[reduction](y[at], updates[place]) if reduction in UFUNCS else updates[place]
    return y


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize(("shape", "grid", "axis"), ELEMENTS)
def test_gather_elements(
    shape: tuple[int, ...], grid: tuple[int, ...], axis: int, kind: type[Case], dtype: Any
) -> None:
    x, indices = RNG.standard_normal(shape).astype(dtype), element_indices(shape, grid, axis)
    expected = take_elements(x, indices, axis)
    case = kind("GatherElements", [x, indices], {"axis": axis}, dtype=dtype)
    np.testing.assert_array_equal(case.run()[0], expected)
    if len(shape) > 6:
        return  # NumPy does those
    dy = RNG.standard_normal(grid).astype(dtype)
    (y,), (dx,) = case.run_training([dy])
    np.testing.assert_array_equal(y, expected)
    if dtype is np.float64:
        directional(lambda x: float((dy * take_elements(x, indices, axis)).sum()), [x], [dx], RNG)
    assert dx.sum() == pytest.approx(dy.sum(), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize(("shape", "grid", "batch"), TUPLES)
def test_gather_nd(shape: tuple[int, ...], grid: tuple[int, ...], batch: int, kind: type[Case], dtype: Any) -> None:
    x, indices = RNG.standard_normal(shape).astype(dtype), tuple_indices(shape, grid, batch)
    expected = take_tuples(x, indices, batch)
    case = kind("GatherND", [x, indices], {"batch_dims": batch}, dtype=dtype)
    np.testing.assert_array_equal(case.run()[0], expected)
    dy = RNG.standard_normal(expected.shape).astype(dtype)
    (y,), (dx,) = case.run_training([dy])
    np.testing.assert_array_equal(y, expected)
    if dtype is np.float64:
        directional(lambda x: float((dy * take_tuples(x, indices, batch)).sum()), [x], [dx], RNG)
    assert dx.sum() == pytest.approx(dy.sum(), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, bool])
def test_other_types(dtype: Any) -> None:
    x = RNG.integers(0, 2, (3, 4)).astype(dtype)
    indices = element_indices((3, 4), (3, 6), 1, np.int32)
    (y,) = Case("GatherElements", [x, indices], {"axis": 1}).run()
    np.testing.assert_array_equal(y, take_elements(x, indices, 1))
    pairs = tuple_indices((3, 4), (5, 2), 0)
    (y,) = Case("GatherND", [x, pairs]).run()
    np.testing.assert_array_equal(y, take_tuples(x, pairs, 0))
    once = np.array([[3, 0], [1, 2], [2, 0]])
    (y,) = Case("ScatterElements", [x, once, x[:, :2]], {"axis": 1}, opset=18).run()
    np.testing.assert_array_equal(y, put_elements(x, once, x[:, :2], 1, "none"))


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize("reduction", ["none", *UFUNCS])
@pytest.mark.parametrize(("shape", "grid", "axis"), ELEMENTS)
def test_scatter_elements(
    shape: tuple[int, ...], grid: tuple[int, ...], axis: int, reduction: str, kind: type[Case], dtype: Any
) -> None:
    x, indices = RNG.standard_normal(shape).astype(dtype), element_indices(shape, grid, axis)
    updates = RNG.standard_normal(grid).astype(dtype)
    case = kind("ScatterElements", [x, indices, updates], {"axis": axis, "reduction": reduction}, opset=18, dtype=dtype)
    near: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5} if dtype is np.float32 else {"rtol": 1e-13, "atol": 1e-13}
    np.testing.assert_allclose(case.run()[0], put_elements(x, indices, updates, axis, reduction), **near)


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize("reduction", ["none", *UFUNCS])
@pytest.mark.parametrize(("shape", "grid", "batch"), [case for case in TUPLES if not case[2]])
def test_scatter_nd(
    shape: tuple[int, ...], grid: tuple[int, ...], batch: int, reduction: str, kind: type[Case], dtype: Any
) -> None:
    x, indices = RNG.standard_normal(shape).astype(dtype), tuple_indices(shape, grid, batch)
    updates = RNG.standard_normal((*grid[:-1], *shape[grid[-1] :])).astype(dtype)
    case = kind("ScatterND", [x, indices, updates], {"reduction": reduction}, opset=18, dtype=dtype)
    near: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5} if dtype is np.float32 else {"rtol": 1e-13, "atol": 1e-13}
    np.testing.assert_allclose(case.run()[0], put_tuples(x, indices, updates, reduction), **near)


@pytest.mark.parametrize("reduction", ["none", "add"])
@pytest.mark.parametrize("op", ["ScatterElements", "ScatterND"])
def test_gradients_of_scatter(op: str, reduction: str) -> None:
    x = RNG.standard_normal((3, 6, 2))
    # Different places, because of two updates for one the standard leaves open which one stays.
    indices = np.argsort(RNG.random((3, 6, 2)), 1)[:, :4] if op == "ScatterElements" else np.array([[0, 1], [2, 5]])
    updates = RNG.standard_normal(indices.shape if op == "ScatterElements" else (2, 2))
    attrs = {"reduction": reduction} | ({"axis": 1} if op == "ScatterElements" else {})
    case = Case(op, [x, indices, updates], attrs, opset=18, dtype=np.float64)
    dy = RNG.standard_normal(x.shape)
    _, grads = case.run_training([dy], (0, 2))

    def f(x: np.ndarray, updates: np.ndarray) -> float:
        if op == "ScatterElements":
            return float((dy * put_elements(x, indices, updates, 1, reduction)).sum())
        return float((dy * put_tuples(x, indices, updates, reduction)).sum())

    directional(f, [x, updates], grads, RNG)


def test_the_last_update_stays() -> None:
    x = np.zeros((1, 3), np.float32)
    updates = np.array([[1, 2, 3]], np.float32)
    (y,) = Case("Scatter", [x, np.array([[1, 1, -2]]), updates], {"axis": 1}, opset=9).run()
    np.testing.assert_array_equal(y, [[0, 3, 0]])


def test_nan_stays() -> None:
    x, updates = np.array([[np.nan, 1]], np.float32), np.array([[1, np.nan]], np.float32)
    for reduction in UFUNCS:
        attrs = {"axis": 1, "reduction": reduction}
        assert np.isnan(Case("ScatterElements", [x, np.array([[0, 1]]), updates], attrs, opset=18).run()[0]).all()


@pytest.mark.parametrize("weights", [(), (1,)])
@pytest.mark.parametrize("op", ["GatherElements", "GatherND", "ScatterElements", "ScatterND"])
def test_indices_out_of_range(op: str, weights: tuple[int, ...]) -> None:
    x = np.zeros((2, 3), np.float32)
    for bad in (3, -4):
        indices = np.array([[0, 1, bad]]) if op.endswith("Elements") else np.array([[0, bad]])
        updates = [np.zeros(indices.shape if op.endswith("Elements") else (1,), np.float32)]
        attrs = {"axis": 1} if op.endswith("Elements") else {}
        with pytest.raises(ModelError, match=f"{op} 'node': an index is outside of the axes it counts"):
            Case(op, [x, indices, *(updates if "Scatter" in op else [])], attrs, weights, device="cpu").run()


def test_what_does_not_fit() -> None:
    x, one = np.zeros((2, 3), np.float32), np.zeros((1, 1), np.int64)
    with pytest.raises(ModelError, match=r"indices of shape \(3, 1\) do not fit data of shape \(2, 3\) along axis 1"):
        Case("GatherElements", [x, np.zeros((3, 1), np.int64)], {"axis": 1}).run()
    with pytest.raises(ModelError, match=r"indices of shape \(1, 3\) do not fit data of shape \(2, 3\)"):
        Case("GatherND", [x, np.zeros((1, 3), np.int64)]).run()
    with pytest.raises(ModelError, match=r"updates of shape \(2,\) where \(1, 3\) are needed"):
        Case("ScatterND", [x, one, np.zeros(2, np.float32)]).run()
