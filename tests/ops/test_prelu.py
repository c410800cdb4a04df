"""PRelu and its gradients, by x and by the slope, against the oracle in both layouts, and beside onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
import reference
from channels_last import ChannelsLast
from gradcheck import check_backward
from harness import Case
from onnx import TensorProto, helper

from nbcnn.errors import ModelError, UnsupportedError
from nbcnn.graph import Graph, Node
from nbcnn.trainables import trainable

KINDS = [(Case, np.float32), (Case, np.float64), (ChannelsLast, np.float32), (ChannelsLast, np.float64)]
SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((2, 5, 3, 4), (5, 1, 1)),
    ((3, 33, 1, 1), (33, 1, 1)),
    ((1, 17, 3, 5), (1, 17, 1, 1)),
    ((2, 3, 7), (3, 1)),
    ((1, 3, 2, 3, 4), (3, 1, 1, 1)),
    ((2, 1, 3, 4), (1, 1, 1)),
    ((4, 17), (17,)),
    ((70, 3, 20, 20), (3, 1, 1)),
    ((2, 5, 3, 4), ()),
    ((2, 5, 3, 4), (1,)),
    ((2, 5, 3, 4), (4,)),
    ((2, 5, 3, 4), (5, 3, 4)),
    ((2, 5, 3, 4), (2, 5, 3, 4)),
    ((7,), (7,)),
    ((), ()),
]


def draw(*shapes: tuple[int, ...], dtype: Any) -> list[np.ndarray]:
    rng = np.random.default_rng(4)
    return [np.asarray(rng.standard_normal(shape)).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("weights", [(), (1,)])  # a slope that is fed may lie channels last too
@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize(("shape", "slopes"), SHAPES)
def test_against_the_oracle(
    shape: tuple[int, ...], slopes: tuple[int, ...], kind: type[Case], dtype: Any, weights: tuple[int, ...]
) -> None:
    x, slope, dy = draw(shape, slopes, shape, dtype=dtype)
    tolerance = 1e-6 if dtype is np.float32 else 1e-14
    case = kind("PRelu", [x, slope], weights=weights, dtype=dtype)
    y = reference.prelu(x, slope)
    np.testing.assert_allclose(case.run()[0], y, rtol=tolerance, atol=tolerance)
    (found,), (dx, dslope) = case.run_training([dy], wanted=(0, 1))
    np.testing.assert_allclose(found, y, rtol=tolerance, atol=tolerance)
    wanted_dx, wanted_dslope = reference.prelu_backward(dy, x, slope)
    np.testing.assert_allclose(dx, wanted_dx, rtol=tolerance, atol=tolerance)
    assert dslope.shape == slope.shape
    np.testing.assert_allclose(dslope, wanted_dslope, rtol=1e-5, atol=tolerance * 10 * x.size**0.5)


@pytest.mark.parametrize("wanted", [0, 1])
def test_one_gradient_alone(wanted: int) -> None:
    x, slope, dy = draw((2, 5, 3, 4), (5, 1, 1), (2, 5, 3, 4), dtype=np.float64)
    _, (grad,) = Case("PRelu", [x, slope], dtype=np.float64).run_training([dy], wanted=(wanted,))
    np.testing.assert_allclose(grad, reference.prelu_backward(dy, x, slope)[wanted], rtol=1e-12)


def test_finite_differences() -> None:
    x, slope = draw((2, 5, 3, 4), (5, 1, 1), dtype=np.float64)
    x = np.sign(x) * (abs(x) + 0.01)

    def forward(x: np.ndarray, slope: np.ndarray) -> np.ndarray:
        return Case("PRelu", [x, slope], dtype=np.float64).run()[0]

    def backward(dy: np.ndarray, x: np.ndarray, slope: np.ndarray) -> list[np.ndarray]:
        return Case("PRelu", [x, slope], dtype=np.float64).run_training([dy], wanted=(0, 1))[1]

    check_backward(forward, backward, [x, slope], np.random.default_rng(5))


@pytest.mark.parametrize("opset", [7, 9, 16, 22])
@pytest.mark.parametrize(("shape", "slopes"), SHAPES[:7] + SHAPES[9:13])
def test_as_onnxruntime(shape: tuple[int, ...], slopes: tuple[int, ...], opset: int) -> None:
    x, slope = draw(shape, slopes, dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("PRelu", ["x", "slope"], ["y"])],
        "prelu",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)
            for name, dims in [("x", shape), ("slope", slopes)]
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"x": x, "slope": slope})
    (y,) = Case("PRelu", [x, slope], opset=opset).run()
    np.testing.assert_allclose(y, wanted, rtol=1e-6)


def test_zero_and_nan() -> None:
    """At zero both derivatives are those from the left, as PyTorch has them; a NaN stays one."""
    x, slope = np.array([0, -0.0, np.nan, -np.inf, np.inf, 1]), np.array([0.5])
    (y,), (dx, dslope) = Case("PRelu", [x, slope], dtype=np.float64).run_training([np.ones(6)], wanted=(0, 1))
    np.testing.assert_array_equal(y, [0, 0, np.nan, -np.inf, np.inf, 1])
    np.testing.assert_array_equal(dx[[0, 1, 3, 4, 5]], [0.5, 0.5, 0.5, 1, 1])
    assert np.isnan(dslope).all()


def test_the_slope_is_trained() -> None:
    graph = Graph(initializers={"slope": np.ones((3, 1, 1), np.float32), "other": np.ones((3, 1, 1), np.float32)})
    graph.nodes = [Node("PRelu", ["x", "slope"], ["a"]), Node("Mul", ["a", "other"], ["y"])]
    assert trainable(graph) == ["slope"]


def test_a_slope_for_each_channel_needs_its_axes() -> None:
    x, slope = draw((2, 5, 3, 4), (5,), dtype=np.float32)
    with pytest.raises(ModelError, match=r"PRelu 'node': the slope's shape \(5,\) .*\(C, 1, 1\)"):
        Case("PRelu", [x, slope]).run()


def test_the_slope_does_not_stretch_the_input() -> None:
    x, slope = draw((1, 5), (3, 5), dtype=np.float32)
    with pytest.raises(ModelError, match=r"does not broadcast to the input's \(1, 5\)"):
        Case("PRelu", [x, slope]).run()


def test_integers_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"PRelu 'node': input 1.*int64"):
        Case("PRelu", [np.array([1]), np.array([2])], weights=(1,)).run()


@pytest.mark.parametrize("weights", [(), (1,)])
@pytest.mark.parametrize("kind", [Case, ChannelsLast])
@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 5), (2, 4, 3, 4)])
def test_slopes_of_opset_6_are_those_of_channels(
    shape: tuple[int, ...], kind: type[Case], weights: tuple[int, ...]
) -> None:
    x, dy = draw(shape, shape, dtype=np.float32)
    slope = np.array([0.1, -0.2, 0.3, 2], np.float32)
    today = slope.reshape(4, *(1,) * (len(shape) - 2))
    case = kind("PRelu", [x, slope], weights=weights, opset=6)
    wanted = reference.prelu(x, today)
    np.testing.assert_allclose(case.run()[0], wanted, rtol=1e-6)
    _, (dx, dslope) = case.run_training([dy], wanted=(0, 1))
    for grad, right in zip((dx, dslope), reference.prelu_backward(dy, x, today), strict=True):
        np.testing.assert_allclose(grad, right.reshape(grad.shape), rtol=1e-5, atol=1e-5)


def test_slopes_of_opset_6_must_fit_the_channels() -> None:
    x, slope = draw((2, 4, 3, 4), (3,), dtype=np.float32)
    with pytest.raises(ModelError, match=r"PRelu 'node': \(3,\) slopes for an input of shape \(2, 4, 3, 4\)"):
        Case("PRelu", [x, slope], opset=6).run()
