"""Which nodes of the file each node of a plan computes: a convolution, say, with the batch norm and the Relu that were
fused into it.
"""

from __future__ import annotations

from collections.abc import Iterable

from nbcnn.graph import Graph, Node

__all__ = ["owned_parts"]


def owned_parts(nodes: Iterable[Node], source: Graph) -> list[list[Node]]:
    """For each node of a plan, the nodes of the source graph that it computes, in the source's order.

    A plan's node writes the value that the last of its parts wrote; from there back, all that writes into no other plan
    node's value is its own. Empty for nodes that the file does not have, such as gradients.
    """
    nodes = list(nodes)
    producers, order = source.producers(), {id(node): index for index, node in enumerate(source.nodes)}
    written = {name for node in nodes for name in node.outputs if name}
    taken: set[int] = set()
    return [sorted(_parts(node, producers, written, taken), key=lambda part: order[id(part)]) for node in nodes]


def _parts(node: Node, producers: dict[str, Node], written: set[str], taken: set[int]) -> list[Node]:
    waiting = [name for name in node.outputs if name]
    found = []
    while waiting:
        part = producers.get(waiting.pop())
        if part is None or id(part) in taken:
            continue
        taken.add(id(part))
        found.append(part)
        waiting += [name for name in part.inputs if name and name not in written]
    return found
