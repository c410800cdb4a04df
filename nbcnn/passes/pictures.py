"""Let the first convolution read the picture as the caller gave it.

Rule, after algorithms are chosen: a convolution of few channels, or its gradient by the weights, whose input a
`ToLayout` node has brought to channels last reads what that node reads. It copies its input anyway, to pad it; changing
the order on the way costs nothing more.
"""

from __future__ import annotations

from nbcnn.graph import Graph

__all__ = ["read_pictures_as_given"]


def read_pictures_as_given(graph: Graph) -> None:
    producers = graph.producers()
    for node in graph.nodes:
        if node.attrs.get("algorithm") != "few-channel":
            continue
        source = producers.get(node.inputs[0])
        if source is not None and source.op == "ToLayout" and graph.values[source.inputs[0]].layout == "plain":
            node.inputs[0] = source.inputs[0]
    graph.prune()
