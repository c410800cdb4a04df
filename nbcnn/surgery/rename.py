"""Other names for inputs, outputs and values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from nbcnn.errors import InputError
from nbcnn.graph import Graph, Node, Value
from nbcnn.model import Model
from nbcnn.surgery.weights import source

__all__ = ["rename"]


def rename(model: Graph | Model, names: Mapping[str, str]) -> Graph:
    """A copy in which values (inputs, outputs, weights, anything between) have other names: old name -> new name.

    Two values may change places. Raises InputError for a name that no value has, and for one that two would have.
    """
    if not isinstance(names, Mapping):
        raise InputError(f"rename takes new names by old ones, such as {{'x': 'input'}}, not {names!r}")
    graph = source(model, "names are changed in")
    known = set(_names(graph))
    for old, new in names.items():
        if old not in known:
            raise InputError(f"no value {old!r} to rename; inputs are {[v.name for v in graph.inputs]}, and outputs "
                             f"{graph.output_names()}")  # fmt: skip
        if not new or not isinstance(new, str):
            raise InputError(f"{old!r} cannot be renamed to {new!r}: a name is a text of at least one character")
    count = Counter(names.get(name, name) for name in known)
    for old, new in names.items():
        if count[new] > 1:
            raise InputError(f"{old!r} cannot be renamed to {new!r}: another value has that name")
    return _renamed(graph, names)


def _names(graph: Graph) -> Iterator[str]:
    """The names of all values, in sub-graphs too, where ONNX has no name twice either."""
    for value in (*graph.inputs, *graph.outputs):
        yield value.name
    yield from graph.initializers
    for node in graph.nodes:
        yield from filter(None, node.outputs)
        for inner in _sub_graphs(node):
            yield from _names(inner)


def _sub_graphs(node: Node) -> Iterator[Graph]:
    for attribute in node.attrs.values():
        yield from (g for g in (attribute if isinstance(attribute, list) else [attribute]) if isinstance(g, Graph))


def _renamed(graph: Graph, names: Mapping[str, str]) -> Graph:
    def value(known: Value) -> Value:
        return replace(known, name=names.get(known.name, known.name))

    def attribute(found: Any) -> Any:
        if isinstance(found, list):
            return [attribute(item) for item in found]
        return _renamed(found, names) if isinstance(found, Graph) else found

    before = {new: old for old, new in names.items()}
    present = {names.get(name, name): graph.renamed.get(name, name) for name in (*graph.renamed, *before.values())}
    return replace(
        graph,
        nodes=[
            replace(
                node,
                inputs=[names.get(name, name) for name in node.inputs],
                outputs=[names.get(name, name) for name in node.outputs],
                attrs={key: attribute(found) for key, found in node.attrs.items()},
            )
            for node in graph.nodes
        ],
        inputs=[value(v) for v in graph.inputs],
        outputs=[value(v) for v in graph.outputs],
        initializers={names.get(name, name): array for name, array in graph.initializers.items()},
        values={names.get(name, name): value(v) for name, v in graph.values.items()},
        renamed={new: old for new, old in present.items() if new != old},
    )
