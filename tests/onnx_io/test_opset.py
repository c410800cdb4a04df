"""Saving for another opset: onnxruntime computes the same, and what the converter had no reason to touch stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from networks import onnxruntime_run, real
from onnx import TensorProto, helper, numpy_helper

import nbcnn
from nbcnn.errors import InputError, ModelError
from nbcnn.onnx_io import to_proto
from nbcnn.onnx_io.conversion import convert

Maker = Callable[..., onnx.ModelProto]
FILES = {
    "mnist-8/model.onnx": (1, 1, 28, 28),
    "squeezenet-1.1/squeezenet-1.1.onnx": (1, 3, 224, 224),
    "resnet20-cifar10/resnet20_cifar10.onnx": (1, 3, 32, 32),
    "super-resolution-10/model.onnx": (1, 1, 224, 224),
    "yunet-n/yunet_n_320_320.onnx": (1, 3, 320, 320),
}


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize("opset", [13, 18, 21])
def test_real_networks_upgraded(path: str, opset: int, tmp_path: Path) -> None:
    source = real(f"models/{path}")
    model = nbcnn.load(source)
    (port,) = model.inputs
    x = np.random.default_rng(0).random(FILES[path], dtype=np.float32)
    model.save(tmp_path / "new.onnx", opset=opset)
    new, old = onnx.load(tmp_path / "new.onnx"), onnx.load(source)
    assert [(e.domain, e.version) for e in new.opset_import] == [("", opset)]
    for got, want in zip(onnxruntime_run(new, {port.name: x}), onnxruntime_run(old, {port.name: x}), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * max(1.0, float(np.abs(want).max())))
    assert list(new.graph.initializer)[: len(old.graph.initializer)] == list(old.graph.initializer)
    assert list(new.graph.input) == list(old.graph.input) and list(new.graph.output) == list(old.graph.output)
    assert [n.name for n in old.graph.node if n.name] == [n.name for n in new.graph.node if n.name]
    assert set(i.name for i in old.graph.value_info) <= set(i.name for i in new.graph.value_info)


def annotated(identity_model: Maker) -> onnx.ModelProto:
    """Opset 12 with all that the converter itself would lose, around a Softmax that changes its meaning at 13."""
    weight = numpy_helper.from_array(np.arange(2000, dtype=np.float32).reshape(2, 1000), "w")
    weight.doc_string = "a large weight"
    inner = helper.make_graph(
        [helper.make_node("Softmax", ["t"], ["b"], "inner", axis=1, doc_string="inside")],
        "branch", [], [helper.make_tensor_value_info("b", TensorProto.FLOAT, [2, 3])],
    )  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["x3", "w"], ["wide"], "wide"),
        helper.make_node("Wave", ["x"], ["t"], "wave", domain="own", k=3),
        helper.make_node("If", ["yes"], ["c"], "if", then_branch=inner, else_branch=inner),
        helper.make_node("Softmax", ["c"], ["y"], "soft", axis=-1, doc_string="a soft one"),
    ]
    for node in nodes:
        node.metadata_props.add(key="layer", value=node.name)
    body = [helper.make_node("Sin", ["a"], ["b"])]
    function = helper.make_function("own", "Wave", ["a"], ["b"], body, [helper.make_opsetid("", 12)], ["k"])
    yes = numpy_helper.from_array(np.array(True), "yes")
    model = identity_model(nodes, [weight, yes], opset=12, functions=[function])
    model.graph.input.append(helper.make_tensor_value_info("x3", TensorProto.FLOAT, ["N", 2], "second"))
    model.graph.output.append(helper.make_tensor_value_info("wide", TensorProto.FLOAT, ["N", 1000]))
    model.graph.value_info.append(helper.make_tensor_value_info("t", TensorProto.FLOAT, [2, 3], "a wave"))
    helper.set_model_props(model, {"author": "me"})
    return model


def test_what_has_no_reason_to_change_stays(identity_model: Maker) -> None:
    source = annotated(identity_model)
    model = to_proto(convert(nbcnn.load(source).graph, 13))
    assert [(e.domain, e.version) for e in model.opset_import] == [("", 13), ("own", 1)]
    model.opset_import[0].version = 12
    inner = {a.name: a.g for a in model.graph.node[2].attribute}
    assert "Softmax" in {n.op_type for n in inner["then_branch"].node} and len(inner["then_branch"].node) > 1
    assert model.graph.node[-1].metadata_props[0].value == "soft" and model.graph.node[-1].doc_string == "a soft one"
    assert model.graph.node[:2] == source.graph.node[:2] and model.functions == source.functions
    assert model.graph.initializer == source.graph.initializer
    assert model.graph.value_info == source.graph.value_info
    assert model.metadata_props == source.metadata_props
    onnx.checker.check_model(to_proto(convert(nbcnn.load(source).graph, 14)))


def softmax(opset: int, axis: int) -> onnx.ModelProto:
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2, 3, 4]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Softmax", ["x"], ["y"], "s", axis=axis)], "g", infos[:1], infos[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=4)


def test_a_meaning_that_changed(tmp_path: Path) -> None:
    """Before opset 13 Softmax over axis 1 is over all that follows."""
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    source = softmax(11, 1)
    model = nbcnn.load(source)
    model.save(tmp_path / "new.onnx", opset=17)
    new = onnx.load(tmp_path / "new.onnx")
    assert len(new.graph.node) > 1 and new.ir_version == 8, "opset 17 came with IR version 8"
    (want,) = onnxruntime_run(source, {"x": x})
    for got in (onnxruntime_run(new, {"x": x})[0], nbcnn.load(new)(x)):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


def test_the_same_opset_is_the_same_file(linear: Maker, tmp_path: Path) -> None:
    source = linear()
    model = nbcnn.load(source)
    model.save(tmp_path / "same.onnx", opset=13)
    assert (tmp_path / "same.onnx").read_bytes() == source.SerializeToString()


def test_present_weights_are_saved(linear: Maker, tmp_path: Path) -> None:
    model = nbcnn.load(linear())
    model.parameters["w"].value = np.full((2, 3), 7, np.float32)
    model.save(tmp_path / "new.onnx", opset=17)
    written = onnx.load(tmp_path / "new.onnx").graph.initializer[0]
    assert (numpy_helper.to_array(written) == 7).all() and written.doc_string == "the weight"


@pytest.mark.parametrize(
    ("opset", "kind", "words"),
    [
        (0, InputError, "opset must be a whole number of at least 1, not 0"),
        ("17", InputError, "opset must be a whole number"),
        (999, InputError, "opset 999 is newer than"),
        (11, ModelError, r"opset 17 cannot be converted to 11: Softmax 's' is over axis 1 alone"),
    ],
)
def test_refused(opset: Any, kind: type[Exception], words: str, tmp_path: Path) -> None:
    (tmp_path / "old.onnx").write_bytes(b"old")
    with pytest.raises(kind, match=words):
        nbcnn.load(softmax(17, 1)).save(tmp_path / "old.onnx", opset=opset)
    assert (tmp_path / "old.onnx").read_bytes() == b"old"


def test_what_an_older_opset_cannot_say() -> None:
    def shape(start: int) -> onnx.ModelProto:
        infos = [
            helper.make_tensor_value_info(n, k, [None]) for n, k in (("x", TensorProto.FLOAT), ("y", TensorProto.INT64))
        ]
        graph = helper.make_graph(
            [helper.make_node("Shape", ["x"], ["y"], "s", start=start)], "g", infos[:1], infos[1:]
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)

    with pytest.raises(ModelError, match="Shape 's' has start = 1, which there is only in later opsets"):
        convert(nbcnn.load(shape(1)).graph, 13)
    with pytest.raises(ModelError, match=r"opset 12 cannot be converted to 5: onnx's converter has no way for .* down"):
        convert(nbcnn.load(clip()).graph, 5)


def clip() -> onnx.ModelProto:
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Clip", ["x"], ["y"], "c")], "g", infos[:1], infos[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7)
