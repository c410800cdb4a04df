"""Small networks of float operators between DequantizeLinear and QuantizeLinear, and what those two do in NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

__all__ = ["dequantized", "quantized", "surrounded", "theirs"]


def quantized(x: np.ndarray, scale: float, zero: int, kind: type) -> np.ndarray:
    """QuantizeLinear, in float32."""
    info = np.iinfo(kind)
    return np.clip(np.rint(x.astype(np.float32) / np.float32(scale)) + zero, info.min, info.max).astype(kind)


def dequantized(q: np.ndarray, scale: float, zero: int) -> np.ndarray:
    """DequantizeLinear, in float32."""
    return (q.astype(np.int32) - zero).astype(np.float32) * np.float32(scale)


def surrounded(
    nodes: Sequence[onnx.NodeProto],
    kind: type,
    first: tuple[float, int],
    last: tuple[float, int],
    constants: dict[str, np.ndarray] | None = None,
    outputs: Sequence[str] = ("found",),
    ranks: tuple[int, int] = (4, 4),
) -> onnx.ModelProto:
    """A network that quantizes its input `given`, dequantizes it to `x`, runs the nodes, which make `y`, and does the
    same with that, to `found`. first, last: scales and zero points; `q` and `r`: the bytes. Equal ones are
    one pair of weights. ranks: of the input and of the outputs.
    """
    settings = ("xs", "xz") if first == last else ("ys", "yz")
    numbers = {f"{name}s": np.array(scale, np.float32) for name, (scale, _) in (("x", first), ("y", last))}
    numbers |= {f"{name}z": np.array(zero, kind) for name, (_, zero) in (("x", first), ("y", last))}
    around = [
        helper.make_node("QuantizeLinear", ["given", "xs", "xz"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "xs", "xz"], ["x"]),
        *nodes,
        helper.make_node("QuantizeLinear", ["y", *settings], ["r"]),
        helper.make_node("DequantizeLinear", ["r", *settings], ["found"]),
    ]
    graph = helper.make_graph(
        around,
        "quantized",
        [_port("given", ranks[0])],
        [_port(name, ranks[1]) for name in outputs],
        [numpy_helper.from_array(a, n) for n, a in (numbers | (constants or {})).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


def _port(name: str, rank: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}{axis}" for axis in range(rank)])


def theirs(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """The first result of onnxruntime, whose integer kernels take signed bytes only when asked to."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"given": x})[0]
