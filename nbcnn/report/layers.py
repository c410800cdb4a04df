"""A row for every node of a plan that was profiled: its time, what it did in it, and how far that is from the machine's
roofline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nbcnn.graph import Graph, Node, Value
from nbcnn.report.arithmetic import group_of, work
from nbcnn.report.matching import match_nodes
from nbcnn.report.parts import file_name, owned_parts
from nbcnn.report.profile import PeerProfile, Profile
from nbcnn.report.roofline import Roofline

__all__ = ["PHASES", "layer_rows", "outside_ms", "parts_of", "phases", "put_beside"]


PHASES = ("forward", "loss", "backward", "update")
NOTHING = ("Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
"""Operators of the file that leave nothing to compute where they have no row of their own."""


def parts_of(found: Profile, source: Graph) -> list[list[Node]]:
    """For each profiled node, the nodes of the file that it computes."""
    graph = found.plan.graph
    mine = dict(zip(map(id, graph.nodes), owned_parts(graph.nodes, source), strict=True))
    return [mine[id(node)] for node in found.nodes]


def layer_rows(
    found: Profile, parts: Sequence[Sequence[Node]], roofline: Roofline | None, source: Graph
) -> list[dict[str, Any]]:
    """The rows of a report, in the order in which the nodes run.

    parts: those of parts_of. Of each row: name, op, the operators that were fused into it, phase, shape of its output
    in ONNX order, algorithm, kernels, ms (median), quartiles_ms, share of all nodes' time, flops, bytes, gflops,
    gbytes, and, where a roofline is known, least_ms, roofline (least over measured time) and bound.
    """
    values, weights = found.plan.graph.values, _weight_readers(source)
    quartiles = np.quantile(found.node_seconds(), (0.25, 0.5, 0.75), axis=0)
    whole = float(quartiles[1].sum()) or 1.0
    rows = []
    columns = zip(found.nodes, parts, phases(found.nodes), quartiles.T.tolist(), strict=True)
    for node, mine, phase, (low, middle, high) in columns:
        done, seconds = work(node, values), max(middle, 1e-9)
        row: dict[str, Any] = {
            "name": _name(node, mine, weights),
            "op": _operator(node, mine),
            "fused": _fused(node, mine),
            "group": group_of(node.op),
            "phase": phase,
            "shape": _shape(node, values),
            "algorithm": node.attrs.get("algorithm"),
            "kernels": found.kernels(node),
            "ms": middle * 1e3,
            "quartiles_ms": [low * 1e3, high * 1e3],
            "time_share": middle / whole,
            "flops": done.flops,
            "bytes": done.bytes,
            "gflops": done.flops / seconds / 1e9,
            "gbytes": done.bytes / seconds / 1e9,
        }
        if roofline is not None:
            least = roofline.seconds(done)
            row |= {"least_ms": least * 1e3, "roofline": least / seconds, "bound": roofline.bound(done)}
        rows.append(row)
    return rows


def put_beside(
    rows: Sequence[dict[str, Any]],
    parts: Sequence[Sequence[Node]],
    theirs: PeerProfile,
    source: Graph,
    shapes: Mapping[str, Sequence[int]],
) -> list[dict[str, Any]]:
    """Give each row `peer_ms`, the time of the other side's nodes that do the same, None where there are none.

    Returns the other side's nodes in the order in which they ran: name, op, ms, and `row`, the number of the row that
    they stand beside, None for those that stand for nothing in the file, such as changes of layout.
    """
    place = {id(part): index for index, mine in enumerate(parts) for part in mine}
    for row in rows:
        row["peer_ms"] = None
    found = []
    for peer, node in zip(theirs.nodes, match_nodes(theirs.nodes, source, shapes), strict=True):
        index = place.get(id(node)) if node is not None else None
        if index is not None:
            rows[index]["peer_ms"] = (rows[index]["peer_ms"] or 0.0) + peer.ms
        found.append({"name": peer.name, "op": peer.op, "ms": peer.ms, "row": index})
    return found


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


def _weight_readers(source: Graph) -> dict[str, Node]:
    """Weight -> the node of the file that reads it, for weights that one node alone reads."""
    readers = source.consumers()
    return {name: readers[name][0] for name in source.initializers if len(readers.get(name, ())) == 1}


def _name(node: Node, parts: Sequence[Node], weights: Mapping[str, Node]) -> str:
    """The name in the file; for a gradient, that of the layer whose weight it reads or makes; else that of the result.

    What is made of a weight is named after it: "conv1.weight.grad", "conv1.weight.panels".
    """
    for part in parts:
        if node.op.endswith(part.op) and part.name:
            return part.name
    if not parts and not node.attrs.get("effect"):
        for name in filter(None, (*node.inputs, *node.outputs)):
            while name not in weights and "." in name:
                name = name.rpartition(".")[0]
            if name in weights and weights[name].name:
                return weights[name].name
    return node.name or next(iter(filter(None, (*node.outputs, *node.inputs))), node.op)


def _operator(node: Node, parts: Sequence[Node]) -> str:
    """The operator in the file, of which the engine may have forms (PlanesConv of Conv); else the engine's."""
    return next((part.op for part in parts if node.op.endswith(part.op)), node.op)


def _fused(node: Node, parts: Sequence[Node]) -> list[str]:
    """Operators of the file that the node computes besides its own; for one that became another, all of them."""
    ops = [part.op for part in parts if part.op not in NOTHING]
    if _operator(node, parts) in ops:
        ops.remove(_operator(node, parts))
    return ops


def _shape(node: Node, values: Mapping[str, Value]) -> list[int]:
    name = node.output(0) or node.input(0)
    known = values.get(file_name(name), values.get(name))
    return list(known.dims) if known is not None and known.shape is not None else []
