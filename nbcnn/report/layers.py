"""A row for every node of a plan that was profiled: its time, what it did in it, and how far that is from the machine's
roofline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nbcnn.graph import Graph, Node
from nbcnn.report.arithmetic import group_of, work
from nbcnn.report.parts import owned_parts
from nbcnn.report.profile import PeerNode, Profile
from nbcnn.report.roofline import Roofline

__all__ = ["layer_rows", "others", "outside_ms", "phases"]


def layer_rows(
    found: Profile,
    source: Graph,
    roofline: Roofline | None,
    peers: Mapping[int, Sequence[PeerNode]] | None = None,
) -> list[dict[str, Any]]:
    """The rows of a report, in the order in which the nodes run.

    peers: id of a source node -> the nodes of the other side that stand for it. Of each row: name, op, the operators
    that were fused into it, phase, shape of its output in ONNX order, algorithm, kernels, ms (median), quartiles_ms,
    share of all nodes' time, flops, bytes, gflops, gbytes, and, where a roofline is known, least_ms, roofline (least
    over measured time) and bound; peer_ms, of the other side's nodes that do the same, or None.
    """
    graph = found.plan.graph
    parts = {id(node): mine for node, mine in zip(graph.nodes, owned_parts(graph.nodes, source), strict=True) if mine}
    steps = dict(zip(map(id, found.nodes), phases(found.nodes), strict=True))
    quartiles = np.quantile(found.node_seconds(), (0.25, 0.5, 0.75), axis=0)
    whole = float(quartiles[1].sum()) or 1.0
    rows = []
    for node, (low, middle, high) in zip(found.nodes, quartiles.T, strict=True):
        mine = parts.get(id(node), [])
        done, seconds = work(node, graph.values), max(float(middle), 1e-9)
        row: dict[str, Any] = {
            "name": _name(node, mine),
            "op": node.op,
            "fused": _fused(node, mine),
            "group": group_of(node.op),
            "phase": steps[id(node)],
            "shape": _shape(node, graph),
            "algorithm": node.attrs.get("algorithm"),
            "kernels": found.kernels(node),
            "ms": middle * 1e3,
            "quartiles_ms": [low * 1e3, high * 1e3],
            "time_share": float(middle) / whole,
            "flops": done.flops,
            "bytes": done.bytes,
            "gflops": done.flops / seconds / 1e9,
            "gbytes": done.bytes / seconds / 1e9,
        }
        if roofline is not None:
            least = roofline.seconds(done)
            row |= {"least_ms": least * 1e3, "roofline": least / seconds, "bound": roofline.bound(done)}
        if peers is not None:
            theirs = [peer.ms for part in mine for peer in peers.get(id(part), ())]
            row["peer_ms"] = sum(theirs) if theirs else None
        rows.append(row)
    return rows


def phases(nodes: Sequence[Node]) -> list[str]:
    """ "forward", "loss", "backward" or "update" for each node of a plan, in order; a plan without loss is forward."""
    from nbcnn.training_graph import LOSS

    found, now = [], "forward"
    for node in nodes:
        if LOSS in node.outputs:
            found.append("loss")
            now = "backward"
        else:
            found.append("update" if node.attrs.get("effect") else now)
    return found


def outside_ms(found: Profile) -> float:
    """What a call takes beside its nodes: checking and copying inputs and outputs, preparing weights, Python."""
    return max(0.0, float(np.median(found.call_seconds() - found.node_seconds().sum(axis=1))) * 1e3)


def others(nodes: Sequence[PeerNode]) -> list[dict[str, Any]]:
    """Nodes of the other side that stand for none of the file, by operator, the slowest first."""
    found: dict[str, dict[str, Any]] = {}
    for node in nodes:
        row = found.setdefault(node.op, {"op": node.op, "count": 0, "ms": 0.0})
        row["count"] += 1
        row["ms"] += node.ms
    return sorted(found.values(), key=lambda row: -row["ms"])


def _name(node: Node, parts: Sequence[Node]) -> str:
    """The name in the file, or that of the result."""
    for part in parts:
        if part.op == node.op and part.name:
            return part.name
    return node.name or next(iter(filter(None, (*node.outputs, *node.inputs))), node.op)


def _fused(node: Node, parts: Sequence[Node]) -> list[str]:
    """Operators of the file that the node computes besides its own; for one that became another, all of them."""
    ops = [part.op for part in parts]
    if node.op in ops:
        ops.remove(node.op)
    return ops


def _shape(node: Node, graph: Graph) -> list[int]:
    name = node.output(0) or node.input(0)
    return list(graph.values[name].dims) if name else []
