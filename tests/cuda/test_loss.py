"""The trainer's losses and counts on a GPU: values and gradients against the float64 oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference as ref

from nbcnn import executor
from nbcnn.devices import find_device
from nbcnn.graph import Graph, Node, Value
from nbcnn.ops import lookup
from nbcnn.placement import Arena
from nbcnn.plan import build_plan

DTYPES = [np.float32, np.float64]


def compute(op: str, x: np.ndarray, t: np.ndarray, **attrs: Any) -> list[np.ndarray]:
    """The outputs of a node that compares a prediction with a target."""
    graph = Graph()
    for name, array in (("x", x), ("t", t)):
        graph.values[name] = Value(name, array.dtype, array.shape)
        graph.inputs.append(graph.values[name])
    node = Node(op, ["x", "t"], [], attrs, name=op)
    for dtype, shape in lookup(node).infer(node, graph.inputs):
        node.outputs.append(graph.new_value(op, dtype, shape))
    graph.nodes, graph.outputs = [node], [graph.values[name] for name in node.outputs]
    plan = build_plan(graph, {}, x.dtype, Arena(), find_device("cuda", precision="fp32"), threads=1)
    plan.feed("x", x)
    plan.feed("t", t)
    executor.execute(plan)
    return [plan.fetch(value.name) for value in graph.outputs]


def agree(found: list[np.ndarray], expected: tuple[Any, Any], dtype: Any) -> None:
    tolerance = 3e-6 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(found[0], [expected[0]], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(found[1], expected[1], rtol=10 * tolerance, atol=tolerance)


def draw(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return (np.random.default_rng(7).standard_normal(shape) * 3).astype(dtype)


def classes(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(8).integers(0, shape[1], (shape[0], *shape[2:]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (37, 10), (2, 300), (2, 3, 7)])
def test_softmax_cross_entropy(shape: tuple[int, ...], dtype: Any) -> None:
    x, labels = draw(shape, dtype), classes(shape)
    agree(compute("SoftmaxCrossEntropy", x, labels), ref.softmax_cross_entropy(x, labels), dtype)
    soft = ref.softmax(draw(shape, np.float64)[::-1], axis=1).astype(dtype)
    agree(compute("SoftmaxCrossEntropy", x, soft), ref.softmax_cross_entropy(x, soft), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_hinge(dtype: Any) -> None:
    x, labels = draw((9, 5), dtype), classes((9, 5))
    wide, rows = x.astype(np.float64), np.arange(9)
    margins = 1 + wide - wide[rows, labels][:, None]
    margins[rows, labels] = 0
    dx = (margins > 0).astype(np.float64)
    dx[rows, labels] = -dx.sum(1)
    agree(compute("Hinge", x, labels), (np.maximum(margins, 0).sum() / 9, dx / 9), dtype)


@pytest.mark.parametrize("op", ["SoftmaxCrossEntropy", "Hinge"])
def test_a_label_of_no_class_is_nan(op: str) -> None:
    loss, dx = compute(op, draw((3, 4), np.float32), np.array([1, 4, 0]))
    assert np.isnan(loss[0]) and np.isnan(dx[1]).all() and np.isfinite(dx[[0, 2]]).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_elements(dtype: Any) -> None:
    shape = (3, 5, 40)
    x, rng = draw(shape, dtype), np.random.default_rng(9)
    p, t = rng.uniform(0.02, 0.98, (2, *shape)).astype(dtype)
    agree(compute("SquaredError", x, t), ref.squared_error(x, t), dtype)
    agree(compute("BinaryCrossEntropy", p, t), ref.binary_cross_entropy(p, t), dtype)
    agree(compute("BinaryCrossEntropyWithLogits", x, t), ref.binary_cross_entropy_with_logits(x, t), dtype)
    wide, target = p.astype(np.float64).reshape(3, -1), t.astype(np.float64).reshape(3, -1)
    over, under = 2 * (wide * target).sum(1) + 1, (wide + target).sum(1) + 1
    slope = -(2 * target * under[:, None] - over[:, None]) / under[:, None] ** 2 / 3
    agree(compute("Dice", p, t), (float(1 - (over / under).mean()), slope.reshape(shape)), dtype)


def test_counts() -> None:
    x, labels = draw((70, 5), np.float32), classes((70, 5))
    (count,) = compute("Correct", x, labels)
    assert count.dtype == np.int64 and count[0] == (x.argmax(1) == labels).sum()
    soft = draw((70, 5), np.float32)[::-1].copy()
    assert compute("Correct", x, soft)[0][0] == (x.argmax(1) == soft.argmax(1)).sum()
    assert compute("Correct", x, soft, threshold=0.25)[0][0] == ((x > 0.25) == (soft > 0.5)).sum()
    ties = np.array([[1, 2, 2], [3, 3, 3]], np.float32)
    assert compute("Correct", ties, np.array([1, 0]))[0][0] == 2
