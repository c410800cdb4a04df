"""Products of integers for the integer kernels: weights packed, zero points and scales in numbers for each channel.

Rules:
1. ConvInteger and QLinearConv become IntegerConv, or IntegerDepthwise where each channel has a filter of its own, and
MatMulInteger and QLinearMatMul IntegerMatMul, with nodes that make what they read: IntegerWeights, IntegerOffsets and
IntegerScales;
2. a product whose A has a zero point or a scale for each row, or whose matrices broadcast in their batch, stays.
"""

from __future__ import annotations

import numpy as np

from nbcnn.graph import Graph, Node
from nbcnn.kernels.cpu.width import WIDTH_BYTES
from nbcnn.ops.conv import is_depthwise, reads_lines
from nbcnn.ops.integer import PRODUCTS, conv_window
from nbcnn.ops.packing import Packing, dense, depthwise, matrix, rows
from nbcnn.ops.quantize import integer_range
from nbcnn.ops.requantize import SUM_BYTES, depthwise_bytes, padded_channels, panel_bytes, quads

__all__ = ["integer_products"]

ALL_PARTS = 3
"""Parts of a weight that may be any byte less any other."""


def integer_products(graph: Graph) -> None:
    nodes: list[Node] = []
    for node in graph.nodes:
        packing = _packing(graph, node) if node.op in PRODUCTS else None
        if packing is None:
            nodes.append(node)
        else:
            nodes += _expand(graph, node, packing)
    graph.nodes = nodes


def _packing(graph: Graph, node: Node) -> Packing | None:
    """The order of the weights; None for what the kernels do not do."""
    places, values = PRODUCTS[node.op], graph.values
    x, w, y = values[node.inputs[0]], values[node.inputs[places.w]], values[node.outputs[0]]
    if not (x.size and w.size and y.size):
        return None
    if "Conv" in node.op:
        win, group = conv_window(node, x, w), node.attrs["group"]
        if reads_lines(win, w.dims[1], group):
            return rows(w.dims[0], w.dims[1], win.kernel, SUM_BYTES)
        if _lines(node, w.dims):
            return depthwise(w.dims[0], win.kernel, SUM_BYTES)
        return dense(group, w.dims[0] // group, w.dims[1], win.kernel, SUM_BYTES)
    of_x = [places.x_zero] if places.scales is None else [places.x_zero, places.scales[0]]
    of_w = [places.w_zero] if places.scales is None else [places.w_zero, places.scales[1]]
    if any(node.input(i) and values[node.inputs[i]].size > 1 for i in of_x):
        return None
    first = "transB" in node.attrs
    depth, columns = (w.dims[-2], w.dims[-1]) if len(w.dims) > 1 else (w.dims[0], 1)
    if first:
        depth, columns = columns, depth
    one_each = all(not node.input(i) or values[node.inputs[i]].size in (1, columns) for i in of_w)
    if w.size == depth * columns:
        return matrix(columns, depth, first, SUM_BYTES) if one_each else None
    alike = x.dims[:-2] == w.dims[:-2] and all(not node.input(i) or values[node.inputs[i]].size == 1 for i in of_w)
    count = w.size // (depth * columns)
    return Packing(count, columns, 1, 1, depth, (depth * columns, 1, 0, 0, columns), SUM_BYTES) if alike else None


def _lines(node: Node, w: tuple[int, ...]) -> tuple[int, int] | None:
    """Height and width of the kernel, where every channel has one of its own and the kernel for that serves."""
    if "Conv" not in node.op or not is_depthwise(w, node.attrs["group"]) or len(w) > 4:
        return None
    return (1, w[2]) if len(w) == 3 else (w[2], w[3])


def parts_of(graph: Graph, w: str, zero: str, output_first: bool) -> int:
    """How many signed bytes a weight less its zero point is the sum of. output_first: whether it begins with the output
    channels, else it ends with them.
    """
    dtype = graph.values[w].dtype
    if not zero and dtype == np.int8:
        return 1
    array, shift = graph.initializers.get(w), graph.initializers.get(zero)
    if array is None or (zero and shift is None):
        return ALL_PARTS
    least, greatest = int(array.min()), int(array.max())
    if shift is not None:
        centred = array.astype(np.int32) - (shift.reshape(-1, *[1] * (array.ndim - 1)) if output_first else shift)
        least, greatest = int(centred.min()), int(centred.max())
    return max(1, -(-greatest // 127), -(least // 128))


def _expand(graph: Graph, node: Node, packing: Packing) -> list[Node]:
    places, attrs = PRODUCTS[node.op], node.attrs
    x, w = graph.values[node.inputs[0]], node.inputs[places.w]
    x_zero, w_zero = node.input(places.x_zero), node.input(places.w_zero)
    bias = "" if places.bias is None else node.input(places.bias)
    parts = parts_of(graph, w, w_zero, "Conv" in node.op or "transB" in attrs)
    flip = 128 if x.dtype == np.int8 else 0
    count = packing.groups * padded_channels(packing)

    def made(name: str, dtype: str, size: int) -> str:
        return graph.new_value(f"{node.outputs[0]}.{name}", dtype, (size,), "packed")

    lines = _lines(node, graph.values[w].dims)
    # A quad of lines has room for two places of a kernel of three.
    steady = "Conv" in node.op and attrs["strides"][0] == attrs["dilations"][0] == 1
    sets = 2 if lines and lines[0] == 3 and steady else 1
    size = depthwise_bytes(packing, lines, parts, sets) if lines else panel_bytes(packing, parts)
    panels, sums = made("panels", "int8", size), made("sums", "int32", count)
    line = x.dims[1] * (x.dims[-1] + attrs["pads"][-1] + max(attrs["pads"][len(x.dims) - 3], 0)) if lines else 0
    hollow = max(line + WIDTH_BYTES, quads(packing) * 4)
    offsets, edge = made("offsets", "int32", count), made("edge", "uint8", hollow)
    common, how = {"packing": packing}, {"parts": parts, "sets": sets}
    found = [
        Node("IntegerWeights", [w, w_zero] if w_zero else [w], [panels, sums], common | how | {"lines": lines}),
        Node("IntegerOffsets", [sums, x_zero, bias], [offsets, edge], common | {"flip": flip, "dtype": x.dtype}),
    ]
    inputs = [x.name, panels, offsets, edge]
    if places.scales is not None:
        scales = made("scales", "float32", count)
        found.append(Node("IntegerScales", [node.inputs[i] for i in places.scales], [scales], common))
        inputs.append(scales)
    zero, limits = attrs["zero"] or 0, integer_range(attrs["to"])
    assert limits is not None
    settings = common | how | {"flip": flip, "zero": zero}
    settings |= {"low": attrs.get("low", float(limits[0] - zero)), "high": attrs.get("high", float(limits[1] - zero))}
    op = "IntegerMatMul"
    if "Conv" in node.op:
        op = "IntegerDepthwise" if lines else "IntegerConv"
        settings |= {k: attrs[k] for k in ("strides", "pads", "dilations")} | {"kernel": graph.values[w].dims[2:]}
    return [*found, Node(op, inputs, node.outputs, settings, name=node.name)]
