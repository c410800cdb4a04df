"""Sub-graphs in the place of the nodes that stand for them: If with a known condition, and functions of the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nbcnn.errors import ModelError
from nbcnn.graph import Function, Graph, Node, Parameterized

__all__ = ["body_of", "branch"]


def branch(node: Node, graph: Graph) -> Graph:
    """A branch of an If whose outputs, and everything inside of it, are named for the place where the node stands."""
    names = {name: f"{_prefix(node)}/{name}" for name in (*graph.initializers, *_written(graph.nodes))}
    nodes = [_renamed(inner, names) for inner in graph.nodes]
    for inner, outer in zip(graph.outputs, node.outputs, strict=True):
        if outer:
            nodes.append(Node("Identity", [names.get(inner.name, inner.name)], [outer]))
    return replace(graph, nodes=nodes, initializers={names[n]: array for n, array in graph.initializers.items()})


def body_of(node: Node, function: Function) -> list[Node]:
    """The nodes of a function's body for one call of it. Raises ModelError where they do not fit."""
    if len(node.inputs) > len(function.inputs) or len(node.outputs) > len(function.outputs):
        raise ModelError(
            f"{node.label}: its function has {len(function.inputs)} inputs and {len(function.outputs)} outputs, "
            f"not {len(node.inputs)} and {len(node.outputs)}"
        )
    names = {name: f"{_prefix(node)}/{name}" for name in _written(function.nodes)}
    names |= {name: node.input(i) for i, name in enumerate(function.inputs)}
    aliases = []
    for i, name in enumerate(function.outputs):
        outer = node.output(i)
        if outer and name in function.inputs:
            aliases.append(Node("Identity", [names[name]], [outer]))
        elif outer:
            names[name] = outer
    attrs = {name: value for name, value in (function.attrs | node.attrs).items() if value is not None}
    return [_renamed(inner, names, attrs) for inner in function.nodes] + aliases


def _prefix(node: Node) -> str:
    return next(filter(None, node.outputs))


def _written(nodes: list[Node]) -> list[str]:
    return [name for node in nodes for name in node.outputs if name]


def _renamed(node: Node, names: Mapping[str, str], attrs: Mapping[str, Any] | None = None) -> Node:
    """The node with other value names, also inside of its sub-graphs, and with the attributes of a function's call."""
    found = {}
    for key, value in node.attrs.items():
        if isinstance(value, Parameterized):
            if attrs is None or value.name not in attrs:
                continue
            value = attrs[value.name]
        found[key] = _renamed_graph(value, names, attrs) if isinstance(value, Graph) else value
    inputs, outputs = ([names.get(name, name) for name in side] for side in (node.inputs, node.outputs))
    return replace(node, inputs=inputs, outputs=outputs, attrs=found)


def _renamed_graph(graph: Graph, names: Mapping[str, str], attrs: Mapping[str, Any] | None) -> Graph:
    """A sub-graph that reads values by their new names; its own names stay, as ONNX has each name only once."""
    outputs = [replace(v, name=names.get(v.name, v.name)) for v in graph.outputs]
    return replace(graph, nodes=[_renamed(node, names, attrs) for node in graph.nodes], outputs=outputs)
