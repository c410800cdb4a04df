"""Which nodes of the file each node of a plan computes: a convolution, say, with the batch norm and the Relu that were
fused into it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from nbcnn.graph import Graph, Node

__all__ = ["file_name", "owned_parts"]

FORMS = re.compile(r"(\.(blocks|last|plain|pooled)(\.\d+)?)+$")
"""What passes append to the name of a value that they keep in another form or order."""


def file_name(name: str) -> str:
    """The name in the file of a value of a plan, if it is in the file at all."""
    return FORMS.sub("", name)


def owned_parts(nodes: Iterable[Node], source: Graph) -> list[list[Node]]:
    """For each node of a plan, the nodes of the source graph that it computes, in the source's order.

    A plan's node writes the value that the last of its parts wrote; from there back, all that writes into no other plan
    node's value is its own, but for what rests on constants alone. Empty for nodes that the file does not have, such
    as gradients.
    """
    nodes = list(nodes)
    order = {id(node): index for index, node in enumerate(source.nodes)}
    producers = {name: node for node in _fed(source) for name in node.outputs if name}
    written = {form for node in nodes for name in node.outputs if name for form in (name, file_name(name))}
    taken: set[int] = set()
    return [sorted(_parts(node, producers, written, taken), key=lambda part: order[id(part)]) for node in nodes]


def _fed(source: Graph) -> Iterator[Node]:
    """The nodes that depend on an input."""
    known = {value.name for value in source.inputs} - source.initializers.keys()
    for node in source.nodes:
        if not known.isdisjoint(node.inputs):
            known.update(node.outputs)
            known.discard("")
            yield node


def _parts(node: Node, producers: dict[str, Node], written: set[str], taken: set[int]) -> list[Node]:
    waiting = [name if name in producers else file_name(name) for name in node.outputs if name]
    found = []
    while waiting:
        part = producers.get(waiting.pop())
        if part is None or id(part) in taken:
            continue
        taken.add(id(part))
        found.append(part)
        waiting += [name for name in part.inputs if name and name not in written]
    return found
