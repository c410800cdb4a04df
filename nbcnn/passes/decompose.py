"""Write products in the one form that the kernels know: a matrix, times a weight, plus a value for each column.

Rules: 1. MatMul by a vector is one by a matrix of one row or column; MatMul by a matrix on the right is Gemm, on as
many rows as there are; 2. Gemm with transA multiplies the output of a Transpose; alpha and beta become factors of B and
C; 3. Gemm whose C is no vector (N): one of N elements is reshaped, any other is added by a node of its own; 4. an Add
of a constant for each output channel, after a Conv, ConvTranspose or Gemm without a bias, becomes the bias. That
constant stays tied to the weight that it rests on, so that it is trained; 5. AffineGrid is a product with the points'
coordinates; 6. DeformConv is a pointwise Conv of what its taps meet, whose weights count taps before channels; 7. a
product with nothing to add up is its C, or 0, repeated.
"""

from __future__ import annotations

from math import prod

import numpy as np

from nbcnn.graph import Graph, Node
from nbcnn.ops.conv import is_depthwise
from nbcnn.passes.writer import Writer

__all__ = ["decompose"]

GEMM = {"transA": False, "transB": False, "alpha": 1.0, "beta": 1.0, "channel_axis": 1}
"""The normalized attributes of a plain product."""


def decompose(graph: Graph) -> None:
    writer = Writer(graph)
    for node in graph.nodes:
        if node.op == "MatMul":
            _rewrite_matmul(node, writer)
        elif node.op == "Gemm":
            _rewrite_gemm(node, writer)
        elif node.op == "AffineGrid":
            _rewrite_affine_grid(node, writer)
        elif node.op == "DeformConv":
            _rewrite_deform_conv(node, writer)
        else:
            writer.nodes.append(node)
    graph.nodes = writer.nodes
    _replace_empty_products(writer)
    _absorb_biases(graph)


def _rewrite_matmul(node: Node, writer: Writer) -> None:
    """Rule 1."""
    a, b = node.inputs
    (y,) = node.outputs
    left, right = writer.dims(a), writer.dims(b)
    if len(right) == 1:
        right = (*right, 1)
        b = writer.reshape(b, right, node)
    if len(right) == 2:
        rows, columns = prod(left[:-1]), right[1]
        a = writer.reshape(a, (rows, left[-1]), node)
        if writer.dims(y) == (rows, columns):
            writer.node("Gemm", [a, b], (), node, dict(GEMM), output=y)
        else:
            product = writer.node("Gemm", [a, b], (rows, columns), node, dict(GEMM))
            writer.reshape(product, writer.dims(y), node, output=y)
    elif len(left) == 1:
        a = writer.reshape(a, (1, *left), node)
        product = writer.node("MatMul", [a, b], (*right[:-2], 1, right[-1]), node, {})
        writer.reshape(product, writer.dims(y), node, output=y)
    else:
        writer.nodes.append(node)


def _rewrite_gemm(node: Node, writer: Writer) -> None:
    """Rules 2 and 3."""
    attrs = node.attrs
    a, b = node.inputs[:2]
    if attrs["transA"]:
        a = writer.node("Transpose", [a], writer.dims(a)[::-1], node, {"perm": (1, 0)})
    b = writer.scale(b, attrs["alpha"], node)
    # A beta of zero leaves C out, even where it is not a number.
    c = writer.scale(node.input(2), attrs["beta"], node) if node.input(2) and attrs["beta"] else ""
    node.attrs = attrs | {"transA": False, "alpha": 1.0, "beta": 1.0}
    node.inputs = [a, b]
    (y,) = node.outputs
    shape = writer.dims(y)
    columns = shape[1]
    added = writer.dims(c) if c else ()
    if c and (added in ((columns,), (1, columns)) or prod(added) == columns == 1):
        node.inputs.append(writer.reshape(c, (columns,), node))
        writer.nodes.append(node)
    elif c:
        node.outputs = [writer.graph.new_value(f"{y}.product", writer.graph.values[y].dtype, shape)]
        writer.nodes.append(node)
        writer.node("Add", [node.outputs[0], c], shape, node, {}, output=y)
    else:
        writer.nodes.append(node)


def _replace_empty_products(writer: Writer) -> None:
    """Rule 7."""
    for node in writer.nodes:
        if node.op == "Gemm" and writer.dims(node.inputs[0])[1] == 0:
            added = node.input(2) or writer.constant(np.zeros(()), node.inputs[0], node)
            node.op, node.inputs, node.attrs = "Expand", [added], {"shape": writer.dims(node.outputs[0])}


def _rewrite_affine_grid(node: Node, writer: Writer) -> None:
    """Rule 5: theta (N * rank, rank + 1) times the points (rank + 1, D1 * ...), turned round."""
    (theta,), (y,) = node.inputs, node.outputs
    images, rank, depth = writer.dims(theta)
    points = node.attrs["grid"].shape[1]
    grid = writer.constant(node.attrs["grid"], theta, node)
    rows = writer.reshape(theta, (images * rank, depth), node)
    product = writer.node("Gemm", [rows, grid], (images * rank, points), node, dict(GEMM))
    planes = writer.reshape(product, (images, rank, points), node)
    turned = writer.node("Transpose", [planes], (images, points, rank), node, {"perm": (0, 2, 1)})
    writer.reshape(turned, writer.dims(y), node, output=y)


def _rewrite_deform_conv(node: Node, writer: Writer) -> None:
    """Rule 6."""
    x, w, offset = node.inputs[:3]
    (channels, depth, *kernel), win, group = writer.dims(w), node.attrs["window"], node.attrs["group"]
    shape = (writer.dims(x)[0], depth * group * win.taps, *win.out)
    columns = writer.node("DeformColumns", [x, offset, node.input(4)], shape, node, dict(node.attrs))
    taps = writer.reshape(w, (channels, depth, win.taps), node)
    turned = writer.node("Transpose", [taps], (channels, win.taps, depth), node, {"perm": (0, 2, 1)})
    ones = (1,) * len(kernel)
    weight = writer.reshape(turned, (channels, win.taps * depth, *ones), node)
    attrs = {"group": group, "strides": ones, "dilations": ones, "pads": (0, 0) * len(kernel), "channel_axis": 0}
    attrs["depthwise"] = is_depthwise(writer.dims(weight), group)
    writer.node("Conv", [columns, weight, node.input(3)], (), node, attrs, output=node.outputs[0])


# --- rule 4 -----------------------------------------------------------------------------------------------------------


def _absorb_biases(graph: Graph) -> None:
    producers, sole, constant = graph.producers(), graph.sole_readers(), graph.constants()
    dropped: set[int] = set()
    made: list[Node] = []

    def only_step(name: str) -> Node | None:
        """The node that computes a value which nobody but the next node reads."""
        return producers.get(name) if name in sole else None

    for add in graph.nodes:
        if add.op != "Add" or len(add.inputs) != 2:
            continue
        for x, c in (add.inputs, add.inputs[::-1]):
            last = linear = only_step(x)
            if c not in constant or last is None or linear is None:
                continue
            if last.op == "Reshape":
                linear = only_step(last.inputs[0])
            channels = _channels(graph, linear, last, x, c)
            if linear is None or channels is None or graph.values[add.outputs[0]].dims != graph.values[x].dims:
                continue
            bias = c
            if graph.values[c].dims != (channels,):
                bias = graph.new_value(f"{add.outputs[0]}.bias", graph.values[c].dtype, (channels,))
                made.append(Node("Reshape", [c], [bias], {"shape": (channels,)}, name=add.name))
            linear.inputs = [*linear.inputs[:2], bias]
            last.outputs = list(add.outputs)
            producers[add.outputs[0]] = last
            dropped.add(id(add))
            break
    if dropped:
        graph.nodes = [*made, *(n for n in graph.nodes if id(n) not in dropped)]
        graph.sort()


def _channels(graph: Graph, linear: Node | None, last: Node, x: str, c: str) -> int | None:
    """How many channels a linear node puts out, if it can take c, which is added to x, as its bias."""
    if linear is None or linear.op not in ("Conv", "ConvTranspose", "Gemm") or any(linear.inputs[2:]):
        return None
    if linear.op != "Gemm" and last is not linear:
        return None
    dims = graph.values[x].dims
    axis = len(dims) - 1 if linear.op == "Gemm" else 1
    channels = graph.values[linear.outputs[0]].dims[1]
    added = graph.values[c].dims
    if len(added) > len(dims) or dims[axis] != channels:
        return None
    aligned = (*(1,) * (len(dims) - len(added)), *added)
    return channels if aligned == tuple(channels if i == axis else 1 for i in range(len(dims))) else None
