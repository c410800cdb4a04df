"""Which node of the file a node that onnxruntime ran stands for.

onnxruntime's optimizers rename what they rewrite. Seen in its profiles are: a node's own name; for one without a name,
its operator and its number in the file; for what was put into another layout, the name of the value that it writes, or
its own, with an ending; the same with a beginning, where another type is computed in. A node that was fused and had no
name is known by its operator and shape alone: the first such node of the file that nothing else stands for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from nbcnn.graph import Graph, Node
from nbcnn.report.profile import PeerNode

__all__ = ["match_nodes"]

ENDING = re.compile(r"(_nchwc|_token_\d+|_fused|_transformed|_bn|_mul)$")
BEGINNINGS = re.compile(r"^(fused |InsertedPrecisionFreeCast_)+")
FUSED = "Fused"


def match_nodes(
    theirs: Sequence[PeerNode], source: Graph, shapes: Mapping[str, Sequence[int]] | None = None
) -> list[Node | None]:
    """For each node of onnxruntime's, the node of the source graph that it stands for, if there is one.

    shapes: of values, as far as they are known; without them fused nodes that have no name stand for none.
    """
    named = {node.name: node for node in source.nodes if node.name}
    producers = source.producers()
    found = [_node(peer, named, producers, source.nodes) for peer in theirs]
    taken = {id(node) for node in found}
    for place, peer in enumerate(theirs):
        if found[place] is None and peer.op.startswith(FUSED) and peer.shape:
            op, shape = peer.op.removeprefix(FUSED), peer.shape
            free = (node for node in source.nodes if node.op == op and id(node) not in taken)
            found[place] = next((node for node in free if _shape(node, source, shapes or {}) == shape), None)
            taken.add(id(found[place]))
    return found


def _shape(node: Node, source: Graph, shapes: Mapping[str, Sequence[int]]) -> tuple[int, ...] | None:
    """The shape of what a node writes, or of what an activation behind it makes of that."""
    name = node.outputs[0]
    while name not in shapes:
        readers = [reader for reader in source.nodes if name in reader.inputs]
        if len(readers) != 1:
            return None
        name = readers[0].outputs[0]
    return tuple(shapes[name])


def _node(peer: PeerNode, named: dict[str, Node], producers: dict[str, Node], nodes: list[Node]) -> Node | None:
    name = peer.name
    while True:
        node = named.get(name) or producers.get(name)
        if node is not None:
            return node
        shorter = ENDING.sub("", BEGINNINGS.sub("", name))
        if shorter == name:
            break
        name = shorter
    inside = 0 <= peer.index < len(nodes)
    if inside and nodes[peer.index].op == peer.op and peer.name == f"{peer.op}_{peer.index}":
        return nodes[peer.index]
    return None
