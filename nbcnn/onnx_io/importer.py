"""ONNX to Graph, leaving nothing out.

What the engine uses becomes plain data. The rest (doc strings, producer, functions, quantization notes, ...) stays in
the `origin` fields: Graph.origin is the ModelProto (the GraphProto for a sub-graph), Node.origin and Value.origin are
parts of it. Its tensors are cut down to shells, so that no weight is held twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto
from onnx.defs import onnx_opset_version

from nbcnn.errors import ModelError
from nbcnn.graph import Function, Graph, Node, Parameterized, Value
from nbcnn.onnx_io.attributes import read_attribute
from nbcnn.onnx_io.external import ExternalFiles, locate, tensors_of, tensors_of_node
from nbcnn.onnx_io.memory import trim_heap
from nbcnn.onnx_io.sources import Source, open_model, refusal
from nbcnn.onnx_io.tensors import cut, from_sparse, is_external, read_inline
from nbcnn.onnx_io.text import check_names, text
from nbcnn.onnx_io.values import read_value

__all__ = ["read_domain", "read_model"]


def read_model(source: Source) -> Graph:
    """Read an ONNX model from a path, from the bytes of a file, or from a ModelProto (which is left as it is).

    Raises FileError when the file, or a file of weights beside it, is missing or cannot be read, and ModelError when
    it is not ONNX, cut short, or refused by onnx's checker (which minds missing shapes of inputs and outputs; here they
    are unknown, and stay so).
    """
    opened = open_model(source)
    model, path, weights = opened
    label = str(path or "the model")
    try:
        check_names(model.graph)
    except ModelError as error:
        raise ModelError(f"{label}: {error}") from error
    find_external(model, path)
    refused = refusal(opened)
    if refused:
        raise ModelError(f"{label}: onnx's checker refuses it: {refused}")
    files = ExternalFiles(path)
    try:
        arrays = [
            weights[number] if number in weights else take_payload(tensor, files)
            for number, tensor in enumerate(tensors_of(model.graph))  # initializers come first
        ]
        # protobuf frees memory only with the whole message: a copy without the weights, and the message goes.
        model = ModelProto.FromString(model.SerializeToString())
        trim_heap()
        graph = read(model, iter(arrays))
        graph.file = str(path or "")
        return graph
    except ModelError as error:
        raise ModelError(f"{label}: {error}") from error


def find_external(model: ModelProto, path: Path | None) -> None:
    """Raise FileError unless all external data can be found."""
    for tensor in tensors_of(model.graph):
        if is_external(tensor):
            locate(tensor, path)


def take_payload(tensor: TensorProto, files: ExternalFiles) -> np.ndarray:
    """The tensor's array; the tensor is left as a shell."""
    array = files.read(tensor) if is_external(tensor) else read_inline(tensor)
    cut(tensor)
    return array


def read(model: ModelProto, arrays: Iterator[np.ndarray]) -> Graph:
    """The graph of a model of shells, whose arrays come in the order of `tensors_of`."""
    graph = read_graph(model.graph, arrays)
    graph.opset = {read_domain(entry.domain): entry.version for entry in model.opset_import}
    _check_opset(graph.opset.get("", 0))
    graph.functions = {(read_domain(f.domain), f.name, f.overload): read_function(f) for f in model.functions}
    graph.metadata = {text(entry.key): text(entry.value) for entry in model.metadata_props}
    graph.origin = model
    return graph


def _check_opset(opset: int) -> None:
    newest = onnx_opset_version()
    if opset > newest:
        raise ModelError(
            f"it is of opset {opset}, and {newest} is the newest that this version of onnx knows: update onnx, or "
            f"export the network for opset {newest} or an older one"
        )


def read_graph(proto: GraphProto, arrays: Iterator[np.ndarray]) -> Graph:
    initializers = {tensor.name: next_array(tensor, arrays) for tensor in proto.initializer}
    initializers |= {sparse.values.name: from_sparse(sparse) for sparse in proto.sparse_initializer}
    inputs, outputs = [read_value(info) for info in proto.input], [read_value(info) for info in proto.output]
    nodes = [read_node(node, arrays) for node in proto.node]
    values = {name: Value(name) for node in nodes for name in node.outputs if name}
    values |= {info.name: read_value(info) for info in proto.value_info}
    return Graph(
        name=text(proto.name),
        nodes=nodes,
        inputs=[value for value in inputs if value.name not in initializers],
        outputs=outputs,
        initializers=initializers,
        values=values | {value.name: value for value in (*inputs, *outputs)},
        doc=text(proto.doc_string),
        origin=proto,
    )


def read_node(proto: NodeProto, arrays: Iterator[np.ndarray]) -> Node:
    return Node(
        op=proto.op_type,
        inputs=list(proto.input),
        outputs=list(proto.output),
        attrs={
            entry.name: Parameterized(entry.ref_attr_name)
            if entry.ref_attr_name
            else read_attribute(
                entry, lambda tensor: next_array(tensor, arrays), lambda graph: read_graph(graph, arrays)
            )
            for entry in proto.attribute
        },
        name=text(proto.name),
        domain=read_domain(proto.domain),
        overload=proto.overload,
        origin=proto,
    )


def read_function(proto: FunctionProto) -> Function:
    """A function that the file defines; its tensors stay in the message too, because few are large."""
    arrays = (read_inline(tensor) for node in proto.node for tensor in tensors_of_node(node))
    attrs = dict.fromkeys(proto.attribute) | {
        entry.name: read_attribute(entry, read_inline, lambda graph: read_graph(graph, iter(())))
        for entry in proto.attribute_proto
    }
    return Function(
        inputs=list(proto.input),
        outputs=list(proto.output),
        attrs=attrs,
        nodes=[read_node(node, arrays) for node in proto.node],
        opset={read_domain(entry.domain): entry.version for entry in proto.opset_import},
    )


def next_array(shell: TensorProto, arrays: Iterator[np.ndarray]) -> np.ndarray:
    array = next(arrays)
    if array.shape != tuple(shell.dims):
        raise AssertionError(f"the walk over tensors lost its order at {shell.name!r}")
    return array


def read_domain(domain: str) -> str:
    """ONNX's own operators have two names for their domain."""
    return "" if domain == "ai.onnx" else domain
