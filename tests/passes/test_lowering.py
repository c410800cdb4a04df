"""The other passes: what is dropped, folded, converted and packed on the way from a file to a plan."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from networks import assert_close, onnxruntime_run, proto
from onnx import helper

import nbcnn
from nbcnn.errors import ModelError
from nbcnn.graph import Graph

RNG = np.random.default_rng(0)
node = helper.make_node


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def lowered(source: onnx.ModelProto, x: np.ndarray) -> Graph:
    """The graph of the plan, after a check of its outputs against onnxruntime."""
    model = nbcnn.load(source)
    for got, want in zip(model.run(None, {"x": x}), onnxruntime_run(source, {"x": x}), strict=True):
        assert got.dtype == want.dtype
        assert_close(got, want, 1e-4)
    return model.plan({"x": x}).graph


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes]


# --- eliminate


def test_nodes_that_only_pass_a_value_on_are_dropped() -> None:
    nodes = [
        node("Identity", ["x"], ["a"]),
        node("Dropout", ["a"], ["b"]),
        node("Relu", ["b"], ["c"]),
        node("Identity", ["c"], ["y"]),
    ]
    graph = lowered(proto(nodes, {"x": ["N", 3]}, {"y": ["N", 3]}, {}), floats(2, 3))
    assert ops(graph).count("Relu") == 1 and ops(graph).count("Identity") <= 1 and "Dropout" not in ops(graph)


def test_an_input_that_is_an_output_twice() -> None:
    nodes = [node("Identity", ["x"], ["y"]), node("Identity", ["x"], ["z"]), node("Identity", ["y"], ["q"])]
    lowered(proto(nodes, {"x": ["N", 3]}, {"y": ["N", 3], "z": ["N", 3], "q": ["N", 3]}, {}), floats(2, 3))


# --- specialize


def test_arithmetic_on_shapes_is_folded() -> None:
    """What PyTorch exports for x.view(x.size(0), -1)."""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["n"], axis=0),
        node("Unsqueeze", ["n", "axes"], ["n1"]),
        node("Concat", ["n1", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["y"]),
    ]
    arrays = {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1])}
    graph = lowered(proto(nodes, {"x": ["N", 2, 3]}, {"y": ["N", 6]}, arrays), floats(4, 2, 3))
    assert set(ops(graph)) <= {"Reshape", "Identity"}


def test_float_weights_are_never_folded() -> None:
    """Nodes on weights alone stay, so that a weight that is trained keeps its effect."""
    nodes = [node("Exp", ["w"], ["e"]), node("Mul", ["x", "e"], ["y"])]
    source = proto(nodes, {"x": ["N", 3]}, {"y": ["N", 3]}, {"w": floats(3)})
    x = floats(2, 3)
    assert ops(lowered(source, x)) == ["Exp", "Mul"]
    model = nbcnn.load(source)
    model(x)
    model.parameters["w"].value = np.array([0.0, 1.0, 2.0])
    assert_close(model(x), x * np.exp(np.array([0, 1, 2], np.float32)), 1e-5)


def test_only_what_is_asked_for_is_computed() -> None:
    nodes = [node("Relu", ["x"], ["a"]), node("Exp", ["a"], ["y"]), node("Tanh", ["x"], ["z"])]
    model = nbcnn.load(proto(nodes, {"x": ["N", 3]}, {"y": ["N", 3], "z": ["N", 3]}, {}))
    assert ops(model.plan({"x": floats(2, 3)}, ["a"]).graph) == ["Relu"]
    assert ops(model.plan({"x": floats(2, 3)}, ["z"]).graph) == ["Tanh"]


@pytest.mark.parametrize(
    ("nodes", "arrays", "words"),
    [
        ([node("Gemm", ["x", "w"], ["y"], "fc")], {"w": floats(5, 2)}, ["Gemm 'fc'"]),
        ([node("Relu", ["missing"], ["y"], "r")], {}, ["missing"]),
        ([node("Concat", ["x", "w"], ["y"], "join", axis=1)], {"w": floats(7, 2)}, ["Concat 'join'"]),
        ([node("Add", ["x", "w"], ["y"], "sum")], {"w": floats(4)}, ["Add 'sum'"]),
    ],
)
def test_shapes_that_do_not_fit_name_the_node(
    nodes: list[onnx.NodeProto], arrays: dict[str, np.ndarray], words: list[str]
) -> None:
    with pytest.raises(ModelError) as error:
        nbcnn.load(proto(nodes, {"x": ["N", 3]}, {"y": ["N", "M"]}, arrays))(floats(2, 3))
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value), error.value


# --- layout


def test_conversions_happen_at_the_edges_only() -> None:
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("Relu", ["c"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2]),
        node("Sigmoid", ["p"], ["s"]),
        node("Conv", ["s", "v"], ["y"]),
    ]
    source = proto(
        nodes, {"x": ["N", 9, 8, 8]}, {"y": ["N", 5, 5, 5]}, {"w": floats(16, 9, 3, 3), "v": floats(5, 16, 1, 1)}
    )
    graph = lowered(source, floats(2, 9, 8, 8))
    assert ops(graph).count("ToLayout") == 2
    inner = {name for n in graph.nodes for name in n.outputs} & {"c", "r", "p", "s"}
    assert inner and all(graph.values[name].layout == "last" for name in inner)


@pytest.mark.parametrize("op", ["Reshape", "Transpose", "Flatten", "Softmax", "ReduceMean", "Slice", "Concat"])
def test_values_of_both_layouts_meet(op: str) -> None:
    """An operator between two convolutions' layouts, a plain input and a broadcast, in ONNX order all the same."""
    tails = {
        "Reshape": [node("Reshape", ["c", "target"], ["y"])],
        "Transpose": [node("Transpose", ["c"], ["y"], perm=[2, 0, 3, 1])],
        "Flatten": [node("Flatten", ["c"], ["y"], axis=2)],
        "Softmax": [node("Softmax", ["c"], ["y"], axis=2)],
        "ReduceMean": [node("ReduceMean", ["c"], ["y"], axes=[1, 3], keepdims=0)],
        "Slice": [node("Slice", ["c", "starts", "ends", "axes"], ["y"])],
        "Concat": [node("Relu", ["x"], ["r"]), node("Concat", ["c", "r", "c"], ["y"], axis=3)],
    }
    nodes = [node("Conv", ["x", "w"], ["c0"], pads=[1, 1, 1, 1]), node("Add", ["c0", "x"], ["c"]), *tails[op]]
    arrays = {"w": floats(3, 3, 3, 3), "target": np.array([0, 2, -1]), "starts": np.array([1, 0])}
    arrays |= {"ends": np.array([3, 4]), "axes": np.array([1, 3])}
    used = {k: a for k, a in arrays.items() if any(k in n.input for n in nodes)}
    rank = {"Reshape": 3, "Flatten": 2, "ReduceMean": 2}.get(op, 4)
    lowered(proto(nodes, {"x": ["N", 3, 4, 6]}, {"y": [None] * rank}, used), floats(2, 3, 4, 6))


# --- pack


def test_a_weight_of_two_products_is_packed_once_for_each_packing() -> None:
    nodes = [
        node("Gemm", ["x", "w"], ["a"]),
        node("Gemm", ["a", "w"], ["b"]),
        node("Gemm", ["b", "w"], ["y"], transB=1),
    ]
    source = proto(nodes, {"x": ["N", 6]}, {"y": ["N", 6]}, {"w": floats(6, 6) / 4})
    graph = lowered(source, floats(2, 6))
    assert ops(graph).count("PackWeights") == 2


def test_training_keeps_weights_in_the_order_of_their_kernel() -> None:
    """A weight that one product reads lies in that product's panels, and no step packs it again."""
    model = nbcnn.zoo.mlp()
    trainer = nbcnn.Trainer(model)
    before = {name: p.value for name, p in model.parameters.items()}
    graph = trainer._bound({"input": floats(2, 784)}, np.array([1, 2])).plan.graph
    assert "PackWeights" not in ops(graph)
    for name, array in before.items():
        np.testing.assert_array_equal(model.parameters[name].value, array)


# --- pictures


@pytest.mark.parametrize("channels", [2, 3, 5])
@pytest.mark.parametrize("pad", [0, 2])
def test_the_first_convolution_reads_the_picture_as_given(channels: int, pad: int) -> None:
    arrays = {"w": floats(7, channels, 3, 3)}
    nodes = [node("Conv", ["x", "w"], ["y"], pads=[pad] * 4, strides=[2, 1])]
    source = proto(nodes, {"x": ["N", channels, 9, 11]}, {"y": ["N", 7, None, None]}, arrays)
    graph = lowered(source, floats(2, channels, 9, 11))
    assert [n.inputs[0] for n in graph.nodes if n.op == "Conv"] == ["x"]
    assert ops(graph).count("ToLayout") == 1  # of the output
