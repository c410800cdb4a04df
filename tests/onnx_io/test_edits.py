"""Graphs that were changed after reading, and graphs that no file ever held."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from nbcnn.errors import ModelError
from nbcnn.graph import Graph, Node, Value
from nbcnn.onnx_io import read_model, to_proto, write_model

Maker = Callable[..., onnx.ModelProto]


def weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("raw", [True, False])
def test_weights_go_back_in_their_own_type(linear: Maker, dtype: str, raw: bool) -> None:
    model = linear(dtype, raw=raw)
    graph = read_model(model)
    graph.initializers["w"] = graph.initializers["w"].astype(np.float32) + 1
    written = to_proto(graph)
    np.testing.assert_array_equal(
        weights(written)["w"], (weights(model)["w"].astype(np.float32) + 1).astype(dtype), strict=True
    )
    model.graph.initializer[0].CopyFrom(written.graph.initializer[0])
    assert written == model
    assert written.graph.initializer[0].HasField("raw_data") is raw
    assert written.graph.initializer[0].doc_string == "the weight"


def test_too_large_for_the_type(linear: Maker) -> None:
    graph = read_model(linear("float16"))
    graph.initializers["w"] = np.full((2, 3), 1e6, np.float32)
    with pytest.raises(ModelError, match=r"tensor 'w' reaches 1e\+06, too large for float16, its type in the file"):
        to_proto(graph)


def test_only_what_changed_is_rewritten(linear: Maker) -> None:
    model = linear()
    graph = read_model(model)
    gemm = graph.nodes[0]
    gemm.attrs["alpha"] = 2
    gemm.attrs["beta"] = 3.0
    del gemm.attrs["transB"]
    graph.metadata["license"] = "MIT"
    graph.opset["own"] = 3
    written = to_proto(graph)
    node = model.graph.node[0]
    del node.attribute[:]
    node.attribute.extend([helper.make_attribute("alpha", 2.0), helper.make_attribute("beta", 3.0)])
    model.metadata_props[1].value = "MIT"
    model.opset_import[1].version = 3
    assert written == model


def test_new_head(linear: Maker) -> None:
    graph = read_model(linear())
    graph.initializers["w"] = np.ones((2, 5), np.float32)
    graph.initializers["b"] = np.ones(5, np.float32)
    graph.values["h"].shape = graph.outputs[0].shape = ("N", 5)
    model = to_proto(graph)
    onnx.checker.check_model(model, full_check=True)
    assert list(model.graph.initializer[0].dims) == [2, 5]
    for info in (model.graph.output[0], model.graph.value_info[0]):
        assert [dim.dim_param or dim.dim_value for dim in info.type.tensor_type.shape.dim] == ["N", 5]
    assert model.graph.input[0].doc_string == "what is fed"


def test_nodes_added_and_removed(linear: Maker) -> None:
    graph = read_model(linear())
    graph.nodes[1] = Node("Tanh", ["h2"], ["y"], name="tanh")
    graph.nodes[0].outputs = ["h2"]
    graph.initializers = {"c": np.array([1, 2, 3], np.float32), "w": graph.initializers["w"]}
    graph.nodes[0].inputs = ["x", "w", "c"]
    model = to_proto(graph)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Gemm", "Tanh"]
    assert model.graph.node[0].doc_string == "a product"
    assert list(weights(model)) == ["w", "c"]
    assert not model.graph.value_info, "h is gone, and so is what the file said of it"
    assert not model.graph.quantization_annotation


@pytest.mark.parametrize("ir_version", [3, 8])
def test_initializers_listed_as_inputs(linear: Maker, ir_version: int) -> None:
    model = linear(listed=True, ir_version=ir_version)
    graph = read_model(model)
    graph.initializers["w"] = np.ones((2, 5), np.float32)
    graph.initializers["own"] = np.ones(5, np.float32)
    del graph.initializers["b"]
    graph.nodes[0].inputs[2] = "own"
    written = to_proto(graph)
    onnx.checker.check_model(written)
    expected = ["w", "x", "own"] if ir_version == 3 else ["w", "x"]
    assert [info.name for info in written.graph.input] == expected
    assert [dim.dim_value for dim in written.graph.input[0].type.tensor_type.shape.dim] == [2, 5]


def test_graph_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: {"nbcnn": "1.2.3"}[name])
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    graph = Graph(
        name="net",
        nodes=[
            Node("Conv", ["x", "w"], ["c"], {"pads": (1, 1, 1, 1), "strides": [np.int64(2), 2], "auto_pad": "NOTSET"}),
            Node("LeakyRelu", ["c"], ["y"], {"alpha": np.float64(0.25)}, name="leaky"),
        ],
        inputs=[Value("x", np.dtype("float32"), ("N", 3, 8, None))],
        outputs=[Value("y", np.dtype("float32"), ("N", 4, 4, None))],
        initializers={"w": weight},
        values={"c": Value("c", np.dtype("float32"), ("N", 4, 4, None))},
        opset={"": 17},
        metadata={"mean": "0.5"},
        doc="made here",
    )
    path = tmp_path / "net.onnx"
    write_model(graph, path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert (model.producer_name, model.producer_version) == ("nbcnn", "1.2.3")
    assert (model.ir_version, model.opset_import[0].version, model.graph.doc_string) == (8, 17, "made here")
    assert {prop.key: prop.value for prop in model.metadata_props} == {"mean": "0.5"}
    assert [info.name for info in model.graph.value_info] == ["c"]
    attributes = {a.name: helper.get_attribute_value(a) for a in model.graph.node[0].attribute}
    assert attributes == {"pads": [1, 1, 1, 1], "strides": [2, 2], "auto_pad": b"NOTSET"}

    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.ones((2, 3, 8, 8), np.float32)})[0].shape == (2, 4, 4, 4)
    again = read_model(path)
    assert again.inputs[0].shape == ("N", 3, 8, None)
    assert to_proto(again) == model
    assert again.nodes[0].attrs == {"pads": [1, 1, 1, 1], "strides": [2, 2], "auto_pad": "NOTSET"}


def test_graph_without_an_opset() -> None:
    with pytest.raises(ModelError, match=r"graph 'graph' has no opset: set graph.opset"):
        to_proto(Graph())


def test_attribute_without_a_form(linear: Maker) -> None:
    graph = read_model(linear())
    graph.nodes[0].attrs["what"] = object()
    with pytest.raises(ModelError, match="Gemm 'gemm': an attribute has no form in ONNX"):
        to_proto(graph)


def test_copies_can_be_changed(linear: Maker) -> None:
    graph = read_model(linear())
    copy = graph.copy()
    copy.nodes[0].attrs["alpha"] = 7.0
    copy.initializers["w"] = np.zeros((2, 3), np.float32)
    assert to_proto(graph) == linear()
    assert to_proto(copy).graph.node[0].attribute[0].f == 7
