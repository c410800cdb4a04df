"""CumSum and CumProd against NumPy, in both layouts; gradients against PyTorch and finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from channels_last import ChannelsLast
from gradcheck import directional
from guards import run_guarded
from harness import Case

from nbcnn.errors import ModelError

RNG = np.random.default_rng(11)
KINDS = [(Case, np.float32), (Case, np.float64), (ChannelsLast, np.float32)]
SHAPES: list[tuple[int, ...]] = [(7,), (1, 3), (2, 3, 4), (2, 3, 4, 5), (2, 17, 300), (0, 3)]


def expected(op: str, x: np.ndarray, axis: int, exclusive: bool, reverse: bool) -> np.ndarray:
    x = np.flip(x, axis) if reverse else x
    if exclusive:
        first = np.full_like(np.take(x, [0], axis), 0 if op == "CumSum" else 1)
        x = np.concatenate([first, np.take(x, range(x.shape[axis] - 1), axis)], axis)
    y = (np.cumsum if op == "CumSum" else np.cumprod)(x, axis, dtype=x.dtype)
    return np.flip(y, axis) if reverse else y


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("op", ["CumSum", "CumProd"])
def test_cumulative(
    op: str, shape: tuple[int, ...], reverse: int, exclusive: int, kind: type[Case], dtype: Any
) -> None:
    x = RNG.uniform(0.5, 1.5, shape).astype(dtype)
    for axis in range(-1, len(shape)):
        if not shape[axis]:
            continue
        inputs = [x, np.array(axis)]
        case = kind(op, list(inputs), {"exclusive": exclusive, "reverse": reverse}, weights=(1,), dtype=dtype, opset=26)
        wanted = expected(op, x.astype(np.float64), axis, bool(exclusive), bool(reverse))
        np.testing.assert_allclose(case.run()[0], wanted, rtol=1e-4 if dtype is np.float32 else 1e-12)


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint32])
@pytest.mark.parametrize("op", ["CumSum", "CumProd"])
def test_integers(op: str, kind: Any) -> None:
    x = np.array([[1, 2, 3], [4, 5, 2**31 - 1]], kind)
    (y,) = Case(op, [x, np.array([1])], {"exclusive": 1}, weights=(1,), opset=26).run()
    np.testing.assert_array_equal(y, expected(op, x, 1, True, False))
    assert y.dtype == kind


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_gradient_of_sums(reverse: int, exclusive: int, kind: type[Case], dtype: Any) -> None:
    """The sums are linear: their matrix, one column for each element, gives the gradient."""
    x, dy = RNG.standard_normal((2, 2, 3, 4, 5)).astype(dtype)
    inputs = [x, np.array(2)]
    case = kind("CumSum", list(inputs), {"exclusive": exclusive, "reverse": reverse}, weights=(1,), dtype=dtype)
    _, (dx,) = case.run_training([dy])
    matrix = expected("CumSum", np.eye(4), 0, bool(exclusive), bool(reverse))
    np.testing.assert_allclose(dx, np.einsum("ij,nciw->ncjw", matrix, dy), rtol=1e-4, atol=1e-5)


def with_zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Lines with none, one and several zeros."""
    x = RNG.uniform(0.5, 1.5, shape).astype(dtype)
    x[RNG.random(shape) < 0.15] = 0
    return x


def by_torch(x: np.ndarray, dy: np.ndarray, axis: int, exclusive: int, reverse: int) -> tuple[np.ndarray, np.ndarray]:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: CumProd is not compared with it")
    leaf = torch.tensor(x, requires_grad=True)
    y = leaf.flip(axis) if reverse else leaf
    if exclusive:
        y = torch.cat([torch.ones_like(y.narrow(axis, 0, 1)), y.narrow(axis, 0, y.shape[axis] - 1)], axis)
    y = y.cumprod(axis)
    y = y.flip(axis) if reverse else y
    y.backward(torch.tensor(dy))
    return y.detach().numpy(), leaf.grad.numpy()


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_of_products(
    shape: tuple[int, ...], reverse: int, exclusive: int, kind: type[Case], dtype: Any
) -> None:
    x, dy = with_zeros(shape, dtype), RNG.standard_normal(shape).astype(dtype)
    for axis in range(len(shape)):
        inputs, attrs = [x, np.array(axis)], {"exclusive": exclusive, "reverse": reverse}
        (y,), (dx,) = kind("CumProd", inputs, attrs, weights=(1,), dtype=dtype, opset=26).run_training([dy])
        if not x.size:
            assert dx.shape == shape
            continue
        near: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4} if dtype is np.float32 else {"rtol": 1e-11, "atol": 1e-11}
        for got, want in zip((y, dx), by_torch(x, dy, axis, exclusive, reverse), strict=True):
            np.testing.assert_allclose(got, want, **near)


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_gradient_of_products_by_finite_differences(reverse: int, exclusive: int) -> None:
    x, dy = with_zeros((4, 6, 3), np.float64), RNG.standard_normal((4, 6, 3))

    def loss(x: np.ndarray) -> float:
        return float((expected("CumProd", x, 1, bool(exclusive), bool(reverse)) * dy).sum())

    attrs = {"exclusive": exclusive, "reverse": reverse}
    case = Case("CumProd", [x, np.array(1)], attrs, weights=(1,), dtype=np.float64, opset=26)
    directional(loss, [x], case.run_training([dy])[1], RNG)


def test_gradient_of_products_with_zeros_by_hand() -> None:
    x, dy = np.array([[2, 0, 3, 5], [2, 0, 0, 5]], np.float32), np.ones((2, 4), np.float32)
    _, (dx,) = Case("CumProd", [x, np.array(1)], weights=(1,), opset=26).run_training([dy])
    np.testing.assert_array_equal(dx, [[1, 2 + 6 + 30, 0, 0], [1, 2, 0, 0]])


def test_nothing_outside_the_arrays_is_touched() -> None:
    x, dy = RNG.uniform(0.5, 1.5, (2, 3, 5, 7)).astype(np.float32), RNG.standard_normal((2, 3, 5, 7)).astype(np.float32)
    case = Case("CumProd", [x, np.array(2)], {"exclusive": 1}, weights=(1,), opset=26)
    plan = case.training_plan([dy])
    found = run_guarded(plan)
    case.execute(plan)
    for name, array in found.items():
        np.testing.assert_array_equal(array, plan.array(name))


def test_what_cannot_be_done_is_an_error() -> None:
    x = np.ones((2, 3), np.float32)
    with pytest.raises(ModelError, match=r"CumSum 'node': the axis is one number"):
        Case("CumSum", [x, np.array([0, 1])], weights=(1,)).run()
    with pytest.raises(ModelError, match=r"CumSum 'node'"):
        Case("CumSum", [x, np.array(2)], weights=(1,)).run()
