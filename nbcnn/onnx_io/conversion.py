"""A graph for another opset: onnx's converter says what nodes become, and all that it does not change stays.

The converter itself would lose much (functions, metadata of nodes, sparse initializers, doc strings of tensors), so of
its result only the nodes that differ, and their new constants, are taken. It gets to see no large weights.
"""

from __future__ import annotations

import re
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, defs, helper, version_converter

from nbcnn.arguments import check_count
from nbcnn.errors import InputError, ModelError
from nbcnn.graph import Graph, Node, Value
from nbcnn.onnx_io.exporter import model_proto
from nbcnn.onnx_io.external import tensors_of
from nbcnn.onnx_io.importer import read_graph
from nbcnn.onnx_io.inference import LARGEST_READ, shell
from nbcnn.onnx_io.sources import reason
from nbcnn.onnx_io.tensors import TYPED_FIELDS, read_inline

__all__ = ["convert"]

OVER_ALL_AXES = ("Hardmax", "LogSoftmax", "Softmax")
"""Operators over one axis that before opset 13 were over this and all later ones."""


def convert(graph: Graph, opset: int) -> Graph:
    """The graph as it is written with this version of ONNX's operators.

    The IR version is raised where the opset needs that. Raises InputError for a version that there is not, ModelError
    where onnx has no way from the graph's version to this one.
    """
    newest = defs.onnx_opset_version()
    check_count("opset", opset)
    if opset > newest:
        raise InputError(f"opset {opset} is newer than {newest}, the newest that this onnx knows")
    old = graph.opset.get("", 0)
    if opset == old:
        return graph
    if not old:
        raise ModelError(f"graph {graph.name!r} has no opset of ONNX's own operators to convert")
    if opset < old:
        check_way_down(graph, old, opset)
    try:
        found = version_converter.convert_version(model_proto(graph, shell), opset)
    except Exception as error:  # the converter is C++ and has several kinds of its own
        raise ModelError(f"opset {old} cannot be converted to {opset}: {explanation(error, old, opset)}") from error
    arrays = (np.broadcast_to(0.0, tuple(t.dims)) if is_bare(t) else read_inline(t) for t in tensors_of(found.graph))
    merged = merge(graph, read_graph(found.graph, arrays), found.graph.node)
    return replace(merged, opset=graph.opset | {"": opset}, origin=raised(graph, opset))


def is_bare(tensor: TensorProto) -> bool:
    """Whether the elements were left out."""
    return prod(tensor.dims) > LARGEST_READ and not any(getattr(tensor, name) for name in ("raw_data", *TYPED_FIELDS))


def explanation(error: Exception, old: int, new: int) -> str:
    missing = re.search(r"No Adapter (?:From|To) Version \$?(\d+) for (\w+)", str(error))
    if missing is None:
        return f"onnx's converter says: {reason(error)}"
    way = "up" if new > old else "down"
    return f"onnx's converter has no way for {missing[2]} {way} from {missing[1]}; choose an opset closer to {old}"


def check_way_down(graph: Graph, old: int, new: int) -> None:
    """Raise ModelError for what an older opset cannot say, where the converter would say something else in silence."""
    for node in graph.nodes:
        if node.domain == "" and defs.has(node.op, max_inclusive_version=new, domain=""):
            problem = lost(node, old, new)
            if problem:
                raise ModelError(f"opset {old} cannot be converted to {new}: {node.label} {problem}")
        for attribute in node.attrs.values():
            if isinstance(attribute, Graph):
                check_way_down(attribute, old, new)


def lost(node: Node, old: int, new: int) -> str:
    """What a node says that it could not say in an older opset, "" for nothing."""
    if node.op in OVER_ALL_AXES and new < 13 <= old and node.attrs.get("axis", -1) != -1:
        return f"is over axis {node.attrs['axis']} alone; before opset 13 it would be over all that follow, too"
    before, after = (defs.get_schema(node.op, version, "").attributes for version in (old, new))
    for name, value in node.attrs.items():
        if name in before and name not in after:
            default = before[name].default_value
            usual = helper.get_attribute_value(default) if default.name else None
            if (usual.decode() if isinstance(usual, bytes) else usual) != value:
                return f"has {name} = {value!r}, which there is only in later opsets"
    return ""


def raised(graph: Graph, opset: int) -> Any:
    """The file's own words with an IR version that has this opset."""
    if not isinstance(graph.origin, ModelProto):
        return graph.origin
    origin = ModelProto()
    origin.CopyFrom(graph.origin)
    entries = [helper.make_opsetid(d, v) for d, v in (graph.opset | {"": opset}).items()]
    origin.ir_version = max(origin.ir_version, helper.find_min_ir_version_for(entries, ignore_unknown=True))
    return origin


def merge(old: Graph, new: Graph, protos: Any) -> Graph:
    """`old` with the nodes and constants in which `new`, the converter's result, differs."""
    known = {tuple(node.outputs): node for node in old.nodes}
    nodes = [merged(known.get(tuple(node.outputs)), node, proto) for node, proto in zip(new.nodes, protos, strict=True)]
    arrays = {name: array for name, array in old.initializers.items() if name in new.initializers}
    for name, array in new.initializers.items():
        if name not in arrays or (array.size <= LARGEST_READ and not same(array, arrays[name])):
            arrays[name] = array
    names = {name for node in nodes for name in node.outputs} | arrays.keys() | {v.name for v in old.inputs}
    values = {name: value for name, value in old.values.items() if name in names}
    values |= {name: Value(name, array.dtype, array.shape) for name, array in arrays.items() if name not in values}
    return replace(old.copy(), nodes=nodes, initializers=arrays, values=values)


def merged(old: Node | None, new: Node, proto: NodeProto) -> Node:
    """The old node where the converter left it as it was; else the new one, with what the old one's file says of it."""
    if old is None:
        return new
    attrs = {name: inner(old.attrs.get(name), value) for name, value in new.attrs.items()}
    if (old.op, old.inputs) == (new.op, new.inputs) and alike(old.attrs, attrs):
        return replace(old, attrs={name: attrs[name] for name in old.attrs})  # in the file's order
    if old.origin is not None:
        proto.ClearField("metadata_props")
        proto.metadata_props.extend(old.origin.metadata_props)
    return replace(new, attrs=attrs, overload=old.overload)


def inner(old: Any, new: Any) -> Any:
    """An attribute; sub-graphs are merged in their turn, and large tensors, which the converter did not see, kept."""
    if isinstance(old, Graph) and isinstance(new, Graph):
        return merge(old, new, new.origin.node)
    return old if same(old, new) else new


def alike(old: dict[str, Any], new: dict[str, Any]) -> bool:
    return old.keys() == new.keys() and all(same(old[name], new[name]) for name in old)


def same(old: Any, new: Any) -> bool:
    """Whether two attributes say the same; graphs have been merged, and large tensors are known to be the same."""
    if isinstance(old, Graph):
        return isinstance(new, Graph)
    if isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
        return old.shape == new.shape and (old.size > LARGEST_READ or old.tobytes() == new.tobytes())
    return bool(old == new)
