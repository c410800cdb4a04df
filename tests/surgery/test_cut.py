"""Feature extractors: they end where they are told to, and compute what the whole network has there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from changed import saved, there
from networks import batch, small_resnet, stir
from onnx import TensorProto, helper, numpy_helper

import nbcnn
from nbcnn.errors import InputError, ModelError
from nbcnn.labels import remember_labels, remembered_labels


def network() -> nbcnn.Model:
    return nbcnn.Model(stir(small_resnet()))


@pytest.mark.parametrize("where", ["/layer1/relu2/Relu", "conv1"])
def test_a_value_or_a_node(where: str, tmp_path: Path) -> None:
    model = network()
    nodes = [n for n in model.graph.nodes if n.op == "Relu"]
    name = {"conv1": model.graph.nodes[0].name}.get(where, nodes[1].name)
    x, _ = batch((3, 3, 12, 12), 5)
    front = model.cut(name)
    value = front.outputs[0].name
    (want,) = model.run([value], {"input": x})
    (got,) = there(front, tmp_path, x)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4)
    assert [p.name for p in model.cut(value).outputs] == [value]


def test_nothing_more_than_needed(tmp_path: Path) -> None:
    model = network()
    front = model.cut(model.graph.nodes[0].name)
    proto = saved(front, tmp_path)
    assert [n.op_type for n in proto.graph.node] == ["Conv"]
    assert [t.name for t in proto.graph.initializer] == ["conv1.weight"]
    assert {"fc.weight"} <= model.parameters.keys(), "the model itself stays"


def test_class_names_are_those_of_classes() -> None:
    model = network()
    remember_labels(model.graph, list("abcde"))
    assert remembered_labels(model.cut("/fc/Gemm").graph) == list("abcde")
    assert remembered_labels(model.cut("/conv1/Conv").graph) is None
    assert remembered_labels(model.graph) == list("abcde")


def test_present_weights_and_settings() -> None:
    model = nbcnn.Model(small_resnet(), dtype="float64", exact=True)
    model.parameters["conv1.weight"].value = np.ones(model.parameters["conv1.weight"].shape)
    front = model.cut("/conv1/Conv")
    assert (front.parameters["conv1.weight"].value == 1).all()
    assert (front.dtype, front.exact) == (np.float64, True)
    front.parameters["conv1.weight"].value = np.zeros(model.parameters["conv1.weight"].shape)
    assert (model.parameters["conv1.weight"].value == 1).all()


def bare(op: str = "Relu") -> onnx.ModelProto:
    """Nothing is declared of what lies between."""
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], "to half", to=TensorProto.FLOAT16),
        helper.make_node(op, ["h"], ["r"], "middle"),
        helper.make_node("Cast", ["r"], ["y"], "back", to=TensorProto.FLOAT),
    ]
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 3]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", infos[:1], infos[1:], [numpy_helper.from_array(np.ones(1, np.float32), "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_type_and_shape_are_learnt(tmp_path: Path) -> None:
    front = nbcnn.load(bare()).cut("middle")
    assert front.outputs[0] == nbcnn.model.Port("r", "float16", ("N", 3))
    saved(front, tmp_path)


def test_why_not() -> None:
    with pytest.raises(InputError, match=r"no node and no computed value 'z'; the last ones are \['h', 'r', 'y'\]"):
        nbcnn.load(bare()).cut("z")
    proto = bare()
    for node in proto.graph.node:
        node.name = "same"
    with pytest.raises(InputError, match="3 nodes are called 'same'"):
        nbcnn.load(proto).cut("same")
    proto = bare()
    proto.graph.node[1].domain, proto.graph.node[1].op_type = "own", "Own"
    proto.opset_import.append(helper.make_opsetid("own", 1))
    with pytest.raises(ModelError, match="cannot end in 'r': neither the file nor onnx tells its element type"):
        nbcnn.load(proto).cut("r")
