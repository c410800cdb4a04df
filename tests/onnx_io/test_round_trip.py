"""What is read and not changed is written as it was: onnx's own messages are compared, field for field."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nbcnn.filemap import lies_in_file
from nbcnn.onnx_io import read_model, to_proto, write_model

Maker = Callable[..., onnx.ModelProto]
DATA = Path(os.environ.get("NBCNN_DATA", Path(__file__).parents[3] / "shared" / "data")) / "models"
FILES = (
    "mnist-8/model.onnx",
    "mobilenet-v2/mobilenet-v2.onnx",
    "portrait-deeplab/deeplab_nchw.onnx",
    "resnet20-cifar10/resnet20_cifar10.onnx",
    "squeezenet-1.1/squeezenet-1.1-fp16.onnx",
    "squeezenet-1.1/squeezenet-1.1.onnx",
    "super-resolution-10/model.onnx",
    "yunet-n/yunet_n_320_320.onnx",
)


@pytest.mark.parametrize("name", FILES)
def test_real_file_byte_for_byte(name: str, tmp_path: Path) -> None:
    source = DATA / name
    if not source.is_file():
        pytest.skip(f"{source} is missing")
    graph = read_model(source)
    write_model(graph, tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == source.read_bytes()

    model = onnx.load(source)
    assert [node.name for node in graph.nodes] == [node.name for node in model.graph.node]
    assert list(graph.initializers) == [tensor.name for tensor in model.graph.initializer]
    for tensor in model.graph.initializer:
        array = graph.initializers[tensor.name]
        assert array.tobytes() == numpy_helper.to_array(tensor).tobytes()
        assert array.flags.c_contiguous
        assert array.flags.writeable != lies_in_file(array)
    assert not {value.name for value in graph.inputs} & set(graph.initializers)
    assert len(graph.origin.SerializeToString()) < 30_000, "weights are still in the origin"


def test_every_node_test_of_onnx() -> None:
    """1,884 models with every operator, element type and kind of attribute."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnx makes infinities on purpose
        from onnx.backend.test.case.node import collect_testcases

        models = {case.name: case.model for case in collect_testcases(None) if case.model is not None}
    different = [name for name, model in models.items() if to_proto(read_model(model)) != model]
    assert len(models) > 1000
    assert different == []


@pytest.mark.parametrize("kind", ["simple", "pytorch-converted", "pytorch-operator"])
def test_every_model_test_of_onnx(kind: str) -> None:
    """Whole networks, and models of sub-graphs and sequences; byte by byte where they are files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        cases = load_model_tests(kind=kind)
    sources = {case.name: case.model or (Path(case.model_dir) / "model.onnx").read_bytes() for case in cases}
    assert len(sources) > 10
    for name, source in sources.items():
        content = source if isinstance(source, bytes) else source.SerializeToString()
        assert to_proto(read_model(source)).SerializeToString() == content, name


def test_every_light_model_of_onnx() -> None:
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    files = sorted(folder.glob("*.onnx"))
    assert len(files) == 9
    for file in files:
        assert to_proto(read_model(file)).SerializeToString() == file.read_bytes(), file.name


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("listed", [True, False])
def test_all_notes_survive(linear: Maker, dtype: str, raw: bool, listed: bool) -> None:
    model = linear(dtype, raw=raw, listed=listed)
    untouched = model.SerializeToString()
    graph = read_model(model)
    assert to_proto(graph) == model
    assert model.SerializeToString() == untouched
    assert graph.initializers["w"].dtype == dtype
    assert [value.name for value in graph.inputs] == ["x"]
    assert graph.inputs[0].shape == ("N", 2)
    assert graph.opset == {"": 13, "own": 2}
    assert graph.metadata == {"author": "me", "license": "CC0"}
    assert graph.doc == "a graph"


def test_bfloat16_keeps_its_type() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    array = np.array([1, 1 / 3, -2e30]).astype(ml_dtypes.bfloat16)
    weight = numpy_helper.from_array(array, "w")
    y = helper.make_tensor_value_info("y", TensorProto.BFLOAT16, [3])
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    read = read_model(model)
    assert read.initializers["w"].dtype == ml_dtypes.bfloat16
    assert read.initializers["w"].tobytes() == array.tobytes()
    assert read.outputs[0].dtype == ml_dtypes.bfloat16
    assert to_proto(read) == model


def test_unknown_and_symbolic_dimensions(identity_model: Maker) -> None:
    model = identity_model([helper.make_node("Relu", ["x"], ["y"])])
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", None, 3, -1]))
    graph = read_model(model)
    assert graph.inputs[0].shape == ("N", None, 3, None)
    assert graph.outputs[0].shape == ("M", None)
    assert to_proto(graph) == model


def test_attributes_of_all_kinds(identity_model: Maker) -> None:
    table = np.arange(4, dtype=np.int64)
    node = helper.make_node(
        "Own", ["x"], ["y"], "n", domain="own",
        f=0.1, i=-3, s="text", b=b"\xff\xfe", fs=[0.5, 1.5], js=[1, 2], ss=["a", "b"],
        t=numpy_helper.from_array(table), ts=[numpy_helper.from_array(table), numpy_helper.from_array(table[:1])],
    )  # fmt: skip
    node.attribute.append(helper.make_attribute("none", [], attr_type=onnx.AttributeProto.INTS))
    model = identity_model([node])
    graph = read_model(model)
    attrs = graph.nodes[0].attrs
    assert graph.nodes[0].domain == "own"
    assert attrs["f"] == np.float32(0.1) and attrs["i"] == -3 and attrs["s"] == "text" and attrs["b"] == b"\xff\xfe"
    assert attrs["fs"] == [0.5, 1.5] and attrs["js"] == [1, 2] and attrs["ss"] == ["a", "b"] and attrs["none"] == []
    np.testing.assert_array_equal(attrs["t"], table)
    assert [array.shape for array in attrs["ts"]] == [(4,), (1,)]
    assert to_proto(graph) == model


def test_sub_graphs(identity_model: Maker) -> None:
    inner = helper.make_graph(
        [helper.make_node("Add", ["x", "one"], ["z"], "add")],
        "inner", [], [helper.make_tensor_value_info("z", TensorProto.FLOAT, [2, 3])],
        [numpy_helper.from_array(np.array([1], np.float32), "one")], "says inner",
    )  # fmt: skip
    node = helper.make_node("If", ["c"], ["y"], "if", then_branch=inner, else_branch=inner)
    model = identity_model([node], [numpy_helper.from_array(np.array(True), "c")])
    graph = read_model(model)
    branch = graph.nodes[0].attrs["then_branch"]
    assert [n.op for n in branch.nodes] == ["Add"] and branch.initializers["one"] == [1]
    assert to_proto(graph) == model
    branch.initializers["one"] = np.array([2], np.float32)
    written = {a.name: a.g for a in to_proto(graph).graph.node[0].attribute}
    assert numpy_helper.to_array(written["then_branch"].initializer[0]) == [2]
    assert written["else_branch"] == inner


@pytest.mark.parametrize("indices", [[1, 5], [[0, 1], [1, 2]]])
def test_sparse_initializers(identity_model: Maker, indices: list) -> None:
    values = numpy_helper.from_array(np.array([7, 9], np.float32), "s")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array(indices, np.int64)), [2, 3])
    model = identity_model([helper.make_node("Add", ["x", "s"], ["y"])])
    model.graph.sparse_initializer.append(sparse)
    graph = read_model(model)
    np.testing.assert_array_equal(graph.initializers["s"], [[0, 7, 0], [0, 0, 9]])
    assert to_proto(graph) == model
    graph.initializers["s"] = np.ones((2, 3), np.float32)
    written = to_proto(graph).graph
    assert not written.sparse_initializer
    np.testing.assert_array_equal(numpy_helper.to_array(written.initializer[0]), np.ones((2, 3)))


def test_local_functions_and_custom_domains(identity_model: Maker) -> None:
    body = [helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.array(2, np.float32)))]
    body.append(helper.make_node("Mul", ["a", "two"], ["b"]))
    function = helper.make_function("own", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    model = identity_model([helper.make_node("Twice", ["x"], ["y"], "t", domain="own")], functions=[function])
    assert to_proto(read_model(model)) == model


def test_onnx_may_be_called_ai_onnx(identity_model: Maker) -> None:
    model = identity_model([helper.make_node("Relu", ["x"], ["y"])])
    model.opset_import[0].domain = "ai.onnx"
    graph = read_model(model)
    assert graph.opset[""] == 17 and graph.nodes[0].domain == ""
    assert to_proto(graph) == model


def test_bytes_and_path_say_the_same(linear: Maker, tmp_path: Path) -> None:
    content = linear().SerializeToString()
    (tmp_path / "m.onnx").write_bytes(content)
    for source in (content, tmp_path / "m.onnx", str(tmp_path / "m.onnx")):
        assert to_proto(read_model(source)).SerializeToString() == content
