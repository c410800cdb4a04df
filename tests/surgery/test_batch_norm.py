"""Batch norms folded for export: fewer nodes, the same numbers in onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from changed import saved, there
from networks import batch, onnxruntime_run, proto, real, small_resnet, stir
from onnx import helper

import nbcnn


def node(op: str, inputs: str, output: str, **attrs: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), output.split(), f"{op} {output}", **attrs)


def weight(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.5, 1.5, shape).astype(np.float32)


NORM = {name: weight(6, seed=i) for i, name in enumerate(("gamma", "beta", "mean", "var"))}


def test_a_network_that_was_trained(tmp_path: Path) -> None:
    model = nbcnn.Model(stir(small_resnet()))
    x, t = batch((6, 3, 12, 12), 5)
    nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=0.01)).step(x, t)
    (want,) = model.run(None, {"input": x})
    folded = model.fold_batch_norm()
    (got,) = there(folded, tmp_path, x)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
    assert "BatchNormalization" in {n.op for n in model.graph.nodes}
    assert "BatchNormalization" not in {n.op for n in folded.graph.nodes}
    assert {"conv1.weight", "bn1.bias"} <= folded.parameters.keys()
    assert "bn1.weight" not in folded.parameters


@pytest.mark.parametrize(
    ("layer", "arrays", "shape"),
    [
        (node("Conv", "x w b", "c", group=2), {"w": weight(6, 2, 3, 3), "b": weight(6, seed=9)}, (4, 5, 5)),
        (node("ConvTranspose", "x w", "c"), {"w": weight(4, 6, 3, 3)}, (4, 5, 5)),
        (node("ConvTranspose", "x w b", "c", group=2), {"w": weight(4, 3, 2, 2), "b": weight(6, seed=9)}, (4, 5, 5)),
        (node("Gemm", "x w", "c"), {"w": weight(4, 6)}, (4,)),
        (node("Gemm", "x w b", "c", transB=1), {"w": weight(6, 4), "b": weight(1, 6, seed=9)}, (4,)),
    ],
    ids=["conv in groups", "conv transpose", "conv transpose in groups", "gemm", "gemm, transB"],
)
def test_layers(layer: onnx.NodeProto, arrays: dict[str, np.ndarray], shape: tuple[int, ...], tmp_path: Path) -> None:
    nodes = [layer, node("BatchNormalization", "c gamma beta mean var", "y", epsilon=0.01)]
    source = proto(nodes, {"x": ["N", *shape]}, {"y": ["N", *[None] * len(shape)]}, arrays | NORM)
    model = nbcnn.load(source).fold_batch_norm()
    x = np.random.default_rng(0).standard_normal((3, *shape)).astype(np.float32)
    (want,) = onnxruntime_run(source, {"x": x})
    np.testing.assert_allclose(there(model, tmp_path, x)[0], want, rtol=0, atol=1e-5 * np.abs(want).max())
    assert [n.op_type for n in saved(model, tmp_path).graph.node] == [layer.op_type]


@pytest.mark.parametrize(
    "rest",
    [
        [node("BatchNormalization", "c gamma beta mean var", "n"), node("Add", "n c", "y")],
        [node("Relu", "c", "r"), node("BatchNormalization", "r gamma beta mean var", "y")],
    ],
    ids=["the layer has another reader", "something stands between"],
)
def test_what_stays(rest: list[onnx.NodeProto], tmp_path: Path) -> None:
    nodes = [node("Conv", "x w", "c"), *rest]
    source = proto(nodes, {"x": ["N", 2, 5, 5]}, {"y": ["N", 6, 3, 3]}, {"w": weight(6, 2, 3, 3)} | NORM)
    assert saved(nbcnn.load(source).fold_batch_norm(), tmp_path) == source


def test_resnet20(tmp_path: Path) -> None:
    source = real("models/resnet20-cifar10/resnet20_cifar10.onnx")
    model = nbcnn.load(source)
    x = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    (want,) = onnxruntime_run(source, {model.inputs[0].name: x})
    np.testing.assert_allclose(there(model.fold_batch_norm(), tmp_path, x)[0], want, rtol=0, atol=1e-4)
