"""Compute a block of MobileNet in one pass over the picture, where it would else go through memory.

Rules, after algorithms are chosen, at inference: a depthwise 3x3 convolution of stride 1 or 2 and the 1x1 convolution
that alone reads its result become an `InvertedResidual`, together with the 1x1 convolution before the former if nobody
else reads that one's result and it is not the end of the block before, where
1. what a picture takes in between does not fit the L2 cache;
2. the lines of it that are kept for a tile do.
Sums are added up in the same order as by the convolutions apart, so that results are the same, bit for bit.
"""

from __future__ import annotations

from nbcnn.graph import Graph, Node
from nbcnn.ops.inverted_residual import Block

__all__ = ["fuse_blocks"]

CACHE = 1 << 20
"""Bytes that the L2 cache holds, or half of it on newer processors."""
KEPT = 3 * CACHE // 4
"""Rule 2: bytes of lines that are kept."""


def fuse_blocks(graph: Graph) -> None:
    producers, sole = graph.producers(), graph.sole_readers()
    taken: dict[int, Node | None] = {}
    for middle in graph.nodes:
        if middle.op != "Conv" or middle.attrs["algorithm"] != "depthwise" or not _is_3x3(middle, graph):
            continue
        project = sole.get(middle.outputs[0])
        if project is None or not _is_1x1(project, graph) or project.inputs[0] != middle.outputs[0]:
            continue
        expand = producers.get(middle.inputs[0])
        alone = sole.get(middle.inputs[0]) is middle
        if expand is None or not alone or not _is_1x1(expand, graph) or expand.input(3) or id(expand) in taken:
            expand = None
        block = _block(expand, middle, project, graph)
        kept = (block.ring + block.middle) * block.itemsize
        if block.hidden_bytes <= CACHE or kept > KEPT:
            continue
        taken |= {id(project): _fused(expand, middle, project, block), id(middle): None}
        if expand is not None:
            taken[id(expand)] = None
    graph.nodes = [found for node in graph.nodes if (found := taken.get(id(node), node)) is not None]


def _is_3x3(node: Node, graph: Graph) -> bool:
    kernel = graph.values[node.inputs[1]].dims[2:]
    attrs = node.attrs
    plain = tuple(attrs["dilations"]) == (1, 1) and not node.input(3)
    return kernel == (3, 3) and plain and tuple(attrs["strides"]) in ((1, 1), (2, 2))


def _is_1x1(node: Node, graph: Graph) -> bool:
    """Whether every pixel of the result is made of the pixel at its place."""
    if node.op != "Conv" or node.attrs["algorithm"] != "pointwise" or node.attrs["group"] != 1:
        return False
    attrs, rank = node.attrs, len(graph.values[node.inputs[0]].dims)
    return rank == 4 and max(attrs["strides"]) == 1 and not any(attrs["pads"])


def _block(expand: Node | None, middle: Node, project: Node, graph: Graph) -> Block:
    x, y = graph.values[(expand or middle).inputs[0]], graph.values[project.outputs[0]]
    assert x.dtype is not None
    (images, channels, in_h, in_w), (_, made, out_h, out_w) = x.dims, y.dims
    hidden, stride = graph.values[middle.outputs[0]].dims[1], middle.attrs["strides"][0]
    source, target = (in_h, in_w, channels), (out_h, out_w, made)
    return Block(images, source, target, hidden, stride, expand is not None, x.dtype.itemsize)


def _fused(expand: Node | None, middle: Node, project: Node, block: Block) -> Node:
    convolutions = (expand, middle, project)
    inputs = [(expand or middle).inputs[0], project.input(3)]
    limits: list[float] = []
    for node in convolutions:
        inputs += [node.inputs[1], node.input(2)] if node is not None else ["", ""]
        attrs = node.attrs if node is not None else {}
        limits += [attrs.get("low", float("-inf")), attrs.get("high", float("inf"))]
    attrs = {"block": block, "limits": tuple(limits), "pads": middle.attrs["pads"], "algorithm": "line by line"}
    return Node("InvertedResidual", inputs, list(project.outputs), attrs, name=project.name)
