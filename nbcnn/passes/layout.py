"""Decide how every activation lies in memory, and convert where two neighbours differ.

Rules:
1. an operator that works on pixels (`layout = "last"`) reads and writes channels last, if its activation has three
dimensions or more;
2. one that needs ONNX order (`"plain"`) reads and writes that, whatever the ranks;
3. any other takes the layout of its first activation that is channels last, and its outputs of the same rank have
that layout;
4. where a value is read in another layout than it was written, a `ToLayout` node converts it, once for each layout;
5. what a caller feeds and gets back is in ONNX order.
"""

from __future__ import annotations

from nbcnn.graph import Graph, Node, Value
from nbcnn.ops import lookup

__all__ = ["choose_layouts"]


class _Converter:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[Node] = []
        self.made: dict[tuple[str, str], str] = {}

    def get(self, name: str, layout: str) -> str:
        """The name under which a value can be read in this layout."""
        value = self.graph.values[name]
        if value.layout in (layout, "packed"):
            return name
        if (name, layout) not in self.made:
            new = self.graph.new_value(f"{name}.{layout}", value.dtype, value.dims, layout)
            self.nodes.append(Node("ToLayout", [name], [new]))
            self.made[name, layout] = new
        return self.made[name, layout]


def choose_layouts(graph: Graph) -> None:
    convert = _Converter(graph)
    for node in graph.nodes:
        op = lookup(node)
        which = range(len(node.inputs)) if op.activations is None else op.activations
        active = [i for i in which if node.input(i)]
        layout = _layout_of(graph, node, op.layout, active)
        rank = _rank(graph, node, active)
        for i in active:
            if op.layout == "plain" or (len(graph.values[node.inputs[i]].dims) == rank and rank > 2):
                node.inputs[i] = convert.get(node.inputs[i], layout)
        for name in filter(None, node.outputs):
            value: Value = graph.values[name]
            value.layout = layout if len(value.dims) == rank and rank > 2 else "plain"
        convert.nodes.append(node)
    for index, value in enumerate(graph.outputs):
        graph.outputs[index] = graph.values[convert.get(value.name, "plain")]
    graph.nodes = convert.nodes


def _rank(graph: Graph, node: Node, active: list[int]) -> int:
    return max((len(graph.values[node.inputs[i]].dims) for i in active), default=0)


def _layout_of(graph: Graph, node: Node, asked: str, active: list[int]) -> str:
    if asked != "any":
        return asked
    rank = _rank(graph, node, active)
    values = [graph.values[node.inputs[i]] for i in active]
    return "last" if any(v.layout == "last" and len(v.dims) == rank for v in values) else "plain"
