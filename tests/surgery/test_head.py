"""New heads: only the head changes, and the file stays valid; or one line says why there can be none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from nbcnn.errors import InputError, ModelError
from nbcnn.graph import Graph
from nbcnn.labels import remember_labels, remembered_labels
from nbcnn.model import Model
from nbcnn.onnx_io import read_model, to_proto
from nbcnn.surgery import find_head, new_head
from nbcnn.zoo import graph_of

OLD, NEW = 4, 7


def weight(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def model(nodes: Sequence[onnx.NodeProto], arrays: dict[str, np.ndarray], output: Sequence[Any]) -> Graph:
    """A network from x (N, 3, 5, 5) to y, checked by onnx, with the inferred shapes written down as exporters do."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 5, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return read_model(onnx.shape_inference.infer_shapes(whole, strict_mode=True))


def node(op: str, inputs: str, output: str, **attrs: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], f"{op} {output}", **attrs)


GEMM = model(
    [
        node("GlobalAveragePool", "x", "p"),
        node("Flatten", "p", "f"),
        node("Gemm", "f w b", "g", transB=1),
        node("Softmax", "g", "y"),
    ],
    {"w": weight(OLD, 3), "b": weight(OLD)},
    ["N", OLD],
)
GEMM_PLAIN = model(
    [node("GlobalAveragePool", "x", "p"), node("Flatten", "p", "f"), node("Gemm", "f w b", "y")],
    {"w": weight(3, OLD), "b": weight(1, OLD)},
    ["N", OLD],
)
CONV = model(
    [
        node("Conv", "x w b", "c"),
        node("Relu", "c", "r"),
        node("GlobalAveragePool", "r", "p"),
        node("Reshape", "p s", "q"),
        node("Softmax", "q", "y"),
    ],
    {"w": weight(OLD, 3, 1, 1), "b": weight(OLD), "s": np.array([-1, OLD])},
    [None, OLD],
)
MATMUL = model(
    [
        node("GlobalAveragePool", "x", "p"),
        node("Flatten", "p", "f"),
        node("Transpose", "stored", "w", perm=[1, 0]),
        node("MatMul", "f w", "m"),
        node("Add", "b m", "y"),
    ],
    {"stored": weight(OLD, 3), "b": weight(OLD)},
    ["N", OLD],
)
RESHAPED = model(
    [
        node("GlobalAveragePool", "x", "p"),
        node("Flatten", "p", "f"),
        helper.make_node("Constant", [], ["s"], "shape", value=numpy_helper.from_array(np.array([3, OLD]))),
        node("Reshape", "stored s", "w"),
        node("MatMul", "f w", "y"),
    ],
    {"stored": weight(3, 2, 2)},
    ["N", OLD],
)
FORMS = {"gemm": GEMM, "gemm, no transB": GEMM_PLAIN, "conv": CONV, "matmul": MATMUL, "reshaped": RESHAPED}


@pytest.mark.parametrize("graph", FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize("classes", [1, OLD, NEW])
def test_onnxruntime_takes_the_new_network(graph: Graph, classes: int) -> None:
    before = to_proto(graph).SerializeToString()
    proto = to_proto(new_head(graph, classes, seed=3))
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    x = weight(2, 3, 5, 5)
    (y,) = session.run(None, {"x": x})
    assert y.shape == (2, classes)
    assert session.get_outputs()[0].shape[1] == classes
    assert to_proto(graph).SerializeToString() == before


@pytest.mark.parametrize("graph", [GEMM, GEMM_PLAIN, CONV], ids=["gemm", "gemm, no transB", "conv"])
def test_names_and_nodes_stay(graph: Graph) -> None:
    changed = new_head(graph, NEW)
    assert [(n.op, n.name, n.outputs) for n in changed.nodes] == [(n.op, n.name, n.outputs) for n in graph.nodes]
    assert {"w", "b"} <= changed.initializers.keys()
    assert changed.initializers["w"].size == graph.initializers["w"].size // OLD * NEW
    assert not changed.initializers["b"].any()


def test_weights_before_the_head_are_shared() -> None:
    graph = graph_of("lenet", size=8)
    changed = new_head(graph, NEW)
    assert [n for n in graph.initializers if changed.initializers[n] is not graph.initializers[n]] == [
        "fc3.weight",
        "fc3.bias",
    ]


def test_seed_decides() -> None:
    first, again, other = (new_head(GEMM, NEW, seed=seed).initializers["w"] for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert np.abs(first).max() <= np.sqrt(6 / (3 + NEW))


def test_carriers_go_when_nothing_else_needs_them() -> None:
    assert [n.op for n in new_head(MATMUL, NEW).nodes] == ["GlobalAveragePool", "Flatten", "MatMul", "Add"]
    assert [n.op for n in new_head(RESHAPED, NEW).nodes] == ["GlobalAveragePool", "Flatten", "MatMul"]
    assert new_head(MATMUL, NEW).initializers["stored"].shape == (3, NEW)


def test_shared_weight_is_not_touched() -> None:
    nodes = [
        node("Flatten", "x", "f"),
        node("Gemm", "f u", "h"),
        node("Gemm", "h w b", "i"),
        node("Gemm", "i w b", "y"),
    ]
    graph = model(nodes, {"u": weight(75, OLD), "w": weight(OLD, OLD), "b": weight(OLD)}, ["N", OLD])
    changed = new_head(graph, NEW)
    assert changed.nodes[2].inputs == ["h", "w", "b"]
    assert changed.nodes[3].inputs == ["i", "w.head", "b.head"]
    assert np.array_equal(changed.initializers["w"], graph.initializers["w"])
    onnx.checker.check_model(to_proto(changed), full_check=True)


def test_zoo() -> None:
    for name in ("alexnet", "resnet18"):
        changed = new_head(graph_of(name, init="zeros"), 5)
        assert find_head(changed).classes == 5


def fails(nodes: Sequence[onnx.NodeProto], arrays: dict[str, np.ndarray], output: Sequence[Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        new_head(model(nodes, arrays, output), NEW)


def test_why_not() -> None:
    fails([node("Relu", "x", "y")], {}, ["N", 3, 5, 5], "no Conv, Gemm or MatMul with weights of its own")
    fails([node("Sin", "x", "y")], {}, ["N", 3, 5, 5], "Sin 'Sin y' stands between")
    fails([node("Conv", "x w", "y", group=3)], {"w": weight(3, 1, 1, 1)}, ["N", 3, 5, 5], "has groups")
    fails(
        [node("Flatten", "x", "f"), node("Relu", "w", "v"), node("Gemm", "f v", "y")],
        {"w": weight(75, OLD)},
        ["N", OLD],
        "the weight of Gemm 'Gemm y', 'v', is not stored",
    )
    fails(
        [node("Conv", "x w", "c"), node("Relu", "c", "r"), node("Sigmoid", "c", "q"), node("Identity", "r", "y")],
        {"w": weight(OLD, 3, 1, 1)},
        ["N", OLD, 5, 5],
        "Sigmoid 'Sigmoid q' uses the classes",
    )


def test_outputs_and_counts() -> None:
    with pytest.raises(InputError, match="no output 'z'"):
        new_head(GEMM, NEW, output="z")
    with pytest.raises(InputError, match="classes must be a whole number of at least 1, not 0"):
        new_head(GEMM, 0)
    for wrong in ("a", True):
        with pytest.raises(InputError, match=rf"classes must be .*, not {wrong!r}"):
            new_head(GEMM, wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="on a Model or a Graph, not a str"):
        new_head("m.onnx", 3)  # type: ignore[arg-type]
    two = GEMM.copy()
    two.outputs.append(two.values["f"])
    with pytest.raises(InputError, match="2 outputs, y, f: say which"):
        new_head(two, NEW)
    assert new_head(two, NEW, output="y").initializers["w"].shape == (NEW, 3)


def test_a_model_gives_its_present_weights() -> None:
    network = Model(graph_of("lenet", size=8))
    name = next(n.inputs[1] for n in network.graph.nodes if n.op == "Conv")
    network.parameters[name].value = np.full(network.parameters[name].shape, 3, np.float32)
    assert (new_head(network, NEW).initializers[name] == 3).all()


def test_a_models_method_gives_another_model() -> None:
    network = Model(graph_of("lenet", size=8), exact=True)
    changed = network.replace_head(NEW, seed=2)
    assert (changed.outputs[0].shape, network.outputs[0].shape) == (("N", NEW), ("N", 10))
    assert changed.exact
    assert np.array_equal(
        changed.parameters["fc3.weight"].value, network.replace_head(NEW, seed=2).parameters["fc3.weight"].value
    )


def test_class_names_are_those_of_the_new_head() -> None:
    """In the metadata, which the file gets; preprocessing, which still holds, stays there."""
    graph = graph_of("lenet", size=8)
    graph.metadata["nbcnn.scale"] = "1"
    remember_labels(graph, list("0123456789"))
    network = Model(graph)
    assert network.replace_head(10).metadata == {"nbcnn.scale": "1"}
    named = read_model(to_proto(network.replace_head(2, labels=["cat", "猫"]).graph))
    assert remembered_labels(network.replace_head(3, labels=np.array(["a", "b", "c"])).graph) == ["a", "b", "c"]
    assert remembered_labels(named) == ["cat", "猫"] and named.metadata["nbcnn.scale"] == "1"
    assert remembered_labels(network.graph) == list("0123456789")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["a"], "labels are 1 names, and the new head has 2 classes"),
        ("ab", "not 'ab'"),
        ([1, 2], r"not \[1, 2\]"),
        (5, "not 5"),
    ],
)
def test_labels_that_do_not_fit(labels: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        new_head(GEMM, 2, labels=labels)
