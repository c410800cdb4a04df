"""Regions of interest: RoiAlign (ONNX opsets 10, 16, 22) and MaxRoiPool (1, 22)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbcnn.binder import Binder, Buffer
from nbcnn.errors import ModelError, UnsupportedError
from nbcnn.graph import Node, Value
from nbcnn.kernels.opcodes import AVERAGE, MAXIMUM
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.elementwise import need_float
from nbcnn.ops.strided import fill

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

MODES = {"avg": AVERAGE, "max": MAXIMUM}
COORDINATES = ("half_pixel", "output_half_pixel")


def _check_images(node: Node, b: Binder, rois: Buffer, columns: int, count: int) -> None:
    """Emit a look at the images that regions lie in (the first of `columns` of each row)."""

    def check(array: np.ndarray) -> None:
        images = array.reshape(-1, columns)[:, 0]
        if not ((images >= 0) & (images < count)).all():
            raise ModelError(f"{node.label}: regions lie in images {images.tolist()}, but there are {count}")

    b.check(check, rois)


def _size(x: Value) -> tuple[int, int, int, int]:
    images, channels, height, width = x.dims
    return images, height, width, channels


@register("RoiAlign")
class RoiAlign(Op):
    """inputs: X (N, C, H, W), rois (R, 4), images (R) int64 -> Y (R, C, h, w). Only X gets a gradient.

    Before opset 16 corners are not moved by half a pixel.
    """

    layout = "last"
    activations = (0,)
    since = 10

    def normalize(self, node: Node, facts: Facts) -> None:
        x, rois, images = (facts.value(node, i) for i in range(3))
        need_float(node, x)
        attrs = node.attrs
        if len(x.dims) != 4 or len(rois.dims) != 2 or rois.dims[1] != 4 or images.dims != rois.dims[:1]:
            raise ModelError(f"{node.label}: regions {rois.dims} in images {images.dims} do not fit X {x.dims}")
        default = COORDINATES[0] if facts.opset >= 16 else COORDINATES[1]
        mode, coordinates = attrs.get("mode", "avg"), attrs.get("coordinate_transformation_mode", default)
        if mode not in MODES or coordinates not in COORDINATES:
            raise UnsupportedError(
                f"{node.label}: mode {mode!r} is none of avg, max, or coordinate_transformation_mode {coordinates!r} "
                f"none of {', '.join(COORDINATES)}"
            )
        shape = int(attrs.get("output_height", 1)), int(attrs.get("output_width", 1))
        ratio = int(attrs.get("sampling_ratio", 0))
        if min(shape) < 1 or ratio < 0:
            raise ModelError(f"{node.label}: an output of {shape} or a sampling_ratio of {ratio} is not possible")
        node.attrs = {
            "mode": MODES[mode],
            "half": int(coordinates == "half_pixel"),
            "shape": shape,
            "ratio": ratio,
            "scale": float(attrs.get("spatial_scale", 1.0)),
        }

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x, rois = inputs[0], inputs[1]
        assert x and rois and x.dtype
        return [(x.dtype, (rois.dims[0], x.dims[1], *node.attrs["shape"]))]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        x, rois, images = node.inputs
        dx = back.add("RoiAlignGrad", [x, rois, images, dy], like=x, attrs=node.attrs) if need[0] else None
        return [dx, None, None]

    def bind(self, node: Node, b: Binder) -> None:
        x, rois, images = node.inputs
        _check_images(node, b, b.buffer(images), 1, b.value(x).dims[0])
        arrays = (b.buffer(name) for name in (x, rois, images, node.outputs[0]))
        b.call("roi_align", node.attrs["mode"], *arrays, *_align_settings(node, b))


def _align_settings(node: Node, b: Binder) -> tuple[Any, ...]:
    """The kernels' scale, half, ratio, size and out."""
    attrs, x, rois = node.attrs, b.value(node.inputs[0]), b.value(node.inputs[1])
    return b.dtype.type(attrs["scale"]), attrs["half"], attrs["ratio"], _size(x), (rois.dims[0], *attrs["shape"])


@register("RoiAlignGrad")
class RoiAlignGrad(Op):
    """inputs: X, rois, images, dY -> dX."""

    def bind(self, node: Node, b: Binder) -> None:
        x, rois, images, dy = (b.buffer(name) for name in node.inputs)
        fill(b, b.value(node.outputs[0]), 0)
        arrays = (x, rois, images, dy, b.buffer(node.outputs[0]))
        b.call("roi_align_grad", node.attrs["mode"], *arrays, *_align_settings(node, b))


@register("MaxRoiPool")
class MaxRoiPool(Op):
    """inputs: X (N, C, H, W), rois (R, 5), the image first -> Y (R, C, h, w). Only X gets a gradient."""

    layout = "last"
    activations = (0,)
    since = 1

    def normalize(self, node: Node, facts: Facts) -> None:
        x, rois = facts.value(node, 0), facts.value(node, 1)
        need_float(node, x)
        if len(x.dims) != 4 or len(rois.dims) != 2 or rois.dims[1] != 5:
            raise ModelError(f"{node.label}: regions {rois.dims} do not fit X {x.dims}")
        shape = tuple(int(n) for n in node.attrs.get("pooled_shape", ()))
        if len(shape) != 2 or min(shape) < 1:
            raise ModelError(f"{node.label}: pooled_shape {shape} is not two positive numbers")
        node.attrs = {"shape": shape, "scale": float(node.attrs.get("spatial_scale", 1.0))}

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x, rois = inputs[0], inputs[1]
        assert x and rois and x.dtype
        return [(x.dtype, (rois.dims[0], x.dims[1], *node.attrs["shape"]))]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        """To the first of a bin's pixels that are its maximum."""
        (dy,), (x, rois) = dys, node.inputs
        assert dy is not None
        inputs = [x, rois, node.outputs[0], dy]
        return [back.add("MaxRoiPoolGrad", inputs, like=x, attrs=node.attrs) if need[0] else None, None]

    def bind(self, node: Node, b: Binder) -> None:
        x, rois = (b.value(name) for name in node.inputs)
        _check_images(node, b, b.buffer(rois.name), 5, x.dims[0])
        arrays = (b.buffer(name) for name in (x.name, rois.name, node.outputs[0]))
        b.call("roi_pool", *arrays, *_pool_settings(node, b))


def _pool_settings(node: Node, b: Binder) -> tuple[Any, ...]:
    """The kernels' scale, size and out."""
    x, rois = b.value(node.inputs[0]), b.value(node.inputs[1])
    return b.dtype.type(node.attrs["scale"]), _size(x), (rois.dims[0], *node.attrs["shape"])


@register("MaxRoiPoolGrad")
class MaxRoiPoolGrad(Op):
    """inputs: X, rois, Y, dY -> dX."""

    def bind(self, node: Node, b: Binder) -> None:
        dx = b.value(node.outputs[0])
        fill(b, dx, 0)
        arrays = (b.buffer(name) for name in (*node.inputs, dx.name))
        b.call("roi_pool_grad", *arrays, *_pool_settings(node, b))
