"""Operators that broadcast against the oracle, in both layouts; integers; the clamp that is fused into Add."""

from __future__ import annotations

import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import reference
from channels_last import ChannelsLast
from harness import Case

from nbcnn.errors import ModelError
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


@pytest.mark.parametrize("op", ["Add", "Max", "Pow", "Mean"])
def test_more_dimensions_than_the_kernel_walks(op: str) -> None:
    a, b = draw(op, (2, 1, 3, 1, 2, 1, 3, 1), np.float32), draw(op, (1, 2, 1, 3, 1, 2, 1, 3), np.float32)
    wanted = (a + b) / 2 if op == "Mean" else oracle(op)[0](a, b)
    np.testing.assert_allclose(Case(op, [a, b]).run()[0], wanted, rtol=1e-5)


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


INTEGERS = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
ROUNDED: dict[str, Callable[[int, int], int]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Div": lambda a, b: int(Fraction(a, b)),
    "Mod": operator.mod,
    "Max": max,
    "Min": min,
}
"""The rules in Python, whose integers do not end."""


@pytest.mark.parametrize("fed", [True, False])
@pytest.mark.parametrize("kind", INTEGERS)
@pytest.mark.parametrize("op", ROUNDED)
def test_integers_keep_their_type_and_wrap_around(op: str, kind: Any, fed: bool) -> None:
    limits = np.iinfo(kind)
    some = [limits.min, limits.min + 1, limits.max, limits.max // 2 + 1, 0, 1, 2, 7, 100]
    some += [-1, -3, -7] if limits.min else []
    pairs = [(a, b) for a in some for b in some if b or op not in ("Div", "Mod")]
    a, b = np.array(pairs, kind).T.copy()
    (y,) = Case(op, [a, b], weights=(1,) if fed else (0, 1)).run()
    wrapped = [(ROUNDED[op](m, n) - limits.min) % 2**limits.bits + limits.min for m, n in pairs]
    np.testing.assert_array_equal(y, np.array(wrapped, kind))
    assert y.dtype == kind


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_single_integers_overflow_in_silence(op: str) -> None:
    x = np.array(127, np.int8)
    (y,) = Case(op, [x, x], weights=(0, 1)).run()
    assert y == (-2 if op == "Add" else 1)


@pytest.mark.parametrize("op", ["Div", "Mod"])
@pytest.mark.parametrize("fed", [True, False])
def test_division_of_an_integer_by_zero_is_an_error(op: str, fed: bool) -> None:
    case = Case(op, [np.array([3, 4]), np.array([1, 0])], weights=() if fed else (0, 1))
    with pytest.raises(ModelError, match="an integer is divided by zero"):
        case.run()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fmod", [0, 1])
@pytest.mark.parametrize("shapes", [((5, 7), (5, 7)), ((3, 4), ()), ((), (3, 4)), ((2, 1, 3), (4, 1))])
def test_remainders_of_floats(shapes: tuple[tuple[int, ...], ...], fmod: int, dtype: Any) -> None:
    a, b = (np.asarray(RNG.uniform(-9, 9, shape)).astype(dtype) for shape in shapes)
    (y,) = Case("Mod", [a, b], {"fmod": fmod}, dtype=dtype).run()
    np.testing.assert_array_equal(y, (np.fmod if fmod else np.mod)(a, b))


def test_remainders_of_special_floats() -> None:
    some = np.array([0, 1, -1, 1e-30, -1e-30, 3e38, np.inf, -np.inf, np.nan], np.float32)
    a, b = (grid.reshape(-1) for grid in np.meshgrid(some, some))
    for fmod, rule in ((1, np.fmod), (0, np.mod)):
        with np.errstate(all="ignore"):
            wanted = rule(a, b)
        np.testing.assert_array_equal(Case("Mod", [a, b], {"fmod": fmod}).run()[0], wanted)


@pytest.mark.parametrize("exponent", [np.int8, np.int64, np.uint64, np.float32])
@pytest.mark.parametrize("base", [np.int32, np.int64, np.float32])
def test_powers_of_mixed_types(base: Any, exponent: Any) -> None:
    a, b = np.array([1, 2, 3, 4, 2], base), np.array([4, 5, 2, 0, 10], exponent)
    (y,) = Case("Pow", [a, b]).run()
    np.testing.assert_array_equal(y, np.array([1, 32, 9, 1, 1024], base))
    assert y.dtype == base


def test_integers_to_negative_powers() -> None:
    a, b = np.array([1, -1, -1, 2, -3, 0]), np.array([-1, -1, -2, -1, -3, -1])
    np.testing.assert_array_equal(Case("Pow", [a, b]).run()[0], [1, -1, 1, 0, 0, 0])


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize("shapes", [[(2, 3, 4)], [(2, 3, 4, 5), (3, 1, 1), (2, 3, 4, 5)], [(4,), (2, 1, 1), ()]])
def test_mean(shapes: list[tuple[int, ...]], kind: type[Case], dtype: Any) -> None:
    inputs = [draw("Mean", shape, dtype) for shape in shapes]
    y = sum(x.astype(np.float64) for x in inputs) / len(inputs)
    dy = RNG.standard_normal(y.shape).astype(dtype)
    case = kind("Mean", list(inputs), dtype=dtype)
    np.testing.assert_allclose(case.run()[0], y, rtol=1e-5, atol=1e-6)
    _, grads = case.run_training([dy], wanted=tuple(range(len(inputs))))
    for grad, wanted in zip(grads, reference.sum_backward(dy / len(inputs), *inputs), strict=True):
        np.testing.assert_allclose(grad, wanted, rtol=1e-5, atol=1e-5)


LEGACY = [
    ((2, 3, 4, 5), (2, 3, 4, 5), {}, (2, 3, 4, 5)),
    ((2, 3, 4, 5), (), {"broadcast": 1}, ()),
    ((2, 3, 4, 5), (5,), {"broadcast": 1}, (5,)),
    ((2, 3, 4, 5), (4, 5), {"broadcast": 1}, (4, 5)),
    ((2, 3, 4, 5), (3, 4), {"broadcast": 1, "axis": 1}, (3, 4, 1)),
    ((2, 3, 4, 5), (3,), {"broadcast": 1, "axis": -3}, (3, 1, 1)),
    ((2, 3, 4, 5), (2,), {"broadcast": 1, "axis": 0}, (2, 1, 1, 1)),
    ((2, 3, 4, 5), (1, 4), {"broadcast": 1, "axis": 1}, (1, 4, 1)),
]


@pytest.mark.parametrize("weights", [(), (1,), (0, 1)])
@pytest.mark.parametrize(("first", "second", "attrs", "as_today"), LEGACY)
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow"])
def test_broadcasting_before_opset_7(
    op: str, first: Any, second: Any, attrs: dict[str, int], as_today: Any, weights: tuple[int, ...]
) -> None:
    a, b = draw(op, first, np.float32), draw(op, second, np.float32)
    case = Case(op, [a, b], attrs, weights=weights, opset=6)
    forward, backward = oracle(op)
    y = forward(a, b.reshape(as_today))
    np.testing.assert_allclose(case.run()[0], y, rtol=1e-5, atol=1e-6)
    dy = RNG.standard_normal(y.shape).astype(np.float32)
    (_, grads), wanted = case.run_training([dy], wanted=(0, 1)), backward(dy, a, b.reshape(as_today))
    np.testing.assert_allclose(grads[1], wanted[1].reshape(second), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("op", ["Add", "Div"])
def test_broadcasting_of_integers_before_opset_7(op: str) -> None:
    a, b = np.arange(1, 25).reshape(2, 3, 4), np.array([1, 2, 3])
    for weights in ((), (1,), (0, 1)):
        (y,) = Case(op, [a, b], {"broadcast": 1, "axis": 1}, weights=weights, opset=6).run()
        np.testing.assert_array_equal(y, a + b[:, None] if op == "Add" else a // b[:, None])


@pytest.mark.parametrize(
    ("op", "second", "attrs"),
    [
        ("Add", (5,), {}),
        ("Mul", (3,), {"broadcast": 1}),
        ("Add", (4, 5), {"broadcast": 1, "axis": 3}),
        ("Sum", (5,), {}),
    ],
)
def test_shapes_that_do_not_fit_before_opset_7(op: str, second: tuple[int, ...], attrs: dict[str, int]) -> None:
    case = Case(op, [np.ones((2, 3, 4, 5), np.float32), np.ones(second, np.float32)], attrs, opset=6)
    with pytest.raises(ModelError, match=f"{op} 'node': shape"):
        case.run()


def test_operands_of_two_types_are_refused() -> None:
    with pytest.raises(ModelError, match="Add 'node': operands of the types int64 and int32"):
        Case("Add", [np.array([1]), np.array([2], np.int32)]).run()


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
