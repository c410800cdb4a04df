"""Let the three nodes by which files shuffle channels (ShuffleNet) be one, which works in any layout.

Rule: Reshape of (N, C, spatial...) to (N, parts of C..., spatial...), Transpose of nothing but the parts, and Reshape
back to the first shape, each read by nobody but the next, is a `ChannelShuffle`.
"""

from __future__ import annotations

from math import prod

import numpy as np

from nbcnn.graph import Graph, Node

__all__ = ["fuse_shuffles"]


def fuse_shuffles(graph: Graph) -> None:
    producers, sole = graph.producers(), graph.sole_readers()
    dropped: set[int] = set()

    def before(node: Node | None, op: str) -> Node | None:
        """The node of this kind that computes a node's input for it alone."""
        name = node.inputs[0] if node else ""
        found = producers.get(name)
        return found if found and found.op == op and name in sole else None

    for last in graph.nodes:
        turn = before(last, "Transpose") if last.op == "Reshape" else None
        first = before(turn, "Reshape")
        if first is None or turn is None:
            continue
        x, y = graph.values[first.inputs[0]], graph.values[last.outputs[0]]
        order = _order(x.dims, graph.values[first.outputs[0]].dims, turn.attrs["perm"])
        if x.dims == y.dims and order is not None:
            last.op, last.inputs, last.attrs = "ChannelShuffle", list(first.inputs), {"order": order}
            dropped |= {id(first), id(turn)}
    graph.nodes = [node for node in graph.nodes if id(node) not in dropped]


def _order(dims: tuple[int, ...], split: tuple[int, ...], perm: tuple[int, ...]) -> tuple[int, ...] | None:
    """The channel that each channel is taken from; None where more than the parts of the channels is moved."""
    spatial = len(dims) - 2
    count = len(split) - spatial - 1
    parts = split[1 : 1 + count]
    if spatial < 1 or count < 2 or (split[0], *split[1 + count :]) != (dims[0], *dims[2:]) or prod(parts) != dims[1]:
        return None
    inner = perm[1 : 1 + count]
    if (perm[0], *perm[1 + count :]) != (0, *range(1 + count, len(split))):
        return None
    numbers = np.arange(dims[1]).reshape(parts).transpose([axis - 1 for axis in inner])
    return tuple(int(n) for n in numbers.reshape(-1))
