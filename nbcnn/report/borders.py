"""Which pixels of a picture a layer's stride leaves out."""

from __future__ import annotations

from collections.abc import Mapping

from nbcnn.geometry import window
from nbcnn.graph import Node, Value

__all__ = ["dropped_borders"]

WINDOWS = ("Conv", "MaxPool", "AveragePool", "LpPool")


def dropped_borders(node: Node, values: Mapping[str, Value]) -> str:
    """Which pixels at the end of each axis no window reads, because the stride does not fit; "" when all are read.

    node: of the source graph, with ONNX's attributes. ONNX rounds the output's size down, or up with ceil_mode, and
    says nothing.
    """
    if node.op not in WINDOWS or node.inputs[0] not in values:
        return ""
    size, attrs = values[node.inputs[0]].dims[2:], node.attrs
    kernel = values[node.inputs[1]].dims[2:] if node.op == "Conv" else tuple(attrs["kernel_shape"])
    win = window(
        size,
        kernel,
        attrs.get("strides"),
        attrs.get("pads"),
        attrs.get("dilations"),
        attrs.get("auto_pad", "NOTSET"),
        bool(attrs.get("ceil_mode", 0)),
    )
    texts = []
    for axis in range(len(size)):
        end = (win.out[axis] - 1) * win.strides[axis] + (win.kernel[axis] - 1) * win.dilations[axis] + 1
        left = size[axis] - (end - win.begins[axis])
        if left > 0:
            texts.append(f"the last {left} of {size[axis]} {_axis_name(axis, len(size))}")
    if not texts:
        return ""
    strides = "x".join(map(str, win.strides)) if len(set(win.strides)) > 1 else str(win.strides[0])
    return f"{' and '.join(texts)} not read: stride {strides} does not fit"


def _axis_name(axis: int, rank: int) -> str:
    return {1: ("pixels",), 2: ("rows", "columns"), 3: ("slices", "rows", "columns")}[rank][axis]
