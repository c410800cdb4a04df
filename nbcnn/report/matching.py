"""Which node of the file a node that onnxruntime ran stands for.

onnxruntime's optimizers rename what they rewrite. Seen in its profiles are: a node's own name; for one without a name,
its operator and its number in the file; and for what was put into another layout, the name of the value that it writes,
or its own, with an ending.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from nbcnn.graph import Graph, Node
from nbcnn.report.profile import PeerNode

__all__ = ["match_nodes"]

ENDINGS = re.compile(r"(_nchwc|_token_\d+|_fused|_transformed)+$")
BEGINNING = "fused "


def match_nodes(theirs: Iterable[PeerNode], source: Graph) -> list[Node | None]:
    """For each node of onnxruntime's, the node of the source graph that it stands for, if there is one."""
    named = {node.name: node for node in source.nodes if node.name}
    producers = source.producers()
    return [_node(peer, named, producers, source.nodes) for peer in theirs]


def _node(peer: PeerNode, named: dict[str, Node], producers: dict[str, Node], nodes: list[Node]) -> Node | None:
    for name in (peer.name, ENDINGS.sub("", peer.name.removeprefix(BEGINNING))):
        node = named.get(name) or producers.get(name)
        if node is not None:
            return node
    inside = 0 <= peer.index < len(nodes)
    if inside and nodes[peer.index].op == peer.op and peer.name == f"{peer.op}_{peer.index}":
        return nodes[peer.index]
    return None
