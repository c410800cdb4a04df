"""Let a batch norm take over what multiplies and shifts its channels, at inference.

Rule: BatchNormalization on running statistics, then Mul, Div, Add or Sub of one value for each channel that rests on
weights alone, becomes that batch norm with another scale or bias, worked out by a node of the same operator on C
numbers. Networks that came from Caffe have both (its Scale layer follows its BatchNorm). The value between must have
one reader and be no graph output.
"""

from __future__ import annotations

from nbcnn.graph import Graph, Node

__all__ = ["absorb_affine"]

TAKES = {"Mul": (1, 2), "Div": (1, 2), "Add": (2,), "Sub": (2,)}
"""Operator -> the inputs of a batch norm that change with it: scale (1), bias (2)."""


def absorb_affine(graph: Graph) -> None:
    producers, sole, constant = graph.producers(), graph.sole_readers(), graph.constants()
    kept: list[Node] = []
    for node in graph.nodes:
        for x, c in _operands(node):
            norm = producers.get(x)
            if norm is None or norm.op != "BatchNormalization" or norm.attrs["training"]:
                continue
            known = c in constant and constant.issuperset(norm.inputs[1:5])
            if x in sole and known and _by_channel(graph, x, c):
                made = _changed(graph, node, norm, c)
                constant.update(name for new in made for name in new.outputs)
                kept.remove(norm)
                kept += [*made, norm]
                norm.outputs[0] = node.outputs[0]
                producers[node.outputs[0]] = norm
                break
        else:
            kept.append(node)
    graph.nodes = kept


def _operands(node: Node) -> list[tuple[str, str]]:
    """(what may be a batch norm's output, what may be a constant), in each order that counts."""
    if node.op not in TAKES or len(node.inputs) != 2:
        return []
    x, c = node.inputs
    return [(x, c), (c, x)] if node.op in ("Mul", "Add") else [(x, c)]


def _by_channel(graph: Graph, x: str, c: str) -> bool:
    """Whether c has one value for each channel of x (or one for all), and repeats along everything else."""
    dims, added = graph.values[x].dims, graph.values[c].dims
    if len(added) > len(dims):
        return False
    aligned = (*(1,) * (len(dims) - len(added)), *added)
    return aligned[1] in (1, dims[1]) and all(n == 1 for axis, n in enumerate(aligned) if axis != 1)


def _changed(graph: Graph, node: Node, norm: Node, c: str) -> list[Node]:
    """Nodes that work out the new parameters of a batch norm, which reads them from now on."""
    made = []
    dtype = graph.values[c].dtype
    if len(graph.values[c].dims) > 1:
        flat = graph.new_value(f"{c}.channels", dtype, (graph.values[c].size,))
        made.append(Node("Reshape", [c], [flat], {"shape": graph.values[flat].dims}, name=node.name))
        c = flat
    for index in TAKES[node.op]:
        old = norm.inputs[index]
        new = graph.new_value(f"{node.outputs[0]}.{'scale' if index == 1 else 'bias'}", dtype, graph.values[old].dims)
        made.append(Node(node.op, [old, c], [new], {}, name=node.name))
        norm.inputs[index] = new
    return made
