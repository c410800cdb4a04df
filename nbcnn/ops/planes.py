"""PlanesConv: a convolution of a few planes into few channels, with a lane for each pixel (kernels/cpu/planes.py).

Made by the lanes pass, for inference.
"""

from __future__ import annotations

from nbcnn.binder import Binder
from nbcnn.geometry import window
from nbcnn.graph import Node, Value
from nbcnn.kernels.cpu.lane_tiling import FEW_ROWS, MORE_ROWS, PICTURE_VECS, best_fit
from nbcnn.kernels.cpu.tiling import lanes, panel_width
from nbcnn.ops.base import Op, register
from nbcnn.ops.conv import conv_packing
from nbcnn.ops.gather import bounds
from nbcnn.ops.packing import Packing

__all__ = ["PlanesConv"]


@register("PlanesConv")
class PlanesConv(Op):
    """inputs: X (N, C, H, W) in ONNX order, W (M, C, kH, kW), B (M) or none -> Y (N, M, OH, OW), channels last.

    Stride 1, no padding. pool: the window of a maximum over neighbours without overlap that is taken of the result,
    where there is one.
    """

    def packing(self, node: Node, values: dict[str, Value]) -> Packing:
        """That of Conv."""
        x, w = values[node.inputs[0]], values[node.inputs[1]]
        return conv_packing(x, w, window(x.dims[2:], w.dims[2:]), 1)

    def bind(self, node: Node, b: Binder) -> None:
        x, y = b.value(node.inputs[0]), b.value(node.outputs[0])
        packing: Packing = node.attrs["packing"]
        tile = PICTURE_VECS * lanes(packing.itemsize)
        b.call(
            "planes_conv",
            *(b.buffer(x.name), b.buffer(node.inputs[1]), b.optional(node.input(2)), b.buffer(y.name)),
            b.scratch((MORE_ROWS + lanes(packing.itemsize)) * tile * b.threads),
            x.dims[1:],
            (*y.dims[2:], y.dims[1]),
            (*node.attrs["kernel"], panel_width(packing.channels, packing.itemsize)),
            node.attrs.get("pool", (1, 1)),
            best_fit(packing.channels, FEW_ROWS, MORE_ROWS),
            *bounds(node, b.dtype),
        )
