"""Where and Trilu against NumPy, with their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from channels_last import ChannelsLast
from harness import Case

from nbcnn.errors import ModelError
from nbcnn.graph import Graph, Node, Value

RNG = np.random.default_rng(9)
KINDS = [(Case, np.float32), (Case, np.float64), (ChannelsLast, np.float32)]
SHAPES: list[tuple[tuple[int, ...], ...]] = [
    ((), (), ()),
    ((9000,), (9000,), (9000,)),
    ((2, 3, 4, 17), (2, 3, 4, 17), (2, 3, 4, 17)),
    ((2, 5, 3, 4), (2, 5, 3, 4), ()),
    ((2, 5, 3, 4), (), (2, 5, 3, 4)),
    ((5, 1, 1), (2, 5, 3, 4), (2, 1, 1, 4)),
    ((), (2, 5, 3), (5, 1)),
    ((2, 5, 3), (3,), (5, 1)),
    ((0, 3), (3,), ()),
]


def added_up(dy: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """dy, summed over what an operand of this shape was repeated along."""
    return np.asarray(reference.add_backward(dy, np.zeros(shape), np.zeros(dy.shape))[0])


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize("shapes", SHAPES)
def test_where(shapes: tuple[tuple[int, ...], ...], kind: type[Case], dtype: Any) -> None:
    c = np.asarray(RNG.integers(0, 2, shapes[0])).astype(bool)
    a, b = (np.asarray(RNG.standard_normal(shape)).astype(dtype) for shape in shapes[1:])
    y = np.where(c, a, b)
    case = kind("Where", [c, a, b], dtype=dtype)
    np.testing.assert_allclose(case.run()[0], y, rtol=1e-6)
    dy = np.asarray(RNG.standard_normal(y.shape)).astype(dtype)
    if not y.size:
        return
    (found,), grads = case.run_training([dy], wanted=(1, 2))
    np.testing.assert_allclose(found, y, rtol=1e-6)
    for grad, mine, x in ((grads[0], c, a), (grads[1], ~c, b)):
        np.testing.assert_allclose(grad, added_up(np.where(mine, dy, 0), x.shape), rtol=1e-5, atol=1e-5)


def test_nan_that_is_not_chosen_has_no_effect() -> None:
    c, a, dy = np.array([True, False]), np.array([1, np.nan], np.float32), np.array([3, 4], np.float32)
    (y,), (da,) = Case("Where", [c, a, np.zeros(2, np.float32)]).run_training([dy], wanted=(1,))
    np.testing.assert_array_equal(y, [1, 0])
    np.testing.assert_array_equal(da, [3, 0])


@pytest.mark.parametrize("fed", [True, False])
@pytest.mark.parametrize("kind", [np.int8, np.uint64, np.bool_])
def test_where_of_integers(kind: Any, fed: bool) -> None:
    c, a, b = np.array([[True], [False]]), np.array([0, 1, 1], kind), np.array(1, kind)
    (y,) = Case("Where", [c, a, b], weights=() if fed else (0, 1, 2)).run()
    np.testing.assert_array_equal(y, np.where(c, a, b))
    assert y.dtype == kind


class Leaky(Case):
    """x where x is more than zero, else x times a weight: an activation as exporters write it out."""

    def graph(self) -> Graph:
        graph = super().graph()
        graph.initializers["none"] = np.zeros((), np.float32)
        graph.nodes = [
            Node("Greater", ["i0", "none"], ["positive"], name="greater"),
            Node("Mul", ["i0", "i1"], ["small"], name="mul"),
            Node("Where", ["positive", "i0", "small"], ["o0"], name="node"),
        ]
        graph.outputs = [Value("o0")]
        return graph


def test_an_activation_made_of_a_comparison() -> None:
    x, dy = RNG.standard_normal((2, 3, 33)).astype(np.float32), RNG.standard_normal((2, 3, 33)).astype(np.float32)
    slope = np.array(0.3, np.float32)
    case = Leaky("Where", [x, slope], weights=(1,))
    (y,), (dx, dslope) = case.run_training([dy], wanted=(0, 1))
    np.testing.assert_allclose(case.run()[0], reference.leaky_relu(x, 0.3), rtol=1e-6)
    np.testing.assert_allclose(y, reference.leaky_relu(x, 0.3), rtol=1e-6)
    np.testing.assert_allclose(dx, reference.leaky_relu_backward(dy, x, 0.3), rtol=1e-6)
    np.testing.assert_allclose(dslope, (dy * np.minimum(x, 0)).sum(), rtol=1e-5)


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize("shape", [(5, 5), (2, 3, 4), (2, 3, 4, 7), (1, 1), (3, 0)])
@pytest.mark.parametrize(("upper", "k"), [(1, None), (0, None), (1, 2), (0, -1), (1, -9), (0, 9)])
def test_trilu(upper: int, k: int | None, shape: tuple[int, ...], kind: type[Case], dtype: Any) -> None:
    x = RNG.standard_normal(shape).astype(dtype)
    rule = np.triu if upper else np.tril
    inputs: list[np.ndarray | None] = [x] if k is None else [x, np.array(k)]
    case = kind("Trilu", inputs, {"upper": upper}, weights=(1,), dtype=dtype)
    np.testing.assert_allclose(case.run()[0], rule(x, k or 0), rtol=1e-6)
    if not x.size:
        return
    dy = RNG.standard_normal(shape).astype(dtype)
    _, (dx,) = case.run_training([dy])
    np.testing.assert_allclose(dx, rule(dy, k or 0), rtol=1e-6)


def test_trilu_of_integers() -> None:
    x = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(Case("Trilu", [x]).run()[0], np.triu(x))


def test_what_does_not_fit() -> None:
    c, x = np.ones(3, bool), np.ones(3, np.float32)
    with pytest.raises(ModelError, match=r"Where 'node': shapes \(3,\), \(3,\) and \(2,\) do not broadcast"):
        Case("Where", [c, x, x[:2]]).run()
    with pytest.raises(ModelError, match="Where 'node': chooses between float32 and int64"):
        Case("Where", [c, x, np.arange(3)]).run()
    with pytest.raises(ModelError, match="Trilu 'node': takes matrices"):
        Case("Trilu", [x]).run()
