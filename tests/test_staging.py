"""Networks whose shapes depend on values: what these are is computed first, then the rest is planned."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import nbcnn
from nbcnn.errors import UnsupportedError

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64
X = np.arange(12, dtype=np.float32).reshape(3, 4) - 5


def network(nodes: list, inputs: list, outputs: list, **more) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "staged", inputs, outputs, **more)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def port(name: str, shape: list, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def test_a_shape_that_is_fed() -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    model = nbcnn.load(network(nodes, [port("x", [3, 4]), port("shape", [2], INT)], [port("y", [None, None])]))
    for shape in ([4, 3], [2, -1], [12, 1], [4, 3]):
        (y,) = model.run(None, {"x": X, "shape": np.array(shape)})
        np.testing.assert_array_equal(y, X.reshape(shape))
        (y,) = model.run(None, {"x": 2 * X, "shape": np.array(shape)})
        np.testing.assert_array_equal(y, 2 * X.reshape(shape))


def test_a_shape_that_is_computed() -> None:
    """The sum of x says how far y reaches."""
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["count"], to=INT),
        helper.make_node("Unsqueeze", ["count", "zero"], ["end"]),
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Slice", ["r", "zero", "end", "zero"], ["y"]),
    ]
    zero = helper.make_tensor("zero", INT, [1], [0])
    model = nbcnn.load(network(nodes, [port("x", [3, 4])], [port("y", [None, 4])], initializer=[zero]))
    for rows in (2, 1, 3, 2):
        x = np.zeros((3, 4), np.float32)
        x[0, 0], x[0, 1] = rows + 1, -1
        (y,) = model.run(None, {"x": x})
        np.testing.assert_array_equal(y, np.maximum(x, 0)[:rows])


def branches() -> onnx.ModelProto:
    """y = Relu(x) or w - x, by a condition; `x` and `w` are taken from outside."""
    then = helper.make_graph([helper.make_node("Relu", ["x"], ["a"])], "then", [], [port("a", [3, 4])])
    w = helper.make_tensor("w", FLOAT, [1], [0.5])
    other = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["a2"]), helper.make_node("Add", ["a2", "w"], ["b"])],
        "else",
        [],
        [port("b", [3, 4])],
        initializer=[w],
    )
    nodes = [helper.make_node("If", ["condition"], ["y"], then_branch=then, else_branch=other)]
    inputs = [port("x", [3, 4]), port("condition", [1], TensorProto.BOOL)]
    return network(nodes, inputs, [port("y", [3, 4])])


def test_if_takes_the_branch_of_its_condition() -> None:
    model = nbcnn.load(branches())
    for condition in (True, False, True):
        (y,) = model.run(None, {"x": X, "condition": np.array([condition])})
        np.testing.assert_array_equal(y, np.maximum(X, 0) if condition else 0.5 - X)


def test_if_with_a_constant_condition_folds_away_and_trains() -> None:
    proto = branches()
    proto.graph.initializer.append(helper.make_tensor("condition", TensorProto.BOOL, [1], [False]))
    model = nbcnn.load(proto)
    assert [p.name for p in model.inputs] == ["x"]
    np.testing.assert_array_equal(model(X), 0.5 - X)
    assert {n.op for n in model.plan({"x": X}).graph.nodes} <= {"Neg", "Add", "Identity", "Sub", "Chain"}


def test_a_function_of_the_file() -> None:
    """affine(x) = leaky(x; slope) + 1, called twice with two slopes."""
    body = [
        helper.make_node("LeakyRelu", ["v"], ["leaky"]),
        helper.make_node("Constant", [], ["one"], value_float=1.0),
        helper.make_node("Add", ["leaky", "one"], ["u"]),
    ]
    body[0].attribute.append(onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope"))
    function = helper.make_function("mine", "affine", ["v"], ["u"], body, [helper.make_opsetid("", 16)], ["slope"])
    nodes = [
        helper.make_node("affine", ["x"], ["h"], domain="mine", slope=0.5),
        helper.make_node("affine", ["h"], ["y"], domain="mine", slope=-1.0),
    ]
    model = network(nodes, [port("x", [3, 4])], [port("y", [3, 4])])
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("mine", 1))

    def affine(x: np.ndarray, slope: float) -> np.ndarray:
        return np.where(x < 0, slope * x, x) + 1

    loaded = nbcnn.load(model)
    np.testing.assert_allclose(loaded(X), affine(affine(X, 0.5), -1.0), rtol=1e-6)
    assert loaded.graph.origin.functions[0] == function  # what is saved has it still


def test_training_says_which_value_is_not_known() -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["r"]), helper.make_node("MatMul", ["r", "w"], ["y"])]
    w = helper.make_tensor("w", FLOAT, [4, 4], range(16))
    inputs = [port("x", [3, 4]), port("shape", [2], INT)]
    model = nbcnn.load(network(nodes, inputs, [port("y", [None, None])], initializer=[w]))
    with pytest.raises(UnsupportedError, match="'shape'"):
        nbcnn.Trainer(model).step({"x": X, "shape": np.array([3, 4])}, np.zeros(3, np.int64))


def test_the_same_plan_serves_the_same_values() -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    model = nbcnn.load(network(nodes, [port("x", [3, 4]), port("shape", [2], INT)], [port("y", [None, None])]))
    feeds = {"x": X, "shape": np.array([4, 3])}
    assert model.plan(feeds) is model.plan(feeds)
    assert model.plan(feeds) is not model.plan({"x": X, "shape": np.array([3, 4])})
