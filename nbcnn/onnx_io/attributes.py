"""AttributeProto to Python and NumPy values and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, TensorProto, helper

from nbcnn.graph import Graph
from nbcnn.onnx_io.tensors import from_sparse

__all__ = ["attribute", "read_attribute"]

Kind = AttributeProto


def read_attribute(
    proto: AttributeProto, tensor: Callable[[TensorProto], np.ndarray], graph: Callable[[GraphProto], Graph]
) -> Any:
    """int, float, str (bytes where it is not UTF-8), np.ndarray, Graph, or a list of these.

    A TypeProto, which only operators on optional values have, stays as it is.
    """
    decode: dict[int, Callable[[Any], Any]] = {
        Kind.FLOAT: float,
        Kind.INT: int,
        Kind.STRING: read_text,
        Kind.TENSOR: tensor,
        Kind.GRAPH: graph,
        Kind.SPARSE_TENSOR: from_sparse,
    }
    value, plural = helper.get_attribute_value(proto), PLURAL.get(proto.type)
    if plural is not None:
        return [decode.get(plural, lambda item: item)(item) for item in value]
    return decode.get(proto.type, lambda item: item)(value)


PLURAL = {
    Kind.FLOATS: Kind.FLOAT,
    Kind.INTS: Kind.INT,
    Kind.STRINGS: Kind.STRING,
    Kind.TENSORS: Kind.TENSOR,
    Kind.GRAPHS: Kind.GRAPH,
    Kind.SPARSE_TENSORS: Kind.SPARSE_TENSOR,
    Kind.TYPE_PROTOS: Kind.TYPE_PROTO,
}


def read_text(text: bytes) -> str | bytes:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text


def attribute(
    name: str,
    value: Any,
    origin: AttributeProto | None,
    store: Callable[[TensorProto, np.ndarray], TensorProto],
    graph: Callable[[Graph], GraphProto],
) -> AttributeProto:
    """The attribute `name` with `value`; `origin` itself when the file's attribute already says that.

    store: makes a TensorProto of a shell and an array. graph: makes a GraphProto of a sub-graph.
    """
    proto = AttributeProto()
    if origin is not None:
        proto.CopyFrom(origin)
        if origin.type == Kind.TENSOR and isinstance(value, np.ndarray):
            proto.t.CopyFrom(store(origin.t, value))
            return proto
        if origin.type == Kind.GRAPH and isinstance(value, Graph):
            proto.g.CopyFrom(graph(value))
            return proto
        if origin.type == Kind.TENSORS and len(origin.tensors) == len(value):
            del proto.tensors[:]
            proto.tensors.extend(store(shell, array) for shell, array in zip(origin.tensors, value, strict=True))
            return proto
        if origin.type not in {Kind.TENSOR, Kind.GRAPH, Kind.TENSORS, Kind.GRAPHS} and says(origin, value):
            return proto
    fresh = encode(name, value, origin, store, graph)
    if proto.doc_string:
        fresh.doc_string = proto.doc_string
    return fresh


def says(origin: AttributeProto, value: Any) -> bool:
    """Whether the file's attribute holds `value`."""
    stored = read_attribute(origin, lambda proto: proto, lambda proto: proto)
    if isinstance(value, np.ndarray) or isinstance(stored, np.ndarray):
        return np.array_equal(stored, value)
    return bool(stored == (list(value) if isinstance(value, tuple) else value))


def encode(
    name: str,
    value: Any,
    origin: AttributeProto | None,
    store: Callable[[TensorProto, np.ndarray], TensorProto],
    graph: Callable[[Graph], GraphProto],
) -> AttributeProto:
    """A new attribute, of the origin's type where that is a plain number or a list of them (1 may mean 1.0)."""

    def plain(item: Any) -> Any:
        if isinstance(item, Graph):
            return graph(item)
        if isinstance(item, np.ndarray) and not numeric:
            return store(TensorProto(), item)
        if isinstance(item, np.generic | np.ndarray):
            return item.tolist()
        return item

    numeric = origin is not None and origin.type in {Kind.FLOAT, Kind.INT, Kind.FLOATS, Kind.INTS}
    value = plain(value)
    if isinstance(value, list | tuple):
        value = [plain(item) for item in value]
    if numeric and origin is not None:
        convert = float if origin.type in {Kind.FLOAT, Kind.FLOATS} else int
        value = [convert(item) for item in value] if origin.type in PLURAL else convert(value)
        return helper.make_attribute(name, value, attr_type=origin.type)
    return helper.make_attribute(name, value, attr_type=Kind.INTS if value == [] else None)
