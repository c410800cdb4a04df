"""Let convolutions write their channels where a concatenation wants them, instead of having them copied there.

Rule: an input of a Concat of channels, channels last, that a Conv of one group without a residual computes and nobody
else reads, is a part of the Concat's output: the Conv writes it there, as many elements from pixel to pixel as that has
channels. What else is concatenated is copied, as ever.
"""

from __future__ import annotations

from nbcnn.graph import Graph, Node, Part

__all__ = ["write_into_concats"]


def write_into_concats(graph: Graph) -> None:
    producers, sole = graph.producers(), graph.sole_readers()
    for node in graph.nodes:
        whole = graph.values[node.outputs[0]] if node.op == "Concat" else None
        if whole is None or whole.layout != "last" or node.attrs["axis"] != 1:
            continue
        first = 0
        for name in node.inputs:
            value, producer = graph.values[name], producers.get(name)
            if name in sole and producer and _writes_anywhere(producer) and value.dtype == whole.dtype and value.size:
                value.part = Part(whole.name, first, whole.dims[1])
            first += value.dims[1]


def _writes_anywhere(node: Node) -> bool:
    """Whether its kernels take the distance between the pixels of what they write as a number."""
    return node.op == "Conv" and node.attrs["group"] == 1 and not node.attrs["depthwise"] and not node.input(3)
