"""MatMul and every form of Gemm against the oracle; biases that an Add carries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from harness import Case

from nbcnn.errors import ModelError, UnsupportedError
from nbcnn.graph import Graph, Node, Value
from nbcnn.lower import lower_for_inference
from nbcnn.parameter import Parameter

RNG = np.random.default_rng(4)
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}
SHAPES = [
    ((1, 1), (1, 1)),
    ((3, 5), (5, 17)),
    ((33, 40), (40, 3)),
    ((2, 3, 5), (5, 7)),
    ((2, 3, 4, 5), (5, 33)),
    ((5,), (5, 3)),
    ((4, 5), (5,)),
    ((5,), (5,)),
    ((2, 3, 5), (5,)),
    ((2, 3, 5), (2, 5, 4)),
    ((3, 5), (2, 5, 4)),
    ((2, 1, 9, 5), (3, 5, 17)),
    ((5,), (2, 5, 3)),
    ((1, 1, 5), (2, 5, 1)),
    ((2, 3, 2, 3, 1, 4), (3, 2, 1, 4, 2)),
]


def close(found: np.ndarray, wanted: Any, dtype: Any) -> None:
    np.testing.assert_allclose(found, wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    assert found.shape == np.shape(wanted)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weights", [(), (0,), (1,)])
@pytest.mark.parametrize(("first", "second"), SHAPES)
def test_matmul(first: tuple[int, ...], second: tuple[int, ...], weights: tuple[int, ...], dtype: Any) -> None:
    a, b = (RNG.standard_normal(shape).astype(dtype) for shape in (first, second))
    y = reference.matmul(a, b)
    dy = np.asarray(RNG.standard_normal(y.shape)).astype(dtype)
    case = Case("MatMul", [a, b], weights=weights, dtype=dtype)
    close(case.run()[0], y, dtype)
    (found,), grads = case.run_training([dy], wanted=(0, 1))
    close(found, y, dtype)
    for grad, wanted in zip(grads, reference.matmul_backward(dy, a, b), strict=True):
        close(grad, wanted, dtype)


@pytest.mark.parametrize(("first", "second"), [((2, 3), (4, 5)), ((2, 3, 4), (3, 4, 2)), ((), (3,))])
def test_shapes_that_do_not_fit_are_named(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"MatMul 'node': cannot multiply shapes"):
        Case("MatMul", [np.ones(first, np.float32), np.ones(second, np.float32)]).run()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weights", [(), (1, 2)])
@pytest.mark.parametrize("c", [None, (17,), (1, 17), (4, 17), (4, 1), (1, 1), (1,), ()])
@pytest.mark.parametrize(
    "attrs", [{}, {"transA": 1}, {"transB": 1, "alpha": 0.5}, {"transA": 1, "transB": 1, "alpha": 2.0, "beta": -0.25}]
)
def test_gemm(attrs: dict[str, Any], c: tuple[int, ...] | None, weights: tuple[int, ...], dtype: Any) -> None:
    a = RNG.standard_normal((6, 4) if attrs.get("transA") else (4, 6)).astype(dtype)
    b = RNG.standard_normal((17, 6) if attrs.get("transB") else (6, 17)).astype(dtype)
    inputs = [a, b] if c is None else [a, b, np.asarray(RNG.standard_normal(c)).astype(dtype)]
    dy = RNG.standard_normal((4, 17)).astype(dtype)
    case = Case("Gemm", list(inputs), attrs, weights=weights, dtype=dtype)
    y = reference.gemm(*inputs, **attrs)
    close(case.run()[0], y, dtype)
    (found,), grads = case.run_training([dy], wanted=tuple(range(len(inputs))))
    close(found, y, dtype)
    wanted = reference.gemm_backward(dy, *inputs[:2], inputs[2] if c is not None else None, **attrs)
    for grad, right in zip(grads, wanted, strict=False):
        close(grad, right, dtype)


def test_gemm_with_one_column() -> None:
    a, b, c = (RNG.standard_normal(shape).astype(np.float32) for shape in ((5, 3), (3, 1), (1, 1)))
    close(Case("Gemm", [a, b, c], weights=(1, 2)).run()[0], reference.gemm(a, b, c), np.float32)


def test_c_that_does_not_fit_is_named() -> None:
    with pytest.raises(ModelError, match=r"Gemm 'node': C of shape \(3,\) cannot be added"):
        Case("Gemm", [np.ones((4, 6), np.float32), np.ones((6, 17), np.float32), np.ones(3, np.float32)]).run()


class ThenAdd(Case):
    """The operator, then an Add of a weight, which comes first where `swapped`."""

    constant = np.zeros(0, np.float32)
    swapped = False

    def graph(self) -> Graph:
        graph = super().graph()
        graph.initializers["c"] = self.constant
        graph.nodes.append(Node("Add", ["c", "o0"] if self.swapped else ["o0", "c"], ["o1"], name="add"))
        graph.outputs = [Value("o1")]
        return graph

    def parameters(self) -> dict[str, Parameter]:
        return super().parameters() | {"c": Parameter("c", self.constant, np.dtype(self.dtype))}

    def operators(self) -> list[str]:
        lowered = lower_for_inference(self.graph(), self._shapes(), self.parameters(), np.dtype(self.dtype))
        return [node.op for node in lowered.nodes]


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize(
    ("op", "x", "w", "c", "absorbed"),
    [
        ("MatMul", (4, 6), (6, 5), (5,), True),
        ("MatMul", (2, 3, 6), (6, 5), (5,), True),
        ("MatMul", (2, 3, 6), (6, 5), (1, 1, 5), True),
        ("MatMul", (2, 5, 6), (6, 5), (5, 1), False),
        ("MatMul", (2, 3, 6), (6, 5), (2, 1, 1, 5), False),
        ("Gemm", (4, 6), (6, 5), (1, 5), True),
        ("Gemm", (5, 6), (6, 5), (5, 1), False),
        ("Gemm", (4, 6), (6, 5), (1,), False),
        ("Conv", (2, 3, 4, 5), (7, 3, 1, 1), (7, 1, 1), True),
        ("Conv", (2, 3, 4, 5), (7, 3, 1, 1), (1, 7, 1, 1), True),
        ("Conv", (2, 3, 4, 5), (5, 3, 1, 1), (5,), False),
    ],
)
def test_added_constant_becomes_the_bias(
    op: str, x: tuple[int, ...], w: tuple[int, ...], c: tuple[int, ...], absorbed: bool, swapped: bool
) -> None:
    data, weight = (RNG.standard_normal(shape).astype(np.float32) for shape in (x, w))
    case = ThenAdd(op, [data, weight], weights=(1,))
    case.constant, case.swapped = RNG.standard_normal(c).astype(np.float32), swapped
    linear = {"MatMul": reference.matmul, "Gemm": reference.gemm, "Conv": reference.conv}[op](data, weight)
    (y,) = case.run()
    close(y, linear + case.constant, np.float32)
    assert ("Add" in case.operators()) is not absorbed


def test_absorbed_bias_is_trained() -> None:
    """The gradient arrives at the weight in the shape that the file gives it."""
    data, weight = (RNG.standard_normal(shape).astype(np.float32) for shape in ((2, 3, 6), (6, 5)))
    case = ThenAdd("MatMul", [data, weight], weights=(1,))
    case.constant = RNG.standard_normal((1, 1, 5)).astype(np.float32)
    dy = RNG.standard_normal((2, 3, 5)).astype(np.float32)
    graph = case.graph()
    # The harness calls the wanted inputs by number.
    graph.initializers["i7"] = graph.initializers.pop("c")
    graph.nodes[-1].inputs[1] = "i7"
    case.graph = lambda: graph  # type: ignore[method-assign]
    case.parameters = lambda: {  # type: ignore[method-assign]
        name: Parameter(name, array, np.dtype(np.float32)) for name, array in graph.initializers.items()
    }
    _, (db, dw) = case.run_training([dy], wanted=(7, 1))
    close(db, dy.sum(axis=(0, 1), dtype=np.float64).reshape(1, 1, 5), np.float32)
    close(dw, reference.matmul_backward(dy, data, weight)[1], np.float32)


def test_integers_that_are_fed() -> None:
    rng = np.random.default_rng(4)
    for left, right in (((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((3,), (2, 3, 4)), ((2, 1, 2, 3), (4, 3, 2))):
        a, b = rng.integers(-9, 9, left).astype(np.int32), rng.integers(-9, 9, right).astype(np.int32)
        (y,) = Case("MatMul", [a, b]).run()
        assert y.dtype == np.int32
        np.testing.assert_array_equal(y, a @ b)
    a, b, c = (rng.integers(-9, 9, shape) for shape in ((3, 2), (4, 3), (1, 4)))
    attrs = {"transA": 1, "transB": 1, "alpha": 2.0, "beta": 3.0}
    np.testing.assert_array_equal(Case("Gemm", [a, b, c], attrs).run()[0], 2 * (a.T @ b.T) + 3 * c)


@pytest.mark.parametrize(("rows", "depth", "columns"), [(0, 3, 4), (2, 0, 4), (2, 3, 0)])
def test_nothing(rows: int, depth: int, columns: int) -> None:
    a, b = np.ones((rows, depth), np.float32), np.ones((depth, columns), np.float32)
    np.testing.assert_array_equal(Case("MatMul", [a, b]).run()[0], a @ b)
    stack = np.ones((2, depth, columns), np.float32)
    np.testing.assert_array_equal(Case("MatMul", [a, stack]).run()[0], a @ stack)
    for c in (np.ones(columns, np.float32), np.ones((rows, 1), np.float32)):
        np.testing.assert_array_equal(Case("Gemm", [a, b, c]).run()[0], a @ b + c)


def test_many_dimensions() -> None:
    rng = np.random.default_rng(6)
    stacks = [((2, 1, 2, 1, 2, 1), (2, 1, 2, 1, 2, 1)), ((3, 2, 1, 2, 2), (2, 2, 2, 2))]
    for left, right in (((*a, 3, 4), (*b, 4, 5)) for a, b in stacks):
        a, b = rng.standard_normal(left), rng.standard_normal(right)
        np.testing.assert_allclose(Case("MatMul", [a, b], dtype=np.float64).run()[0], a @ b, rtol=1e-13, atol=1e-13)
    a, b = rng.standard_normal((2, 1, 2, 1, 2, 1, 2, 3)), rng.standard_normal((1, 2, 1, 2, 1, 2, 3, 2))
    with pytest.raises(UnsupportedError, match="repeats matrices along more than 4 axes"):
        Case("MatMul", [a, b], dtype=np.float64).run()
