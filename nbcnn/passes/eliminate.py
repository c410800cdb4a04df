"""Remove nodes that only pass a value on: Identity, inactive Dropout, and whatever was normalized to Identity.

Rule: readers of the output read the input instead, unless the output is one of the graph's.
"""

from __future__ import annotations

from nbcnn.graph import Graph

__all__ = ["eliminate"]


def eliminate(graph: Graph) -> None:
    outputs = set(graph.output_names())
    stands_for: dict[str, str] = {}
    kept = []
    for node in graph.nodes:
        node.inputs = [stands_for.get(name, name) for name in node.inputs]
        if node.op == "Identity" and node.outputs[0] not in outputs:
            stands_for[node.outputs[0]] = node.inputs[0]
        else:
            kept.append(node)
    graph.nodes = kept
