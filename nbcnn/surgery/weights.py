"""Weights and constants of a source graph: finding what arrives at a node, and storing something else there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nbcnn.errors import InputError
from nbcnn.graph import Graph, Node, Value
from nbcnn.model import Model

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CARRIERS", "arriving", "constant", "drop_unread", "root", "source", "store", "unread"]

CARRIERS = ("Identity", "Reshape", "Transpose")
"""What a weight may come through on its way to the node that uses it."""


def source(model: Graph | Model, what: str) -> Graph:
    """A copy of a source graph, or of a model's with its present weights, to change. what: begins the error."""
    if not isinstance(model, Graph | Model):
        raise InputError(f"{what} a Model or a Graph, not a {type(model).__name__}")
    if isinstance(model, Graph):
        return model.copy()
    with model.lock:
        return model.trained_graph()


def root(producers: Mapping[str, Node], name: str) -> str:
    """Where a value that came through carriers began."""
    while name in producers and producers[name].op in CARRIERS:
        name = producers[name].inputs[0]
    return name


def arriving(graph: Graph, producers: Mapping[str, Node], name: str) -> np.ndarray | None:
    """An initializer as it is after the Identity, Reshape and Transpose nodes that it came through."""
    if name in graph.initializers:
        return graph.initializers[name]
    node = producers.get(name)
    if node is None or node.op not in CARRIERS:
        return None
    array = arriving(graph, producers, node.inputs[0])
    if array is None or node.op == "Identity":
        return array
    if node.op == "Transpose":
        return array.transpose(node.attrs.get("perm"))
    shape = constant(graph, producers, node.input(1))
    return None if shape is None else array.reshape([int(n) for n in shape])


def constant(graph: Graph, producers: Mapping[str, Node], name: str) -> np.ndarray | None:
    """The value of an initializer or of a Constant node; None for anything else."""
    if name in graph.initializers:
        return graph.initializers[name]
    node = producers.get(name)
    return (
        np.asarray(node.attrs["value"])
        if node is not None and node.op == "Constant" and "value" in node.attrs
        else None
    )


def store(graph: Graph, node: Node, slot: int, array: np.ndarray, suffix: str) -> None:
    """Let an input be this initializer, under its root's name where nothing else reads that, else with this suffix."""
    producers, readers = graph.producers(), graph.consumers()
    name = origin = root(producers, node.inputs[slot])
    step, alone = node.inputs[slot], origin in graph.initializers
    while True:
        alone = alone and len(readers.get(step, [])) == 1
        if step == origin:
            break
        step = producers[step].inputs[0]
    if not alone:
        name = graph.fresh(f"{origin}.{suffix}")
    while len(node.inputs) <= slot:
        node.inputs.append("")
    node.inputs[slot] = name
    graph.initializers[name] = array
    known = graph.values.get(name)
    if known is None or known.shape is None or known.dtype is None:
        graph.values[name] = Value(name, array.dtype, array.shape)
    else:
        known.shape = array.shape


def unread(graph: Graph) -> tuple[list[Node], set[str]]:
    """The carriers and constants, and the names of the initializers, that nothing reads."""
    readers, outputs = graph.consumers(), set(graph.output_names())
    nodes = [
        node
        for node in graph.nodes
        if node.op in (*CARRIERS, "Constant") and not any(name in readers or name in outputs for name in node.outputs)
    ]
    inner = {
        name
        for node in graph.nodes
        for attribute in node.attrs.values()
        if isinstance(attribute, Graph)
        for reader in attribute.nodes
        for name in reader.inputs
    }
    return nodes, graph.initializers.keys() - readers.keys() - outputs - inner


def drop_unread(graph: Graph, spared: set[str]) -> None:
    """Remove the carriers, constants and initializers that nothing reads any more, but for those that nothing read
    before (`spared`).
    """
    while True:
        nodes, names = unread(graph)
        gone = [node for node in nodes if spared.isdisjoint(node.outputs)]
        if not gone:
            break
        graph.nodes = [node for node in graph.nodes if node not in gone]
    for name in names - spared:
        del graph.initializers[name]
    left = {name for node in graph.nodes for name in node.outputs} | {v.name for v in graph.inputs}
    for name in graph.values.keys() - left - graph.initializers.keys():
        del graph.values[name]
