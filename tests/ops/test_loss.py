"""Losses and their gradients against the float64 oracle, in both layouts; counts against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reference as ref
from harness import to_onnx_order

from nbcnn import executor
from nbcnn.autodiff import differentiate
from nbcnn.errors import InputError
from nbcnn.graph import Graph, Node, Value
from nbcnn.lower import lower_for_training
from nbcnn.ops import lookup
from nbcnn.ops.loss import LOSSES
from nbcnn.parameter import Parameter
from nbcnn.passes.pack import pack_weights
from nbcnn.passes.specialize import Mode
from nbcnn.placement import Arena
from nbcnn.plan import build_plan
from nbcnn.threads import get_num_threads, set_num_threads

SHAPES = [
    (1, 1),
    (3, 1),
    (1, 17),
    (2, 5),
    (129, 33),
    (2, 3, 1),
    (3, 5, 7),
    (2, 17, 3, 5),
    (1, 2, 2, 3, 4),
    (40, 10, 15),
]
DTYPES = [np.float32, np.float64]
TOLERANCE = {np.float32: 1e-6, np.float64: 1e-13}


def run(
    inputs: dict[str, tuple[np.ndarray, str]], extend: Callable[[Graph], list[str]], dtype: Any
) -> list[np.ndarray]:
    """Feed arrays (each with its layout) to a graph that `extend` makes; the values it names, in ONNX order."""
    graph = Graph()
    for name, (array, layout) in inputs.items():
        graph.values[name] = Value(name, array.dtype, array.shape, layout)
        graph.inputs.append(graph.values[name])
    graph.outputs = [graph.values[name] for name in extend(graph)]
    plan = build_plan(graph, {}, np.dtype(dtype), Arena(), threads=2)
    for name, (array, layout) in inputs.items():
        plan.array(name)[...] = np.moveaxis(array, 1, -1) if layout == "last" else array
    executor.execute(plan)
    return [to_onnx_order(plan.array(v.name).copy(), v.layout) for v in graph.outputs]


def append(graph: Graph, op: str, prediction: str = "x", **attrs: Any) -> list[str]:
    """Append a node that compares a prediction with the value "t"; returns its outputs."""
    x = graph.values[prediction]
    node = Node(op, [prediction, "t"], [], attrs, name=op)
    for dtype, shape in lookup(node).infer(node, [x, graph.values["t"]]):
        node.outputs.append(graph.new_value(op, dtype, shape, x.layout if len(shape) > 2 else "plain"))
    graph.nodes.append(node)
    return node.outputs


def loss_of(op: str, x: np.ndarray, t: np.ndarray, layout: str = "plain") -> tuple[float, Any]:
    """Loss and gradient by x; a target of x's shape lies in x's layout."""
    inputs = {"x": (x, layout), "t": (t, layout if t.shape == x.shape else "plain")}
    loss, dx = run(inputs, lambda graph: append(graph, op), x.dtype)
    assert loss.shape == (1,) and loss.dtype == np.float64 and dx.dtype == x.dtype
    return float(loss[0]), dx


def count_of(x: np.ndarray, t: np.ndarray, layout: str = "plain", **attrs: Any) -> int:
    inputs = {"x": (x, layout), "t": (t, layout if t.shape == x.shape else "plain")}
    (count,) = run(inputs, lambda graph: append(graph, "Correct", **attrs), x.dtype)
    assert count.shape == (1,) and count.dtype == np.int64
    return int(count[0])


def layouts(shape: tuple[int, ...]) -> list[str]:
    return ["plain", "last"] if len(shape) > 2 else ["plain"]


def draw(shape: tuple[int, ...], dtype: Any, scale: float = 3.0) -> np.ndarray:
    return (np.random.default_rng(sum(shape)).standard_normal(shape) * scale).astype(dtype)


def classes(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(len(shape)).integers(0, shape[1], (shape[0], *shape[2:]))


def soft(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return ref.softmax(draw(shape, np.float64, 1.0), axis=1).astype(dtype)


def one_hot(labels: np.ndarray, count: int, dtype: Any) -> np.ndarray:
    return np.moveaxis(np.eye(count, dtype=dtype)[labels], -1, 1)


def unit(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return np.random.default_rng(sum(shape)).uniform(0.02, 0.98, shape).astype(dtype)


def hinge(x: np.ndarray, t: np.ndarray) -> tuple[float, np.ndarray]:
    """Obvious and slow; the oracle has none."""
    dx, value = np.zeros(x.shape), 0.0
    for place in np.ndindex(t.shape):
        at = (place[0], slice(None), *place[1:])
        score, label = x[at].astype(np.float64), t[place]
        for c in range(x.shape[1]):
            if c != label and (margin := 1 + score[c] - score[label]) > 0:
                value += margin
                dx[(place[0], c, *place[1:])] += 1
                dx[(place[0], label, *place[1:])] -= 1
    return value / t.size, dx / t.size


def dice(x: np.ndarray, t: np.ndarray) -> tuple[float, np.ndarray]:
    """Obvious and slow; the oracle has none."""
    axes = tuple(range(1, x.ndim))
    x, t = x.astype(np.float64), t.astype(np.float64)
    over, under = 2 * (x * t).sum(axes, keepdims=True) + 1, (x + t).sum(axes, keepdims=True) + 1
    return float(1 - (over / under).mean()), -(2 * t * under - over) / under**2 / len(x)


def agree(got: tuple[float, np.ndarray], expected: tuple[float, np.ndarray], dtype: Any) -> None:
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(got[0], expected[0], rtol=10 * tolerance, atol=tolerance)
    scale = max(float(np.abs(expected[1]).max()), 1e-30)
    np.testing.assert_allclose(got[1], expected[1], rtol=10 * tolerance, atol=3 * tolerance * scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_softmax_cross_entropy(shape: tuple[int, ...], dtype: Any) -> None:
    x, labels = draw(shape, dtype), classes(shape)
    for layout in layouts(shape):
        agree(loss_of("SoftmaxCrossEntropy", x, labels, layout), ref.softmax_cross_entropy(x, labels), dtype)
        for target in (one_hot(labels, shape[1], dtype), soft(shape, dtype), unit(shape, dtype)):
            expected = ref.softmax_cross_entropy(x, target)
            agree(loss_of("SoftmaxCrossEntropy", x, target, layout), expected, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_cross_entropy_of_large_scores(dtype: Any) -> None:
    x = np.array([[1e4, 0, -1e4], [-3e4, -3e4, -3e4], [0, 88, 90], [-1e30, 0, 1e30]], dtype)
    labels = np.array([0, 1, 2, 2])
    agree(loss_of("SoftmaxCrossEntropy", x, labels), ref.softmax_cross_entropy(x, labels), dtype)


def test_a_sure_prediction_keeps_a_small_gradient() -> None:
    """1 - p of the label is not lost to rounding."""
    x = np.array([[20, 0]], np.float32)
    _, dx = loss_of("SoftmaxCrossEntropy", x, np.array([0]))
    np.testing.assert_allclose(dx, ref.softmax_cross_entropy(x, np.array([0]))[1], rtol=1e-6)


@pytest.mark.parametrize("op", ["SoftmaxCrossEntropy", "Hinge"])
@pytest.mark.parametrize("label", [-1, 3, 2**40])
def test_a_label_of_no_class_makes_the_loss_nan(op: str, label: int) -> None:
    loss, dx = loss_of(op, draw((2, 3), np.float32), np.array([1, label]))
    assert np.isnan(loss) and np.isnan(dx[1]).all() and np.isfinite(dx[0]).all()


@pytest.mark.parametrize("op", LOSSES)
@pytest.mark.parametrize("at", [0, 4])
def test_nan_stays_nan(op: str, at: int) -> None:
    x = unit((3, 5), np.float32)
    x[1, at] = np.nan
    target = classes((3, 5)) if op in ("SoftmaxCrossEntropy", "Hinge") else np.zeros((3, 5), np.float32)
    assert np.isnan(loss_of(op, x, target)[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_hinge(shape: tuple[int, ...], dtype: Any) -> None:
    x, labels = draw(shape, dtype), classes(shape)
    for layout in layouts(shape):
        agree(loss_of("Hinge", x, labels, layout), hinge(x, labels), dtype)


ELEMENTS = {
    "SquaredError": (draw, ref.squared_error),
    "BinaryCrossEntropy": (unit, ref.binary_cross_entropy),
    "BinaryCrossEntropyWithLogits": (draw, ref.binary_cross_entropy_with_logits),
    "Dice": (unit, dice),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES, (5,), (70, 3, 33)])
@pytest.mark.parametrize("op", ELEMENTS)
def test_element_losses(op: str, shape: tuple[int, ...], dtype: Any) -> None:
    prediction, expected = ELEMENTS[op]
    x, t = prediction(shape, dtype), unit(shape[::-1], dtype).reshape(shape)
    for layout in layouts(shape):
        agree(loss_of(op, x, t, layout), expected(x, t), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_cross_entropy_of_certainties(dtype: Any) -> None:
    p, t = np.array([0, 1, 0, 1], dtype), np.array([0, 1, 1, 0], dtype)
    agree(loss_of("BinaryCrossEntropy", p, t), ref.binary_cross_entropy(p, t), dtype)
    x, t = np.array([-500, 500, -500, 500, 0], dtype), np.array([0, 1, 1, 0, 0.5], dtype)
    agree(
        loss_of("BinaryCrossEntropyWithLogits", x, t),
        ref.binary_cross_entropy_with_logits(x, t),
        dtype,
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_against_pytorch(dtype: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: losses are not compared with it")
    f, shape = torch.nn.functional, (6, 5, 3)
    x, p, t, labels = draw(shape, dtype), unit(shape, dtype), soft(shape, dtype), classes(shape)
    flat = draw((40, 7), dtype)
    cases: list[tuple[str, np.ndarray, np.ndarray, Any]] = [
        ("SoftmaxCrossEntropy", x, labels, f.cross_entropy),
        ("SoftmaxCrossEntropy", x, t, f.cross_entropy),
        ("SquaredError", x, t, f.mse_loss),
        ("BinaryCrossEntropy", p, t, f.binary_cross_entropy),
        ("BinaryCrossEntropyWithLogits", x, t, f.binary_cross_entropy_with_logits),
        ("Hinge", flat, classes(flat.shape), lambda a, b: 7 * f.multi_margin_loss(a, b)),
    ]
    for op, prediction, target, theirs in cases:
        tensor = torch.tensor(prediction, requires_grad=True)
        loss = theirs(tensor, torch.tensor(target))
        loss.backward()
        agree(loss_of(op, prediction, target), (loss.item(), tensor.grad.numpy()), dtype)


@pytest.mark.parametrize("shape", SHAPES)
def test_count(shape: tuple[int, ...]) -> None:
    x, labels = draw(shape, np.float32), classes(shape)
    target = soft(shape, np.float32)
    for layout in layouts(shape):
        assert count_of(x, labels, layout) == (x.argmax(1) == labels).sum()
        assert count_of(x, target, layout) == (x.argmax(1) == target.argmax(1)).sum()
        assert count_of(x, target, layout, threshold=0.0) == ((x > 0) == (target > 0.5)).sum()


def test_class_numbers_may_come_as_a_column() -> None:
    x, labels = draw((4, 3), np.float32), classes((4, 3))
    assert loss_of("SoftmaxCrossEntropy", x, labels[:, None])[0] == loss_of("SoftmaxCrossEntropy", x, labels)[0]


def test_count_takes_the_first_of_equals() -> None:
    x = np.array([[1, 2, 2], [0, 0, 0]], np.float64)
    assert count_of(x, np.array([1, 0])) == 2
    assert count_of(x, np.array([2, 1])) == 0


def test_threads_do_not_change_the_loss() -> None:
    x, labels = draw((300, 100), np.float32), classes((300, 100))
    most, found = get_num_threads(), []
    try:
        for count in {1, most}:
            set_num_threads(count)
            found.append(
                (loss_of("SoftmaxCrossEntropy", x, labels)[0], loss_of("SquaredError", x, unit(x.shape, x.dtype))[0])
            )
    finally:
        set_num_threads(most)
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    ("op", "x", "t", "says"),
    [
        (
            "SoftmaxCrossEntropy",
            (4, 3),
            np.zeros(3, np.int64),
            r"class numbers of shape \(4,\) \(int64\) or float32 of",
        ),
        ("SoftmaxCrossEntropy", (4, 3), np.zeros(4, np.float32), r"not float32 of shape \(4,\)"),
        ("SoftmaxCrossEntropy", (4,), np.zeros(4, np.float32), r"scores of shape \(N, C, ...\); 'x' has shape \(4,\)"),
        ("Hinge", (4, 3), np.zeros((4, 3), np.float32), r"must be class numbers of shape \(4,\) \(int64\), not"),
        ("SquaredError", (4, 3), np.zeros((4, 1), np.float32), r"must be float32 of shape \(4, 3\), not"),
        ("SquaredError", (4, 3), np.zeros((4, 3), np.float64), "not float64"),
        ("Dice", (4, 3), np.zeros(4, np.int64), "Dice of 'x'"),
    ],
)
def test_a_target_that_does_not_fit(op: str, x: tuple[int, ...], t: np.ndarray, says: str) -> None:
    with pytest.raises(InputError, match=says):
        loss_of(op, np.zeros(x, np.float32), t)


@pytest.mark.parametrize("shared", [False, True])
def test_gradient_of_a_network(shared: bool) -> None:
    """Pixelwise cross-entropy behind a convolution, channels last; the gradients of two losses on one value add up."""
    rng = np.random.default_rng(5)
    x, w = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((6, 3, 1, 1))
    source = Graph(opset={"": 17}, inputs=[Value("x", x.dtype, x.shape)], outputs=[Value("y")], initializers={"w": w})
    source.nodes = [Node("Conv", ["x", "w"], ["y"])]
    parameters = {"w": Parameter("w", w, np.dtype(np.float64))}
    graph = lower_for_training(source, {"x": (x.shape, x.dtype)}, np.dtype(np.float64), ["y"], Mode(train=True))
    labels = classes((2, 6, 4, 5))
    graph.values["t"] = Value("t", labels.dtype, labels.shape)
    graph.inputs.append(graph.values["t"])
    losses = [append(graph, "SoftmaxCrossEntropy", "y")[0]]
    y = np.einsum("oi,nihw->nohw", w[:, :, 0, 0], x)
    loss, dy = ref.softmax_cross_entropy(y, labels)
    if shared:
        losses.append(append(graph, "Hinge", "y")[0])
        dy = dy + hinge(y, labels)[1]
    dw = differentiate(graph, dict.fromkeys(losses, "one"), ["w"])["w"]
    graph.outputs = [graph.values[losses[0]], graph.values[dw]]
    pack_weights(graph, parameters)
    plan = build_plan(graph, parameters, np.dtype(np.float64), Arena(), threads=2)
    plan.array("x")[...] = np.moveaxis(x, 1, -1) if graph.values["x"].layout == "last" else x
    plan.array("t")[...] = labels
    executor.execute(plan)
    np.testing.assert_allclose(plan.array(losses[0])[0], loss, rtol=1e-12)
    got = plan.array(dw)
    np.testing.assert_allclose(got[:, :, 0, 0], np.einsum("nohw,nihw->oi", dy, x), rtol=1e-10, atol=1e-12)
