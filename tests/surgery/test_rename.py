"""New names: everything else stays, to the byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from changed import saved, there
from networks import batch, small_resnet
from onnx import TensorProto, helper, numpy_helper

import nbcnn
from nbcnn.errors import InputError
from nbcnn.onnx_io import to_proto

NAMES = {"input": "pixels", "output": "scores", "conv1.weight": "first", "fc.weight": "last"}


def test_the_same_numbers_under_new_names(tmp_path: Path) -> None:
    model = nbcnn.Model(small_resnet())
    x, _ = batch((2, 3, 12, 12), 5)
    changed = model.rename(NAMES)
    assert [p.name for p in (*changed.inputs, *changed.outputs)] == ["pixels", "scores"]
    assert {"first", "last"} <= changed.parameters.keys()
    np.testing.assert_array_equal(changed(x), model(x))
    there(changed, tmp_path, x)


def annotated() -> onnx.ModelProto:
    """Notes of every kind, weights listed as inputs, and a branch that reads from outside."""
    inner = helper.make_graph(
        [helper.make_node("Add", ["h", "c"], ["t"], "add")],
        "branch", [], [helper.make_tensor_value_info("t", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.ones(3, np.float32), "c")],
    )  # fmt: skip
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["h"], "mul", doc_string="a product"),
        helper.make_node("If", ["yes"], ["y"], "if", then_branch=inner, else_branch=inner),
    ]
    weights = [numpy_helper.from_array(a, n) for n, a in (("w", np.arange(3.0, dtype=np.float32)), ("yes", np.True_))]
    weights[0].doc_string = "the weight"
    info = helper.make_tensor_value_info
    x = info("x", TensorProto.FLOAT, ["N", 3], "what is fed")
    listed = [info("w", TensorProto.FLOAT, [3]), x, info("yes", TensorProto.BOOL, [])]
    y = info("y", TensorProto.FLOAT, ["N", 3])
    graph = helper.make_graph(nodes, "g", listed, [y], weights, "all", [info("h", TensorProto.FLOAT, ["N", 3])])
    note = graph.quantization_annotation.add(tensor_name="h")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="w")
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_there_and_back_is_the_same_file() -> None:
    source = annotated()
    names = {"x": "pixels", "h": "middle", "w": "y", "y": "w", "t": "inside"}
    changed = nbcnn.load(source).rename(names)
    proto = to_proto(changed.graph)
    assert [i.name for i in proto.graph.input] == ["y", "pixels", "yes"]
    assert [t.name for t in proto.graph.initializer] == ["y", "yes"] and proto.graph.initializer[0].doc_string
    assert proto.graph.quantization_annotation[0].tensor_name == "middle"
    back = changed.rename({new: old for old, new in names.items()})
    assert to_proto(back.graph) == source


def test_branches_read_the_new_names(tmp_path: Path) -> None:
    changed = nbcnn.load(annotated()).rename({"h": "middle", "c": "constant"})
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(there(changed, tmp_path, x)[0], [[1, 2, 3]] * 2)
    assert [i.name for i in saved(changed, tmp_path).graph.value_info] == ["middle"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"z": "a"}, "no value 'z' to rename"),
        ({"x": "h"}, "'x' cannot be renamed to 'h': another value has that name"),
        ({"x": "a", "h": "a"}, "cannot be renamed to 'a': another value has that name"),
        ({"x": ""}, "a name is a text"),
        ({"x": 3}, "a name is a text"),
        ("x", "takes new names by old ones"),
    ],
)
def test_names_that_cannot_be(names: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        nbcnn.load(annotated()).rename(names)
