"""Small networks that several tests of the whole engine share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nbcnn.graph import Graph
from nbcnn.zoo import GraphBuilder
from nbcnn.zoo.resnet import basic

DATA = Path(os.environ.get("NBCNN_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def real(path: str) -> Path:
    """A file of the real data; skips the test, naming it, where it is absent."""
    if not (DATA / path).exists():
        pytest.skip(f"{DATA / path} is missing: set NBCNN_DATA to the folder of test data")
    return DATA / path


def small_resnet(width: int = 8, size: int = 12, classes: int = 5, seed: int = 0) -> Graph:
    """input (N, 3, size, size) -> output (N, classes): a stem, a block, and a strided block with a 1x1 shortcut."""
    g = GraphBuilder("small_resnet", (3, size, size), seed)
    x = g.relu(g.batch_norm(g.conv(g.input, "conv1", width, kernel=3, pad=1, bias=False), "bn1"))
    for name, filters, stride in (("layer1", width, 1), ("layer2", 2 * width, 2)):
        with g.scope(name):
            x = basic(g, x, filters, stride)
    return g.finish(g.gemm(g.flatten(g.global_average_pool(x)), "fc", classes))


def tiny(seed: int = 0) -> Graph:
    """input (N, 2, 6, 6) -> output (N, 3): convolution, batch norm, pooling, a fully connected layer."""
    g = GraphBuilder("tiny", (2, 6, 6), seed)
    x = g.relu(g.batch_norm(g.conv(g.input, "conv1", 4, kernel=3, pad=1, bias=False), "bn1"))
    x = g.max_pool(x, 2)
    x = g.relu(g.conv(x, "conv2", 5, kernel=1))
    return g.finish(g.gemm(g.flatten(x), "fc", 3))


def stir(graph: Graph, seed: int = 1) -> Graph:
    """Move biases and batch norms away from zero and one, where a mistake would not show."""
    rng = np.random.default_rng(seed)
    for name, array in graph.initializers.items():
        if array.ndim == 1:
            low, high = (-0.3, 0.3) if name.endswith(("bias", "mean")) else (0.5, 1.5)
            graph.initializers[name] = rng.uniform(low, high, array.shape).astype(array.dtype)
    return graph


def batch(shape: tuple[int, ...], classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """x of this shape, float32, and class numbers t (N,)."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape).astype(np.float32), rng.integers(0, classes, shape[0])


def proto(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Any],
    outputs: dict[str, Any],
    arrays: dict[str, np.ndarray],
    opset: int = 17,
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model around these nodes. inputs, outputs: name -> shape."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def assert_close(got: np.ndarray, want: np.ndarray, atol: float = 1e-5) -> None:
    """Equal shapes, and every element within atol."""
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=atol)


def onnxruntime_run(model: onnx.ModelProto | bytes | Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """All outputs, as onnxruntime's CPU computes them."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    source: Any = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    source = os.fspath(source) if isinstance(source, Path) else source
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(None, feeds)
    return found
