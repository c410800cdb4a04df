"""Graph to ONNX: what was read and not changed is written as it was.

Each part starts from its `origin`, the file's own words, and only what differs from the graph is rewritten. A graph
that was built in Python has no origins and is written from nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import metadata

import numpy as np
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    OperatorSetIdProto,
    StringStringEntryProto,
    TensorProto,
    ValueInfoProto,
    helper,
)

from nbcnn.errors import ModelError
from nbcnn.graph import Graph, Node, Value
from nbcnn.onnx_io.attributes import attribute
from nbcnn.onnx_io.importer import read_domain
from nbcnn.onnx_io.tensors import fill, from_sparse
from nbcnn.onnx_io.text import text
from nbcnn.onnx_io.values import value_info

__all__ = ["Store", "model_proto", "to_proto"]

Store = Callable[[TensorProto, np.ndarray], TensorProto]
"""Makes a TensorProto of a shell (name, data type, how it was stored) and the array that belongs in it."""

LISTED_BEFORE_IR = 4
"""Below this IR version a file lists its initializers among its inputs as well."""

OLDEST_IR = 8
"""The IR version of new files, unless their opset wants a later one; onnxruntime reads it since 1.11."""


def to_proto(graph: Graph) -> ModelProto:
    """The graph as onnx's ModelProto, all weights inside. Raises ModelError when something has no form in ONNX."""
    return model_proto(graph, fill)


def model_proto(graph: Graph, store: Store, weights: Store | None = None) -> ModelProto:
    """store: for all tensors; weights: for the initializers of the graph itself, in order."""
    model = ModelProto()
    if isinstance(graph.origin, ModelProto):
        model.CopyFrom(graph.origin)
        origin: GraphProto | None = graph.origin.graph
    else:
        origin = graph.origin
        sign(model, graph)
    write_opset(model, graph.opset)
    write_metadata(model, graph.metadata)
    write_graph(model.graph, graph, origin, store, weights, listed=model.ir_version < LISTED_BEFORE_IR)
    return model


def sign(model: ModelProto, graph: Graph) -> None:
    """The head of a file of our own."""
    if "" not in graph.opset:
        raise ModelError(f"graph {graph.name!r} has no opset: set graph.opset, such as {{'': 17}}")
    entries = [helper.make_opsetid(domain, version) for domain, version in graph.opset.items()]
    model.ir_version = max(OLDEST_IR, helper.find_min_ir_version_for(entries, ignore_unknown=True))
    model.producer_name = "nbcnn"
    try:
        model.producer_version = metadata.version("nbcnn")
    except metadata.PackageNotFoundError:
        model.producer_version = ""


def write_opset(model: ModelProto, opset: dict[str, int]) -> None:
    kept = [entry for entry in model.opset_import if read_domain(entry.domain) in opset]
    known = {read_domain(entry.domain) for entry in kept}
    fresh = [helper.make_opsetid(domain, version) for domain, version in opset.items() if domain not in known]
    entries: list[OperatorSetIdProto] = [*kept, *fresh]
    for entry in entries:
        entry.version = opset[read_domain(entry.domain)]
    rewrite(model.opset_import, entries)


def write_metadata(model: ModelProto, props: dict[str, str]) -> None:
    before = {text(entry.key): entry for entry in model.metadata_props}
    if {key: text(entry.value) for key, entry in before.items()} != props:
        same = {key for key, entry in before.items() if text(entry.value) == props.get(key)}
        entries = (
            before[key] if key in same else StringStringEntryProto(key=key, value=str(value))
            for key, value in props.items()
        )
        rewrite(model.metadata_props, entries)


def rewrite(field: object, entries: Iterable[object]) -> None:
    """Replace what a repeated field holds."""
    entries = list(entries)
    del field[:]  # type: ignore[attr-defined]
    field.extend(entries)  # type: ignore[attr-defined]


def sub_graph(graph: Graph, store: Store) -> GraphProto:
    proto = GraphProto()
    write_graph(proto, graph, graph.origin, store)
    return proto


def write_graph(
    proto: GraphProto,
    graph: Graph,
    origin: GraphProto | None,
    store: Store,
    weights: Store | None = None,
    listed: bool = False,
) -> None:
    """Write a graph into `proto`. listed: initializers that the file does not know are to be listed as inputs too."""
    if origin is not None:
        proto.CopyFrom(origin)
    for field, value in (("name", graph.name), ("doc_string", graph.doc)):
        if text(getattr(proto, field)) != value:
            setattr(proto, field, value)
    before = GraphProto() if origin is None else origin
    if graph.renamed and origin is not None:
        before = with_new_names(origin, {old: new for new, old in graph.renamed.items()})
    gone = names_of(before) - names_in(graph)
    rewrite(proto.node, (node_proto(node, store) for node in graph.nodes))
    write_initializers(proto, before, graph, weights or store)
    rewrite(proto.input, input_infos(before, graph, listed))
    rewrite(proto.output, (value_info(value) for value in graph.outputs))
    rewrite(proto.value_info, inner_infos(before, graph, gone))
    notes = [note for note in before.quantization_annotation if note.tensor_name not in gone]
    rewrite(proto.quantization_annotation, notes)


def with_new_names(proto: GraphProto, names: dict[str, str]) -> GraphProto:
    """A copy of a file's graph in which values have other names (old -> new); nodes are written anew anyway."""
    copy = GraphProto()
    copy.CopyFrom(proto)
    sparse = [entry.values for entry in copy.sparse_initializer]
    for entry in (*copy.input, *copy.value_info, *copy.initializer, *sparse):
        entry.name = names.get(entry.name, entry.name)
    for node in copy.node:
        rewrite(node.output, [names.get(name, name) for name in node.output])
    for note in copy.quantization_annotation:
        note.tensor_name = names.get(note.tensor_name, note.tensor_name)
        for entry in note.quant_parameter_tensor_names:
            entry.value = names.get(entry.value, entry.value)
    return copy


def names_of(proto: GraphProto) -> set[str]:
    """The names that a file's graph defines."""
    written = {name for node in proto.node for name in node.output}
    sparse = {entry.values.name for entry in proto.sparse_initializer}
    return written | sparse | {entry.name for entry in (*proto.input, *proto.initializer)}


def names_in(graph: Graph) -> set[str]:
    return (
        {name for node in graph.nodes for name in node.outputs}
        | {v.name for v in graph.inputs}
        | set(graph.initializers)
    )


def write_initializers(proto: GraphProto, before: GraphProto, graph: Graph, store: Store) -> None:
    """The file's initializers in their order, then the new ones; a sparse one stays sparse while it is unchanged."""
    arrays = graph.initializers
    sparse = [entry for entry in before.sparse_initializer if unchanged(entry.values.name, from_sparse(entry), arrays)]
    done = {entry.values.name for entry in sparse}
    shells = {shell.name: shell for shell in before.initializer}
    order = [*(name for name in shells if name in arrays), *(name for name in arrays if name not in shells)]
    rewrite(proto.sparse_initializer, sparse)
    del proto.initializer[:]
    for name in order:
        if name not in done:  # one by one, so that at most one weight is there a third time
            proto.initializer.add().CopyFrom(store(shells.get(name, TensorProto(name=name)), arrays[name]))


def unchanged(name: str, array: np.ndarray, arrays: dict[str, np.ndarray]) -> bool:
    return name in arrays and np.array_equal(arrays[name], array) and arrays[name].dtype == array.dtype


def input_infos(before: GraphProto, graph: Graph, listed: bool) -> list[ValueInfoProto]:
    """What is fed, in the graph's order, with the listed initializers where the file had them."""
    arrays, fed = graph.initializers, list(graph.inputs)
    infos: list[ValueInfoProto] = []
    for info in before.input:
        if info.name in arrays:
            infos.append(initializer_info(info.name, arrays[info.name], graph.values.get(info.name)))
        elif fed:
            infos.append(value_info(fed.pop(0)))
    infos += [value_info(value) for value in fed]
    if listed:
        present = {info.name for info in infos}
        infos += [initializer_info(name, array, None) for name, array in arrays.items() if name not in present]
    return infos


def initializer_info(name: str, array: np.ndarray, value: Value | None) -> ValueInfoProto:
    """How an initializer is listed as an input; its shape follows the array, its type the file."""
    if value is None:
        return value_info(Value(name, array.dtype, array.shape))
    if value.shape is not None and value.shape != array.shape:
        value = Value(name, value.dtype, array.shape, origin=value.origin)
    return value_info(value)


def inner_infos(before: GraphProto, graph: Graph, gone: set[str]) -> list[ValueInfoProto]:
    """The file's value_info where it still speaks of something, then what was learned of new values."""
    known = [info.name for info in before.value_info]
    kept = [name for name in known if name not in gone and name in graph.values and speaks(graph.values[name])]
    elsewhere = {*known, *graph.output_names(), *(info.name for info in before.input)}
    written = (name for node in graph.nodes for name in node.outputs if name in graph.values and name not in elsewhere)
    fresh = [name for name in written if graph.values[name].dtype is not None and graph.values[name].shape is not None]
    return [value_info(graph.values[name]) for name in (*kept, *fresh)]


def speaks(value: Value) -> bool:
    """Whether anything is known of a value; of a sequence or a map it is the origin that knows."""
    untensored = value.origin is not None and value.origin.type.WhichOneof("value") != "tensor_type"
    return untensored or value.dtype is not None


def node_proto(node: Node, store: Store) -> NodeProto:
    proto, before = NodeProto(), {}
    if node.origin is not None:
        proto.CopyFrom(node.origin)
        before = {entry.name: entry for entry in node.origin.attribute}
    for field, value in (("op_type", node.op), ("name", node.name)):
        if text(getattr(proto, field)) != value:
            setattr(proto, field, value)
    if read_domain(proto.domain) != node.domain:
        proto.domain = node.domain
    rewrite(proto.input, node.inputs)
    rewrite(proto.output, node.outputs)
    order = [*(name for name in before if name in node.attrs), *(name for name in node.attrs if name not in before)]
    del proto.attribute[:]
    try:
        for name in order:
            entry = attribute(name, node.attrs[name], before.get(name), store, lambda inner: sub_graph(inner, store))
            proto.attribute.append(entry)
    except (ValueError, TypeError) as error:
        raise ModelError(f"{node.label}: an attribute has no form in ONNX: {error}") from error
    return proto
