"""What onnx's shape inference tells of the values of a graph."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, shape_inference

from nbcnn.errors import ModelError
from nbcnn.graph import Graph, Value
from nbcnn.onnx_io.exporter import model_proto
from nbcnn.onnx_io.sources import reason
from nbcnn.onnx_io.tensors import describe, fill
from nbcnn.onnx_io.values import read_value

__all__ = ["infer", "shell"]

LARGEST_READ = 1024
"""Elements up to which a tensor may be a shape or a list of axes, whose numbers inference needs."""


def shell(tensor: TensorProto, array: np.ndarray) -> TensorProto:
    """A TensorProto without the elements, but for arrays that may say something of shapes."""
    if array.size <= LARGEST_READ or array.dtype.hasobject:
        return fill(tensor, array)
    bare = TensorProto(name=tensor.name, doc_string=tensor.doc_string)
    describe(bare, array)
    return bare


def infer(graph: Graph) -> dict[str, Value]:
    """Types and shapes of values by name, as far as onnx can tell. Raises ModelError where they contradict."""
    try:
        found = shape_inference.infer_shapes(model_proto(graph, shell), data_prop=True)
    except Exception as error:  # onnx's C++ has several kinds of its own
        raise ModelError(f"onnx's shape inference fails: {reason(error)}") from error
    infos = (*found.graph.input, *found.graph.value_info, *found.graph.output)
    values = {info.name: read_value(info) for info in infos}
    return {name: Value(name, value.dtype, value.shape) for name, value in values.items()}
