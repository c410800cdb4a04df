"""Operators that broadcast against the oracle, in both layouts; integers; the clamp that is fused into Add."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from channels_last import ChannelsLast
from harness import Case

from nbcnn.errors import ModelError, UnsupportedError
from nbcnn.graph import Node, Value

RNG = np.random.default_rng(2)
KINDS = [(Case, np.float32), (Case, np.float64), (ChannelsLast, np.float32)]
TOLERANCE = {np.float32: 3e-6, np.float64: 1e-13}
BINARY = ["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min"]
ORACLE = {"Pow": "pow_", "Max": "max_", "Min": "min_", "Sum": "sum_"}
SHAPES = [
    ((5,), (5,)),
    ((2, 3, 4, 17), (2, 3, 4, 17)),
    ((2, 5, 3, 4), (5, 1, 1)),
    ((2, 33, 3, 4), (1, 33, 1, 1)),
    ((2, 3, 5, 4), (2, 3, 1, 1)),
    ((2, 3, 5, 4), ()),
    ((1,), (2, 3, 1, 5)),
    ((2, 3, 5, 4), (5, 1)),
    ((2, 3, 5, 4), (3, 5, 4)),
    ((3, 1, 5), (1, 4, 1)),
    ((1000, 17), (17,)),
    ((1, 1, 1), (2, 1, 3)),
    ((2, 1, 3, 1, 2, 1), (1, 2, 1, 3, 1, 2)),
]


def oracle(op: str) -> tuple[Any, Any]:
    name = ORACLE.get(op, op.lower())
    return getattr(reference, name), getattr(reference, f"{name.rstrip('_')}_backward")


def draw(op: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Away from where the derivatives grow without bound."""
    x = RNG.standard_normal(shape)
    return np.asarray(np.sign(x) * (abs(x) + 0.3) if op == "Div" else abs(x) + 0.2 if op == "Pow" else x).astype(dtype)


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize(("first", "second"), SHAPES)
@pytest.mark.parametrize("op", BINARY)
def test_two_operands(op: str, first: tuple[int, ...], second: tuple[int, ...], kind: type[Case], dtype: Any) -> None:
    if kind is ChannelsLast and not any(3 <= len(s) <= 5 for s in (first, second)):
        return  # neither operand comes out of a convolution: the same as Case
    forward, backward = oracle(op)
    orders = [(first, second), (second, first)]
    for shapes in orders[: 1 if first == second else 2]:
        a, b = (draw(op, shape, dtype) for shape in shapes)
        y = forward(a, b)
        dy = RNG.standard_normal(y.shape).astype(dtype)
        case = kind(op, [a, b], dtype=dtype)
        near: dict[str, Any] = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
        np.testing.assert_allclose(case.run()[0], y, **near)
        (found,), grads = case.run_training([dy], wanted=(0, 1))
        np.testing.assert_allclose(found, y, **near)
        for grad, wanted in zip(grads, backward(dy, a, b), strict=True):
            np.testing.assert_allclose(
                grad, wanted, rtol=1e-5 if dtype is np.float32 else 1e-12, atol=100 * near["atol"]
            )


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize(
    "shapes", [[(2, 3, 4)], [(2, 3, 4, 5), (3, 1, 1), (2, 3, 4, 5)], [(4,), (2, 1, 1), (3, 1), ()]]
)
@pytest.mark.parametrize("op", ["Sum", "Max", "Min"])
def test_any_number_of_operands(op: str, shapes: list[tuple[int, ...]], kind: type[Case], dtype: Any) -> None:
    inputs = [draw(op, shape, dtype) for shape in shapes]
    forward, backward = oracle(op)
    y = forward(*inputs)
    dy = RNG.standard_normal(y.shape).astype(dtype)
    case = kind(op, list(inputs), dtype=dtype)
    np.testing.assert_allclose(case.run()[0], y, rtol=1e-6, atol=1e-6)
    _, grads = case.run_training([dy], wanted=tuple(range(len(inputs))))
    for grad, wanted in zip(grads, backward(dy, *inputs), strict=True):
        np.testing.assert_allclose(grad, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_ties_go_to_the_first(op: str) -> None:
    x, other, dy = np.ones(4, np.float32), np.array([0, 1, 2, 1], np.float32), np.arange(1, 5, dtype=np.float32)
    _, grads = Case(op, [x, other, x.copy()]).run_training([dy], wanted=(0, 1, 2))
    for grad, wanted in zip(grads, oracle(op)[1](dy, x, other, x), strict=True):
        np.testing.assert_array_equal(grad, wanted)


@pytest.mark.parametrize("op", ["Max", "Min"])
@pytest.mark.parametrize("shape", [(3,), (1,)])
def test_nan_stays(op: str, shape: tuple[int, ...]) -> None:
    x, y = np.array([np.nan, 1, 2], np.float32), np.full(shape, 0.5, np.float32)
    assert np.isnan(Case(op, [x, y]).run()[0][0]) and np.isnan(Case(op, [y, x]).run()[0][0])


def test_power_at_zero_follows_pytorch() -> None:
    a = np.array([0, 0, 2, -2, 3], np.float64)
    b = np.array([0, 2, 0, 3, -1], np.float64)
    dy = np.ones(5)
    (y,), grads = Case("Pow", [a, b], dtype=np.float64).run_training([dy], wanted=(0, 1))
    np.testing.assert_allclose(y, reference.pow_(a, b))
    for grad, wanted in zip(grads, reference.pow_backward(dy, a, b), strict=True):
        np.testing.assert_allclose(grad, wanted, rtol=1e-14)


@pytest.mark.parametrize("exponent", [2.0, 0.5, -1.0, 3.0, 0.0])
def test_power_by_one_number(exponent: float) -> None:
    a, b = draw("Pow", (2, 5, 7), np.float32), np.array(exponent, np.float32)
    dy = RNG.standard_normal(a.shape).astype(np.float32)
    (y,), (da,) = Case("Pow", [a, b], weights=(1,)).run_training([dy])
    np.testing.assert_allclose(y, reference.pow_(a, b), rtol=1e-6)
    np.testing.assert_allclose(da, reference.pow_backward(dy, a, b)[0], rtol=1e-5, atol=1e-6)


def test_power_by_an_integer() -> None:
    a, b = draw("Pow", (2, 3), np.float32), np.array([1, 2, 3])
    (y,), (da,) = Case("Pow", [a, b], weights=(1,)).run_training([np.ones((2, 3), np.float32)])
    np.testing.assert_allclose(y, reference.pow_(a, b), rtol=1e-6)
    np.testing.assert_allclose(da, reference.pow_backward(np.ones((2, 3)), a, b)[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("op", "wanted"),
    [("Add", [-5, 9]), ("Sub", [-9, 5]), ("Mul", [-14, 14]), ("Div", [-3, 3]), ("Max", [2, 7]), ("Min", [-7, 2])],
)
def test_integers_are_folded(op: str, wanted: list[int]) -> None:
    case = Case(op, [np.array([-7, 7]), np.array([2])], weights=(0, 1))
    np.testing.assert_array_equal(case.run()[0], wanted)


def test_integers_that_are_fed_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"Add 'node': input 0.*int64"):
        Case("Add", [np.array([1]), np.array([2])], weights=(1,)).run()


def test_shapes_that_do_not_broadcast_are_named() -> None:
    with pytest.raises(ModelError, match=r"Mul 'node': shapes \(2, 3\) and \(4,\) do not broadcast"):
        Case("Mul", [np.ones((2, 3), np.float32), np.ones(4, np.float32)]).run()


class AddThenRelu(Case):
    """Add, then Relu, which the fuse pass makes a clamp of Add."""

    def graph(self) -> Any:
        graph = super().graph()
        graph.nodes.append(Node("Relu", ["o0"], ["o1"], name="relu"))
        graph.outputs = [Value("o1")]
        return graph


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shapes", [((2, 3, 5), (2, 3, 5)), ((2, 3, 5), (5,)), ((33, 131), (33, 131))])
def test_fused_clamp(shapes: tuple[tuple[int, ...], ...], dtype: Any) -> None:
    a, b = (RNG.standard_normal(shape).astype(dtype) for shape in shapes)
    y = np.maximum(a + b, 0)
    dy = RNG.standard_normal(y.shape).astype(dtype)
    case = AddThenRelu("Add", [a, b], dtype=dtype)
    np.testing.assert_allclose(case.run()[0], y, rtol=1e-6, atol=1e-6)
    _, grads = case.run_training([dy], wanted=(0, 1))
    for grad, wanted in zip(grads, reference.add_backward(dy * (y > 0), a, b), strict=True):
        np.testing.assert_allclose(grad, wanted, rtol=1e-5, atol=1e-6)
