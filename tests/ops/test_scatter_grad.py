"""Gradients of the Scatter operators that multiply, add or keep extremes, against PyTorch and finite differences: with
several updates for one element, zeros among the factors, and ties.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from channels_last import ChannelsLast
from gradcheck import directional
from harness import Case

RNG = np.random.default_rng(23)
KINDS = [(Case, np.float32), (Case, np.float64), (ChannelsLast, np.float32)]
REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}
CASES: list[tuple[str, tuple[int, ...], tuple[int, ...], int]] = [
    ("ScatterElements", (2, 5, 3, 4), (2, 7, 3, 4), 1),
    ("ScatterElements", (2, 5, 3, 4), (1, 2, 3, 9), -1),
    ("ScatterElements", (3, 5, 2), (8, 4, 1), 0),
    ("ScatterElements", (6,), (9,), 0),
    ("ScatterElements", (2, 2, 2, 1, 2, 2, 2), (2, 2, 2, 1, 2, 2, 3), 6),
    ("ScatterElements", (2, 3), (2, 0), 1),
    ("ScatterND", (2, 3, 2, 4), (40, 4), 0),
    ("ScatterND", (2, 3, 3, 4), (2, 5, 2), 0),
    ("ScatterND", (3, 40), (0, 1), 0),
]
"""Operator, shapes of the data and of the indices, axis."""


def random_indices(op: str, shape: tuple[int, ...], grid: tuple[int, ...], axis: int) -> np.ndarray:
    sizes = np.array(shape[: grid[-1]]) if op == "ScatterND" else shape[axis]
    return RNG.integers(-sizes, sizes, grid)


def written(op: str, shape: tuple[int, ...], grid: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the updates."""
    return (*grid[:-1], *shape[grid[-1] :]) if op == "ScatterND" else grid


def whole_numbers(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """From -2 to 2, so that zeros and ties are many."""
    return RNG.integers(-2, 3, shape).astype(dtype)


def by_torch(op: str, inputs: list[np.ndarray], axis: int, reduction: str, dy: np.ndarray) -> list[np.ndarray]:
    """y, dx and the gradient of the updates."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: Scatter is not compared with it")
    x, updates = (torch.tensor(inputs[k], requires_grad=True) for k in (0, 2))
    indices, shape = inputs[1], inputs[0].shape
    if op == "ScatterND":
        count = indices.shape[-1]
        sizes = shape[:count]
        rows = np.ravel_multi_index(tuple(np.moveaxis(indices % sizes, -1, 0)), sizes).reshape(-1, 1)
        where = torch.tensor(np.broadcast_to(rows, (rows.size, int(np.prod(shape[count:])))).copy())
        flat, joined = x.reshape(-1, where.shape[1]), updates.reshape(where.shape)
        y = flat.scatter_reduce(0, where, joined, REDUCTIONS[reduction]).reshape(shape)
    else:
        where = torch.tensor(indices % shape[axis])
        y = x.scatter_reduce(axis, where, updates, REDUCTIONS[reduction])
    y.backward(torch.tensor(dy))
    return [y.detach().numpy(), x.grad.numpy(), updates.grad.numpy()]


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize("values", [whole_numbers, lambda shape, dtype: RNG.uniform(0.5, 1.5, shape).astype(dtype)])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("op", "shape", "grid", "axis"), CASES)
def test_against_torch(
    op: str,
    shape: tuple[int, ...],
    grid: tuple[int, ...],
    axis: int,
    reduction: str,
    values: Callable[[tuple[int, ...], Any], np.ndarray],
    kind: type[Case],
    dtype: Any,
) -> None:
    x, indices = values(shape, dtype), random_indices(op, shape, grid, axis)
    updates, dy = values(written(op, shape, grid), dtype), RNG.standard_normal(shape).astype(dtype)
    attrs = {"reduction": reduction} | ({"axis": axis} if op == "ScatterElements" else {})
    (y,), grads = kind(op, [x, indices, updates], attrs, opset=18, dtype=dtype).run_training([dy], (0, 2))
    near: dict[str, Any] = {"rtol": 2e-5, "atol": 2e-5} if dtype is np.float32 else {"rtol": 1e-12, "atol": 1e-12}
    for got, want in zip([y, *grads], by_torch(op, [x, indices, updates], axis, reduction, dy), strict=True):
        np.testing.assert_allclose(got, want, **near)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("op", "grid"), [("ScatterElements", (3, 9)), ("ScatterND", (9, 1))])
def test_against_finite_differences(op: str, grid: tuple[int, ...], reduction: str) -> None:
    x, indices = RNG.standard_normal((3, 5)), random_indices(op, (3, 5), grid, 1)
    updates, dy = RNG.standard_normal(written(op, (3, 5), grid)), RNG.standard_normal((3, 5))
    if reduction == "mul":
        x[0, 1] = updates[1, 2] = updates[2, 0] = 0
    attrs = {"reduction": reduction} | ({"axis": 1} if op == "ScatterElements" else {})

    def case(x: np.ndarray, updates: np.ndarray) -> Case:
        return Case(op, [x, indices, updates], attrs, opset=18, dtype=np.float64)

    def loss(x: np.ndarray, updates: np.ndarray) -> float:
        return float((case(x, updates).run()[0] * dy).sum())

    directional(loss, [x, updates], case(x, updates).run_training([dy], (0, 2))[1], RNG)


def test_shares_of_ties_and_of_zeros() -> None:
    """Known by hand: two updates and the element itself hold the maximum; one zero takes the product of the others, and
    two leave nothing.
    """
    indices, dy = np.array([[0, 0, 1, 1, 2]]), np.array([[6, 6, 6]], np.float32)
    x, updates = np.array([[2, 3, 0]], np.float32), np.array([[2, 2, 5, 0, 0]], np.float32)

    def grads(reduction: str) -> list[np.ndarray]:
        attrs = {"axis": 1, "reduction": reduction}
        return Case("ScatterElements", [x, indices, updates], attrs, opset=18).run_training([dy], (0, 2))[1]

    for got, want in zip(grads("max"), [[[2, 0, 3]], [[2, 2, 6, 0, 3]]], strict=True):
        np.testing.assert_array_equal(got, want)
    for got, want in zip(grads("mul"), [[[24, 0, 0]], [[24, 24, 0, 90, 0]]], strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("wanted", [0, 2])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_one_gradient_alone(reduction: str, wanted: int) -> None:
    inputs = [whole_numbers((3, 4), np.float64), random_indices("ScatterND", (3, 4), (6, 1), 0)]
    inputs.append(whole_numbers((6, 4), np.float64))
    dy = RNG.standard_normal((3, 4))
    case = Case("ScatterND", list(inputs), {"reduction": reduction}, opset=18, dtype=np.float64)
    (found,) = case.run_training([dy], (wanted,))[1]
    want = by_torch("ScatterND", inputs, 0, reduction, dy)[1 if wanted == 0 else 2]
    np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-12)
