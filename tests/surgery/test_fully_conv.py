"""Fully connected layers as convolutions: on a larger picture, every score is that of the network on a crop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from changed import saved, there
from networks import onnxruntime_run, proto, real
from onnx import helper

import nbcnn
from nbcnn.errors import ModelError
from nbcnn.zoo import GraphBuilder, graph_of


def node(op: str, inputs: str, output: str, **attrs: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), output.split(), f"{op} {output}", **attrs)


def weight(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


def classifier(opset: int = 17, matmul: bool = False, reshape: bool = False) -> onnx.ModelProto:
    """x (N, 3, 10, 10) -> 4 channels of 4x4, without padding -> 6 -> 5 classes."""
    flatten = node("Reshape", "p s", "f") if reshape else node("Flatten", "p", "f")
    gemm = [node("Gemm", "f w1t b1", "h", transB=1)]
    one = [node("MatMul", "f w1", "m"), node("Add", "b1 m", "h")] if matmul else gemm
    softmax = node("Softmax", "z", "y", axis=1) if opset < 13 else node("Softmax", "z", "y", axis=-1)
    nodes = [
        node("Conv", "x k", "c"), node("Relu", "c", "r"),
        node("MaxPool", "r", "p", kernel_shape=[2, 2], strides=[2, 2]), flatten,
        *one, node("Relu", "h", "a"), node("Gemm", "a w2 b2", "z"), softmax,
    ]  # fmt: skip
    w1 = weight(64, 6, seed=1)
    arrays = {"k": weight(4, 3, 3, 3), "b1": weight(6, seed=2), "w2": weight(6, 5, seed=3), "b2": weight(1, 5, seed=4)}
    arrays |= {"w1": w1} if matmul else {"w1t": np.ascontiguousarray(w1.T)}
    arrays |= {"s": np.array([-1, 64])} if reshape else {}
    return onnx.shape_inference.infer_shapes(
        proto(nodes, {"x": ["N", 3, 10, 10]}, {"y": ["N", 5]}, arrays, opset=opset), strict_mode=True
    )


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("matmul", [False, True])
@pytest.mark.parametrize("reshape", [False, True])
def test_a_map_of_scores_is_that_of_all_crops(opset: int, matmul: bool, reshape: bool, tmp_path: Path) -> None:
    source = classifier(opset, matmul, reshape)
    model = nbcnn.load(source).convert_fc_to_conv()
    assert model.inputs[0].shape == ("N", 3, "height", "width")
    assert model.outputs[0].shape == ("N", 5, None, None)
    x = weight(2, 3, 14, 18, seed=5)
    (scores,) = there(model, tmp_path, x)
    assert scores.shape == (2, 5, 3, 5)
    for i in range(3):
        for j in range(5):
            crop = x[:, :, 2 * i : 2 * i + 10, 2 * j : 2 * j + 10]
            (want,) = onnxruntime_run(source, {"x": crop})
            np.testing.assert_allclose(scores[:, :, i, j], want, rtol=0, atol=1e-6)


def test_the_lectures_example(tmp_path: Path) -> None:
    """A network for 224 x 224 with stride 32, on 384 x 384: a 6 x 6 map, equal to 36 runs. (It has no padding, where
    a crop's border would differ from the picture around it; five strided convolutions take VGG's place.)
    """
    g = GraphBuilder("lecture", (3, 224, 224), 0)
    x = g.input
    for i, filters in enumerate((4, 4, 6, 6, 8)):
        x = g.relu(g.conv(x, f"conv{i}", filters, kernel=2, stride=2))
    x = g.relu(g.gemm(g.flatten(x), "fc6", 12))
    model = nbcnn.Model(g.finish(g.gemm(x, "fc7", 10)))
    assert model.parameters["fc6.weight"].shape == (12, 8 * 7 * 7)
    wide = model.convert_fc_to_conv()
    assert wide.parameters["fc6.weight"].shape == (12, 8, 7, 7)
    assert wide.parameters["fc7.weight"].shape == (10, 12, 1, 1)
    picture = weight(1, 3, 384, 384)
    (scores,) = there(wide, tmp_path, picture)
    assert scores.shape == (1, 10, 6, 6)
    for i, j in ((0, 0), (2, 3), (5, 5), (0, 5)):
        crop = picture[:, :, 32 * i : 32 * i + 224, 32 * j : 32 * j + 224]
        np.testing.assert_allclose(scores[:, :, i, j], model(crop), rtol=0, atol=1e-5)


def test_vgg_keeps_its_names() -> None:
    graph = graph_of("vgg16", init="zeros")
    changed = nbcnn.surgery.convert_fc_to_conv(graph)
    kernels = [n.attrs["kernel_shape"] for n in changed.nodes if n.op == "Conv"][-3:]
    assert kernels == [[7, 7], [1, 1], [1, 1]]
    assert "Gemm" not in {n.op for n in changed.nodes}
    assert changed.initializers.keys() == graph.initializers.keys()
    assert [n.name for n in changed.nodes] == [n.name for n in graph.nodes if n.op != "Flatten"]
    assert changed.outputs[0].shape == ("N", 1000, None, None)


def test_lines_instead_of_pictures(tmp_path: Path) -> None:
    nodes = [node("Conv", "x k", "c"), node("Flatten", "c", "f"), node("Gemm", "f w", "y")]
    source = proto(nodes, {"x": ["N", 2, 9]}, {"y": ["N", 5]}, {"k": weight(3, 2, 3), "w": weight(21, 5)})
    model = nbcnn.load(source).convert_fc_to_conv()
    x = weight(2, 2, 12, seed=1)
    (scores,) = there(model, tmp_path, x)
    for i in range(4):
        np.testing.assert_allclose(scores[:, :, i], onnxruntime_run(source, {"x": x[:, :, i : i + 9]})[0], atol=1e-6)


@pytest.mark.parametrize("path", ["mnist-8/model.onnx", "resnet20-cifar10/resnet20_cifar10.onnx"])
def test_real_networks(path: str, tmp_path: Path) -> None:
    source = real(f"models/{path}")
    before = nbcnn.load(source)
    (port,) = before.inputs
    shape = [1, *[d for d in (port.shape or ()) if isinstance(d, int)][-3:]]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    model = before.convert_fc_to_conv()
    (y,) = there(model, tmp_path, x)
    (want,) = onnxruntime_run(source, {port.name: x})
    np.testing.assert_allclose(y.reshape(want.shape), want, rtol=0, atol=1e-4 * np.abs(want).max())
    wide = np.random.default_rng(0).standard_normal((1, shape[1], 64, 80)).astype(np.float32)
    assert there(model, tmp_path, wide)[0].shape[2] > 1 or "GlobalAveragePool" in {n.op for n in model.graph.nodes}


def fails(nodes: list[onnx.NodeProto], words: str, **arrays: np.ndarray) -> None:
    source = onnx.shape_inference.infer_shapes(proto(nodes, {"x": [1, 2, 3, 3]}, {"y": None}, arrays))
    with pytest.raises(ModelError, match=words):
        nbcnn.load(source).convert_fc_to_conv()


def test_why_not() -> None:
    flat, gemm = node("Flatten", "x", "f"), node("Gemm", "f w", "g")
    fails([node("Relu", "x", "y")], "no fully connected layer to convert")
    fails([flat, gemm, node("LRN", "g", "y", size=1)], "LRN 'LRN y' follows a fully connected layer", w=weight(18, 4))
    fails([flat, gemm, node("Concat", "g f", "y", axis=1)], "Concat 'Concat y' follows", w=weight(18, 4))
    fails([flat, node("Gemm", "f w", "y", alpha=2.0)], "is no plain layer", w=weight(18, 4))
    fails([flat, node("Relu", "w", "v"), node("Gemm", "f v", "y")], "not a matrix that is stored", w=weight(18, 4))


def test_saved_as_a_valid_file(tmp_path: Path) -> None:
    proto = saved(nbcnn.load(classifier()).convert_fc_to_conv(), tmp_path)
    assert [n.op_type for n in proto.graph.node] == ["Conv", "Relu", "MaxPool", "Conv", "Relu", "Conv", "Softmax"]
