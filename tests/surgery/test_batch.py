"""Batches of another size: what a network computes for several pictures is what it computes for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from changed import saved, there
from networks import onnxruntime_run, proto, real
from onnx import helper, numpy_helper

import nbcnn
from nbcnn.errors import InputError, ModelError


def node(op: str, inputs: str, output: str, **attrs: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), output.split(), f"{op} {output}", **attrs)


def frozen(
    nodes: list[onnx.NodeProto], batch: int, inner: tuple[int, ...] = (4, 3, 5), opset: int = 17, **arrays: Any
) -> onnx.ModelProto:
    """From x (batch, *inner) to y, with what onnx infers of all values written down."""
    inputs = {"x": [batch, *inner]}
    arrays = {name: np.asarray(a, np.int64 if isinstance(a, list) else np.float32) for name, a in arrays.items()}
    whole = onnx.shape_inference.infer_shapes(proto(nodes, inputs, {"y": None}, arrays, opset=opset))
    return whole


WEIGHT = np.random.default_rng(0).standard_normal((60, 7)).astype(np.float32)
CONSTANT = helper.make_node("Constant", [], ["s"], "s", value=numpy_helper.from_array(np.array([-1, 4, 15])))
FORMS: dict[str, Any] = {
    "batch written, rest left over": ([node("Reshape", "x s", "f"), node("MatMul", "f w", "y")], {"w": WEIGHT}, "B -1"),
    "all written": ([node("Reshape", "x s", "f"), node("MatMul", "f w", "y")], {"w": WEIGHT}, "B 60"),
    "batch left over": ([node("Reshape", "x s", "f"), node("MatMul", "f w", "y")], {"w": WEIGHT}, "-1 60"),
    "groups": (
        [node("Reshape", "x s", "g"), node("ReduceMean", "g", "m", axes=[2], keepdims=1), node("Sub", "g m", "d"),
         node("Reshape", "d b", "y")], {}, "B 2 -1", "B 4 3 5",
    ),
    "batch inside": (
        [node("Transpose", "x", "t", perm=[1, 0, 2, 3]), node("Reshape", "t s", "r"), node("Relu", "r", "y")],
        {}, "4 B 15",
    ),
    "batch merged and split": (
        [node("Reshape", "x s", "m"), node("Softmax", "m", "p", axis=-1), node("Reshape", "p b", "y")],
        {}, "B*4 15", "B 4 3 5",
    ),
    "axis added": ([node("Reshape", "x s", "m"), node("Relu", "m", "y")], {}, "B 1 4 15"),
    "resize": ([node("Resize", "x _ _ s".replace("_", "none"), "y", mode="nearest")], {}, "B 4 6 10"),
    "none": ([node("Flatten", "x", "f"), node("Gemm", "f w", "y")], {"w": WEIGHT}),
}  # fmt: skip


def numbers(words: str, batch: int) -> list[int]:
    return [eval(word, {"B": batch}) for word in words.split()]


def form(name: str, batch: int) -> onnx.ModelProto:
    nodes, arrays, *targets = FORMS[name]
    shapes = {n: numbers(words, batch) for n, words in zip("sb", targets, strict=False)}
    whole = frozen(nodes, batch, **arrays, **shapes)
    for entry in whole.graph.node:
        for i, read in enumerate(entry.input):
            entry.input[i] = "" if read == "none" else read
    return onnx.shape_inference.infer_shapes(whole)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("batch", [1, 2])
def test_free(name: str, batch: int, tmp_path: Path) -> None:
    source = form(name, batch)
    pictures = np.random.default_rng(1).standard_normal((6, 4, 3, 5)).astype(np.float32)
    axis = 1 if name == "batch inside" else 0
    parts = [onnxruntime_run(source, {"x": pictures[i : i + batch]})[0] for i in range(0, 6, batch)]
    model = nbcnn.load(source).set_batch("N")
    (y,) = there(model, tmp_path, pictures)
    np.testing.assert_allclose(y, np.concatenate(parts, axis), rtol=0, atol=1e-5)
    assert model.inputs[0].shape == ("N", 4, 3, 5)
    assert model.outputs[0].shape is not None and model.outputs[0].shape[axis] == "N"


@pytest.mark.parametrize("name", FORMS)
def test_another_number(name: str, tmp_path: Path) -> None:
    model = nbcnn.load(form(name, 2)).set_batch(3)
    pictures = np.random.default_rng(1).standard_normal((3, 4, 3, 5)).astype(np.float32)
    (y,) = there(model, tmp_path, pictures)
    assert model.inputs[0].shape == (3, 4, 3, 5) and model.outputs[0].shape == y.shape
    proto = onnx.shape_inference.infer_shapes(saved(model, tmp_path), strict_mode=True)
    assert onnxruntime_run(proto, {"x": pictures})[0].shape == y.shape


def test_a_constant_that_others_read_stays() -> None:
    nodes = [CONSTANT, node("Reshape", "x s", "r"), node("Relu", "r", "y")]
    model = nbcnn.load(frozen(nodes, 1))
    assert model.set_batch("N").graph.nodes[0].op == "Constant"
    both = [
        node("Reshape", "x s", "a"),
        node("Flatten", "x", "f"),
        node("Reshape", "w s", "v"),
        node("Add", "a v", "y"),
    ]
    shared = nbcnn.load(frozen(both, 1, s=[1, 60], w=WEIGHT[:, 0]))
    changed = shared.set_batch("N").graph
    assert changed.initializers["s"].tolist() == [1, 60] and changed.nodes[0].inputs == ["x", "s.batch"]
    assert changed.initializers["s.batch"].tolist() == [0, 60]


def test_only_the_batch_changes() -> None:
    model = nbcnn.load(form("all written", 1))
    changed = model.set_batch("N").graph
    assert [(n.op, n.name, n.outputs) for n in changed.nodes] == [(n.op, n.name, n.outputs) for n in model.graph.nodes]
    assert changed.initializers["w"] is model.graph.initializers["w"]
    assert changed.values["f"].shape == ("N", 60)


@pytest.mark.parametrize(
    "path", ["mnist-8/model.onnx", "yunet-n/yunet_n_320_320.onnx", "mobilenet-v2/mobilenet-v2.onnx"]
)
def test_real_networks(path: str, tmp_path: Path) -> None:
    source = real(f"models/{path}")
    model = nbcnn.load(source).set_batch("N")
    (port,) = model.inputs
    assert port.shape is not None and port.shape[0] == "N"
    x = np.random.default_rng(0).random((2, *port.shape[1:]), dtype=np.float32)  # type: ignore[arg-type]
    want = [onnxruntime_run(source, {port.name: x[i : i + 1]}) for i in range(2)]
    for y, *parts in zip(there(model, tmp_path, x), *want, strict=True):
        np.testing.assert_allclose(y, np.concatenate(parts), rtol=0, atol=1e-3 * np.abs(y).max())


def test_why_not() -> None:
    mixed = [node("Transpose", "x", "t", perm=[1, 2, 0, 3]), node("Reshape", "t s", "y")]
    with pytest.raises(ModelError, match=r"Reshape 'Reshape y' mixes the batch with other dimensions: .* becomes"):
        nbcnn.load(frozen(mixed, 2, s=[8, 15])).set_batch("N")
    added = [node("Add", "x w", "y")]
    with pytest.raises(ModelError, match="the batch cannot be changed: with 4 instead of 2, Add 'Add y'"):
        nbcnn.load(frozen(added, 2, w=np.ones((2, 4, 3, 5)))).set_batch("N")
    scalar = proto([node("Relu", "x", "y")], {"x": []}, {"y": []}, {})
    with pytest.raises(ModelError, match="no input with a batch"):
        nbcnn.load(scalar).set_batch("N")


@pytest.mark.parametrize("batch", [0, -1, "", "2", True, None, 1.5])
def test_what_is_no_batch(batch: Any) -> None:
    with pytest.raises(InputError, match="a batch is a number of at least 1, or a name such as 'N'"):
        nbcnn.load(form("none", 1)).set_batch(batch)
