"""The front of a network, up to a node or value: a feature extractor."""

from __future__ import annotations

from dataclasses import replace

from nbcnn.errors import InputError, ModelError
from nbcnn.graph import Graph, Value
from nbcnn.labels import remember_labels, remembered_labels
from nbcnn.model import Model
from nbcnn.surgery.weights import source

__all__ = ["cut"]


def cut(model: Graph | Model, name: str) -> Graph:
    """A copy that ends in the value of this name, or in the first output of the node of this name, and holds nothing
    that this does not need. Class names in the metadata stay where the value has as many channels as there are names.

    Raises InputError where there is neither, ModelError where nothing tells the value's type.
    """
    graph = source(model, "the front is taken of")
    value = _value_of(graph, name)
    declared = [v for v in (graph.values.get(value), *graph.outputs) if v is not None and v.name == value]
    output = next((v for v in declared if v.dtype is not None and v.shape is not None), None) or _learn(graph, value)
    graph.outputs = [replace(output)]
    graph.prune()
    read = {name for node in graph.nodes for name in node.reads()} | {value}
    graph.inputs = [v for v in graph.inputs if v.name in read]
    graph.initializers = {n: array for n, array in graph.initializers.items() if n in read}
    labels = remembered_labels(graph)
    if labels is not None and (output.shape or ())[1:2] != (len(labels),):
        remember_labels(graph, None)
    left = read.union(*(node.outputs for node in graph.nodes))
    graph.values = {n: v for n, v in graph.values.items() if n in left} | {value: output}
    return graph


def _value_of(graph: Graph, name: str) -> str:
    producers = graph.producers()
    if name in producers:
        return name
    found = [node for node in graph.nodes if node.name and node.name == name]
    if len(found) > 1:
        raise InputError(f"{len(found)} nodes are called {name!r}: name the value where the network is to end")
    if not found:
        raise InputError(f"no node and no computed value {name!r}; the last ones are {list(producers)[-3:]}")
    return next(filter(None, found[0].outputs))


def _learn(graph: Graph, name: str) -> Value:
    """What onnx's shape inference tells of a value."""
    from nbcnn.api import infer

    value = infer(graph).get(name)
    if value is None or value.dtype is None:
        raise ModelError(f"the network cannot end in {name!r}: neither the file nor onnx tells its element type")
    return value
