"""A small model to read, write and change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3) / 8


def make_linear(
    dtype: Any = np.float32, raw: bool = True, listed: bool = False, ir_version: int = 8
) -> onnx.ModelProto:
    """y (N, 3) = relu(x (N, 2) @ w + b), with all the notes that a file can carry."""
    arrays = {"w": WEIGHT.astype(dtype), "b": np.array([1, -1, 0.5]).astype(dtype)}
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    tensors = [
        numpy_helper.from_array(a, n) if raw else helper.make_tensor(n, kind, a.shape, a.flatten())
        for n, a in arrays.items()
    ]
    tensors[0].doc_string = "the weight"
    x = helper.make_tensor_value_info("x", kind, ["N", 2], "what is fed")
    infos = [helper.make_tensor_value_info(name, kind, array.shape) for name, array in arrays.items()]
    gemm = helper.make_node("Gemm", ["x", "w", "b"], ["h"], "gemm", doc_string="a product", alpha=0.5, transB=0)
    relu = helper.make_node("Relu", ["h"], ["y"], "relu")
    graph = helper.make_graph(
        [gemm, relu],
        "linear",
        [infos[0], x, infos[1]] if listed else [x],
        [helper.make_tensor_value_info("y", kind, ["N", 3])],
        tensors,
        "a graph",
        [helper.make_tensor_value_info("h", kind, ["N", 3])],
    )
    note = graph.quantization_annotation.add(tensor_name="h")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="w")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("own", 2)])
    model.ir_version, model.producer_name, model.producer_version = ir_version, "somebody", "7"
    model.doc_string, model.domain, model.model_version = "a model", "org.example", 5
    helper.set_model_props(model, {"author": "me", "license": "CC0"})
    return model


@pytest.fixture
def linear() -> Callable[..., onnx.ModelProto]:
    return make_linear


@pytest.fixture
def identity_model() -> Callable[..., onnx.ModelProto]:
    """Makes a model around given nodes, from x (2, 3) to y, both float32."""

    def make(nodes: list[onnx.NodeProto], initializers: Any = (), opset: int = 17, **more: Any) -> onnx.ModelProto:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["M", None])
        graph = helper.make_graph(nodes, "g", [x], [y], list(initializers))
        imports = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
        return helper.make_model(graph, opset_imports=imports, ir_version=8, **more)

    return make
