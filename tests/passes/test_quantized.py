"""Networks that onnxruntime's own tool has quantized, against onnxruntime: within one step of their result."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from networks import real
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image
from test_real_models import cifar

import nbcnn

KINDS = {"unsigned": QuantType.QUInt8, "signed": QuantType.QInt8}


class Pictures(CalibrationDataReader):
    """What the tool finds the ranges of values with."""

    def __init__(self, name: str, pictures: list[np.ndarray]) -> None:
        self.feeds: Iterator[dict[str, np.ndarray]] = iter([{name: x} for x in pictures])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)


def quantize(file: Path, target: Path, pictures: list[np.ndarray], kind: str, **settings: Any) -> Path:
    """Write a quantized copy of a network of one input."""
    name = nbcnn.load(file).inputs[0].name
    quant_pre_process(file, target, skip_symbolic_shape=True)  # folds batch norm, as the tool asks for
    settings = {"weight_type": QuantType.QInt8, "quant_format": QuantFormat.QDQ} | settings
    quantize_static(target, target, Pictures(name, pictures), activation_type=KINDS[kind], **settings)
    return target


def onnxruntime_integers(file: Path, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """The first result of onnxruntime's integer kernels, which it takes for signed activations only when asked to."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"]).run(None, feeds)[0]


def last_step(file: Path) -> float:
    """The scale that the result was last quantized with."""
    graph = onnx.load(file).graph
    scale = next(n.input[1] for n in reversed(graph.node) if n.op_type == "DequantizeLinear")
    return float(numpy_helper.to_array(next(t for t in graph.initializer if t.name == scale)))


def check(file: Path, x: np.ndarray, floats: int | None = 0) -> None:
    """As onnxruntime within a step; `floats`: how many operators are computed in floats, None for some."""
    model = nbcnn.load(file)
    feeds = {model.inputs[0].name: x}
    wanted, found = onnxruntime_integers(file, feeds), model.run(None, feeds)[0]
    assert np.abs(found - wanted).max() <= last_step(file) * 1.01
    assert (np.abs(found - wanted) < last_step(file) / 2).mean() > 0.9, "most are the same"
    operators = [node.op for node in model.plan(feeds).nodes]
    assert "IntegerConv" in operators and not {"Conv", "Gemm", "MatMul"} & {*operators}
    if floats is not None:
        assert operators.count("QuantizeLinear") == operators.count("DequantizeLinear") == 1 + floats


def small_network(file: Path, rng: np.random.Generator) -> None:
    """Every operator that the pass knows: strided, depthwise and pointwise convolutions, sums, a concatenation ..."""
    shapes = {
        "w0": (8, 3, 3, 3),
        "w1": (8, 1, 3, 3),
        "w2": (20, 8, 1, 1),
        "w3": (20, 20, 3, 3),
        "w4": (10, 40),
        "w5": (40, 20, 1, 1),
    }
    weights = {n: (rng.normal(size=s) / np.sqrt(np.prod(s[1:]))).astype(np.float32) for n, s in shapes.items()}
    weights |= {f"b{n[1]}": rng.normal(size=s[0]).astype(np.float32) / 4 for n, s in shapes.items()}
    weights |= {n: np.array(v, np.int64) for n, v in {"zero": [0, 0], "end": [8, 8], "axes": [2, 3]}.items()}
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w0", "b0"], ["c0"], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Relu", ["c0"], ["r0"]),
        node("Conv", ["r0", "w1", "b1"], ["c1"], group=8, pads=[1, 1, 1, 1]),
        node("Conv", ["c1", "w2", "b2"], ["c2"]),
        node("Conv", ["c2", "w3", "b3"], ["c3"], pads=[1, 1, 1, 1]),
        node("Add", ["c3", "c2"], ["a"]),
        node("Relu", ["a"], ["ra"]),
        node("Concat", ["ra", "c3"], ["cat"], axis=1),
        node("Slice", ["cat", "zero", "end", "axes"], ["s"]),
        node("Conv", ["ra", "w5", "b5"], ["c5"]),
        node("Slice", ["c5", "zero", "end", "axes"], ["s5"]),
        node("Add", ["s", "s5"], ["sum"]),
        node("GlobalAveragePool", ["sum"], ["g"]),
        node("Flatten", ["g"], ["f"]),
        node("Gemm", ["f", "w4", "b4"], ["y"], transB=1),
    ]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in {"x": ["N", 3, 19, 21]}.items()]
    graph = helper.make_graph(
        nodes,
        "small",
        ports,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), file)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(
    ("kind", "weight_type"),
    [("unsigned", QuantType.QInt8), ("signed", QuantType.QInt8), ("unsigned", QuantType.QUInt8)],
    ids=str,
)
def test_small_network(tmp_path: Path, kind: str, per_channel: bool, weight_type: Any) -> None:
    rng = np.random.default_rng(3)
    small_network(tmp_path / "small.onnx", rng)
    pictures = [rng.normal(size=(2, 3, 19, 21)).astype(np.float32) for _ in range(4)]
    settings = {"per_channel": per_channel, "weight_type": weight_type}
    file = quantize(tmp_path / "small.onnx", tmp_path / "quantized.onnx", pictures, kind, **settings)
    check(file, pictures[0])


@pytest.mark.parametrize("kind", KINDS)
def test_small_network_of_onnxruntime_operators(tmp_path: Path, kind: str) -> None:
    """In the format whose sums, means and products of matrices are operators of onnxruntime's own."""
    rng = np.random.default_rng(4)
    small_network(tmp_path / "small.onnx", rng)
    pictures = [rng.normal(size=(2, 3, 19, 21)).astype(np.float32) for _ in range(4)]
    settings = {"quant_format": QuantFormat.QOperator}
    file = quantize(tmp_path / "small.onnx", tmp_path / "quantized.onnx", pictures, kind, **settings)
    domains = {node.domain for node in onnx.load(file).graph.node}
    assert "com.microsoft" in domains
    check(file, pictures[0], floats=None)


@pytest.mark.parametrize("kind", KINDS)
def test_resnet20(tmp_path: Path, kind: str) -> None:
    pictures, labels = cifar()
    batches = [pictures[i : i + 1] for i in range(16)]
    source = real("models/resnet20-cifar10/resnet20_cifar10.onnx")
    file = quantize(source, tmp_path / "quantized.onnx", batches, kind, per_channel=True)
    check(file, pictures)
    model = nbcnn.load(file)
    assert (model(pictures).argmax(1) == labels).mean() > 0.85


def test_mobilenet_v2(tmp_path: Path) -> None:
    """Softmax is computed in floats."""
    source = real("models/mobilenet-v2/mobilenet-v2.onnx")
    picture = Image.open(source.parent / "parrot.jpg").convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
    x = ((np.asarray(picture).astype(np.float32) - 128) / 128).transpose(2, 0, 1)[None]
    flipped = np.ascontiguousarray(x[..., ::-1])
    file = quantize(source, tmp_path / "quantized.onnx", [x, flipped], "unsigned", per_channel=True)
    check(file, x, floats=1)
    labels = (source.parent / "labels.txt").read_text().splitlines()
    assert "macaw" in labels[int(nbcnn.load(file)(x).argmax())]
