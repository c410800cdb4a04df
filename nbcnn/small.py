"""Which plans are so small that one thread makes them sooner than a team that has to be called together."""

from __future__ import annotations

from nbcnn.graph import Graph
from nbcnn.report.arithmetic import work

__all__ = ["is_small"]

SMALL = 6_000_000
"""Operations and bytes: some 0.1 ms of one thread. A team of threads costs 2 µs at every call where its threads are
awake, and milliseconds where other programs hold their cores."""


def is_small(graph: Graph) -> bool:
    """Whether all nodes of a lowered graph together are little work."""
    total = 0
    for node in graph.nodes:
        found = work(node, graph.values)
        total += found.flops + found.bytes
        if total > SMALL:
            return False
    return True
