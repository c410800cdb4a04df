"""Files that say of an input or output its element type alone: onnx's checker minds, onnxruntime does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import nbcnn
from nbcnn.errors import InputError, ModelError
from nbcnn.graph import Value
from nbcnn.onnx_io import read_model, write_model

Maker = Callable[..., onnx.ModelProto]
X = np.random.default_rng(0).standard_normal((5, 2)).astype(np.float32)


def bare(model: onnx.ModelProto, *names: str) -> onnx.ModelProto:
    """The model without the shapes of these inputs and outputs, which the checker refuses."""
    for port in (*model.graph.input, *model.graph.output):
        if port.name in names:
            port.type.tensor_type.ClearField("shape")
    with pytest.raises(onnx.checker.ValidationError, match="Field 'shape'"):
        onnx.checker.check_model(model)
    return model


@pytest.mark.parametrize("names", ["y", "x", "xy"])
def test_runs_as_in_onnxruntime_and_is_saved_as_it_was(linear: Maker, tmp_path: Path, names: str) -> None:
    model = bare(linear(), *names)
    content = model.SerializeToString()
    (tmp_path / "m.onnx").write_bytes(content)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for source in (model, content, tmp_path / "m.onnx"):
        network = nbcnn.load(source)
        assert [p.name for p in (*network.inputs, *network.outputs) if p.shape is None] == [*names]
        np.testing.assert_allclose(network(X), session.run(None, {"x": X})[0], rtol=1e-6, atol=1e-6)
        network.save(tmp_path / "out.onnx")
        assert onnx.load(tmp_path / "out.onnx") == model
    assert model.SerializeToString() == content


def test_with_weights_beside_the_file(linear: Maker, tmp_path: Path) -> None:
    path, out = tmp_path / "m.onnx", tmp_path / "elsewhere.onnx"
    onnx.save(bare(linear(), "y"), path, save_as_external_data=True, location="m.data", size_threshold=0)
    network = nbcnn.load(path)
    network.save(out)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for model in (network, nbcnn.load(out)):
        assert model.outputs[0].shape is None
        np.testing.assert_allclose(model(X), session.run(None, {"x": X})[0], rtol=1e-6, atol=1e-6)


def test_trained_and_saved_for_another_opset(linear: Maker, tmp_path: Path) -> None:
    network = nbcnn.load(bare(linear(), "y"))
    nbcnn.Trainer(network, optimizer=nbcnn.SGD(lr=0.1)).step(X, np.arange(5) % 3)
    network.save(tmp_path / "m.onnx", opset=21)
    assert nbcnn.load(tmp_path / "m.onnx").outputs[0].shape is None
    assert nbcnn.validate(network, {"x": X}).ok and nbcnn.validate(tmp_path / "m.onnx", {"x": X}).ok


@pytest.mark.parametrize("apart", [False, True])
def test_what_else_is_wrong_is_still_found(linear: Maker, tmp_path: Path, apart: bool) -> None:
    model = bare(linear(), "x", "y")
    model.graph.node[0].op_type = "Gemmm"
    path = tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=apart, location="m.data", size_threshold=0)
    with pytest.raises(ModelError, match="checker refuses it: No Op registered for Gemmm"):
        read_model(path)


def test_a_graph_of_our_own_needs_its_shapes(linear: Maker, tmp_path: Path) -> None:
    graph = read_model(linear())
    graph.outputs[0] = Value("y", np.dtype(np.float32))
    with pytest.raises(ModelError, match="the shape of 'y' is missing"):
        write_model(graph, tmp_path / "m.onnx")


def test_cut_and_saved(identity_model: Maker, tmp_path: Path) -> None:
    """Where the input's shape is open, nobody can tell that of the new end: it is open as well."""
    nodes = [onnx.helper.make_node("Relu", ["x"], ["h"]), onnx.helper.make_node("Neg", ["h"], ["y"])]
    front = nbcnn.load(bare(identity_model(nodes), "x")).cut("h")
    assert front.outputs[0].shape is None
    front.save(tmp_path / "front.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "front.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(front(X), session.run(None, {"x": X})[0], rtol=1e-6, atol=1e-6)


def test_nothing_to_compute(linear: Maker) -> None:
    with pytest.raises(InputError, match=r"input 'x' is empty: shape \[0, 2\]"):
        nbcnn.load(bare(linear(), "x"))(X[:0])


def test_nothing_to_validate_with(linear: Maker, capfd: pytest.CaptureFixture[str]) -> None:
    model = bare(linear(), "x")
    with pytest.raises(ModelError, match="made without a shape, of which the file says nothing: pass inputs="):
        nbcnn.validate(model)
    assert capfd.readouterr() == ("", "")
    assert nbcnn.validate(model, {"x": X}).ok
