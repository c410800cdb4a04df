"""Let a producer of sums apply what follows while it stores: batch norm, residual addition, activation.

Rules (a value that is fused away must have one reader and be no graph output):
1. Conv, ConvTranspose or Gemm, then BatchNormalization on running statistics whose weights need no input data: the
   weights are scaled and the bias shifted (`BatchNormalizationFold`, a node that rests on weights alone). Not while
   training.
2. Conv, ConvTranspose, Gemm, BatchNormalization or a gradient by an input, then Add of a value of the same shape: the
   other operand becomes the residual input.
3. Any of them, also after rule 2, then Relu or Clip: the bounds become attributes `low` and `high`.
"""

from __future__ import annotations

import math
from collections.abc import Container

from nbcnn.graph import Graph, Node, is_float

__all__ = ["fold_batch_norm", "fuse_epilogues"]

LINEAR = ("Conv", "ConvTranspose", "Gemm")
RESIDUAL_INPUT = {
    "Conv": 3,
    "ConvTranspose": 3,
    "Gemm": 3,
    "BatchNormalization": 5,
    "ConvInputGrad": 2,
    "GemmInputGrad": 2,
}
CLAMPED = ("Conv", "ConvTranspose", "Gemm", "BatchNormalization", "Add")


def fold_batch_norm(graph: Graph) -> None:
    """Rule 1."""
    sole, producers, weights = graph.sole_readers(), graph.producers(), graph.constants()
    dropped: set[int] = set()
    for norm in list(graph.nodes):
        if norm.op != "BatchNormalization" or norm.attrs["training"]:
            continue
        linear = producers.get(norm.inputs[0])
        weights_only = all(name in weights for name in norm.inputs[1:5])
        if linear is None or linear.op not in LINEAR or not weights_only or norm.inputs[0] not in sole:
            continue
        weight = linear.inputs[1]
        bias = linear.input(2)
        if weight not in weights or (bias and bias not in weights):
            continue
        channels = graph.values[norm.inputs[1]].dims[0]
        if (bias and graph.values[bias].dims != (channels,)) or linear.attrs.get("alpha", 1.0) != 1.0:
            continue
        dtype, shape = graph.values[weight].dtype, graph.values[weight].dims
        new_weight = graph.new_value(f"{weight}.folded", dtype, shape)
        new_bias = graph.new_value(f"{linear.outputs[0]}.bias", dtype, (channels,))
        attrs = {
            "epsilon": norm.attrs["epsilon"],
            "axis": linear.attrs["channel_axis"],
            "group": linear.attrs.get("group", 1),
        }
        fold = Node("BatchNormalizationFold", [weight, bias, *norm.inputs[1:5]], [new_weight, new_bias], attrs)
        graph.nodes.insert(graph.nodes.index(linear), fold)
        linear.inputs[1:3] = [new_weight, new_bias] if len(linear.inputs) > 2 else [new_weight]
        if len(linear.inputs) == 2:
            linear.inputs.append(new_bias)
        linear.outputs[0] = norm.outputs[0]
        producers[norm.outputs[0]] = linear
        dropped.add(id(norm))
    graph.nodes = [n for n in graph.nodes if id(n) not in dropped]


def _bounds(node: Node, graph: Graph) -> tuple[float, float] | None:
    if node.op not in ("Relu", "Clip") or not is_float(graph.values[node.outputs[0]].dtype):
        return None
    if node.op == "Relu":
        return 0.0, math.inf
    return node.attrs["low"], node.attrs["high"]


def _is_clamped(node: Node) -> bool:
    return "low" in node.attrs and node.op != "Clip"


def fuse_epilogues(graph: Graph) -> None:
    """Rules 2 and 3."""
    sole, producers = graph.sole_readers(), graph.producers()
    position = {id(n): i for i, n in enumerate(graph.nodes)}
    dropped: set[int] = set()
    for index, node in enumerate(graph.nodes):
        bounds = _bounds(node, graph)
        merged: Node | None
        if bounds is not None:
            source = producers.get(node.inputs[0])
            if source is None or source.op not in CLAMPED or _is_clamped(source) or node.inputs[0] not in sole:
                continue
            if source.op == "Add" and graph.values[source.inputs[0]].dims != graph.values[source.inputs[1]].dims:
                continue
            source.attrs["low"], source.attrs["high"] = bounds
            merged = source
        elif node.op == "Add" and graph.values[node.inputs[0]].dims == graph.values[node.inputs[1]].dims:
            merged = _absorb_addition(node, sole, producers, position)
            if merged is None:
                continue
            position[id(merged)] = index
        else:
            continue
        merged.outputs[0] = node.outputs[0]
        producers[node.outputs[0]] = merged
        dropped.add(id(node))
    graph.nodes = sorted((n for n in graph.nodes if id(n) not in dropped), key=lambda n: position[id(n)])
    graph.sort()


def _absorb_addition(
    add: Node, sole: Container[str], producers: dict[str, Node], position: dict[int, int]
) -> Node | None:
    """The later producer of the two operands takes the other one as its residual."""
    found: list[tuple[int, Node, str]] = []
    for mine, other in ((0, 1), (1, 0)):
        source = producers.get(add.inputs[mine])
        if source is None or source.op not in RESIDUAL_INPUT or _is_clamped(source) or add.inputs[mine] not in sole:
            continue
        if source.input(RESIDUAL_INPUT[source.op]) or add.inputs[0] == add.inputs[1]:
            continue
        if source.op == "BatchNormalization" and not source.attrs["training"]:
            continue
        found.append((position[id(source)], source, add.inputs[other]))
    if not found:
        return None
    _, source, residual = max(found, key=lambda f: f[0])
    slot = RESIDUAL_INPUT[source.op]
    source.inputs += [""] * (slot + 1 - len(source.inputs))
    source.inputs[slot] = residual
    return source
