"""Let the first convolution read the picture as the caller gave it.

Rule, after algorithms are chosen: a convolution of few channels, of floats or bytes, or its gradient by the weights,
whose input a `ToLayout` node has brought to channels last reads what that node reads. It copies its input anyway, to
pad it; changing the order on the way costs nothing more.
"""

from __future__ import annotations

from nbcnn.graph import Graph

__all__ = ["read_pictures_as_given"]


def read_pictures_as_given(graph: Graph) -> None:
    producers = graph.producers()
    for node in graph.nodes:
        bytes_of_few = node.op == "IntegerConv" and node.attrs["packing"].inner > 1
        if node.attrs.get("algorithm") != "few-channel" and not bytes_of_few:
            continue
        source = producers.get(node.inputs[0])
        if source is not None and source.op == "ToLayout" and graph.values[source.inputs[0]].layout == "plain":
            node.inputs[0] = source.inputs[0]
    graph.prune()
