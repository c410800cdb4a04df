"""QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear: between floats and integers.

Scales and zero points are one number, one for each index of an axis, or one for each block along an axis. 8- and
16-bit integers have kernels; smaller ones and 8-bit floats are converted by NumPy.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from nbcnn.binder import Binder, Buffer
from nbcnn.errors import ModelError, UnsupportedError
from nbcnn.graph import Node, Value
from nbcnn.ops.axes import axis_of
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.element_types import element_type

__all__ = ["integer_range", "quantized"]

KERNEL_TYPES = ("int8", "uint8", "int16", "uint16", "int32")
QUANTIZED_TYPES = (
    *("int2", "uint2", "int4", "uint4", "int8", "uint8", "int16", "uint16", "int32"),
    *("float4_e2m1fn", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"),
)
"""The types that numbers are quantized to."""
RUN = 4096
"""Elements of a run, where all have one scale."""


def _quantized_type(node: Node, code: int) -> np.dtype:
    dtype = element_type(node, code)
    if dtype.name not in QUANTIZED_TYPES:
        raise UnsupportedError(f"{node.label}: output_dtype={code} is not a type that is quantized to")
    return dtype


def integer_range(dtype: np.dtype) -> tuple[int, int] | None:
    """The lowest and the highest number of an integer type; None for a float."""
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return int(info.min), int(info.max)
    if dtype.name in ("int4", "uint4", "int2", "uint2"):
        bits = int(dtype.name[-1])
        return (0, 2**bits - 1) if dtype.name[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return None


def quantized(values: np.ndarray, zero: np.ndarray | None, dtype: np.dtype, saturate: bool = True) -> np.ndarray:
    """Scaled floats as `dtype`: rounded half to even, shifted by the zero point and saturated. An 8-bit float takes
    numbers beyond its range as its largest, or as it can if not `saturate`.
    """
    limits = integer_range(dtype)
    if limits is not None:
        found = np.nan_to_num(np.rint(values), nan=limits[0], posinf=2.0**40, neginf=-(2.0**40))
        if zero is not None:
            found = found + zero.astype(values.dtype)
        return np.clip(found, *limits).astype(np.int32).astype(dtype)
    if saturate and dtype.name.startswith("float8"):
        import ml_dtypes

        largest = float(ml_dtypes.finfo(dtype).max)
        values = np.clip(values, -largest, largest)
    with np.errstate(over="ignore", invalid="ignore"):
        return values.astype(dtype)


def _spread(node: Node, scale: np.ndarray, dims: Sequence[int]) -> np.ndarray:
    """A scale or a zero point, so that it broadcasts against a tensor of shape `dims`."""
    axis, block = node.attrs["axis"], node.attrs["block_size"]
    if scale.size == 1 and scale.ndim <= 1:
        return scale.reshape(())
    if block:
        return np.repeat(scale, block, axis).take(range(dims[axis]), axis)
    return scale.reshape([-1 if i == axis else 1 for i in range(len(dims))])


class _Linear(Op):
    """inputs: X, scale, zero point or none -> Y. Normalized: axis (counted from the front), block_size (0: none)."""

    activations = (0,)
    since = 10
    differentiable = False

    def normalize(self, node: Node, facts: Facts) -> None:
        x, scale = facts.value(node, 0), facts.value(node, 1)
        facts.need_floats(node, (1,))
        axis, block = int(node.attrs.get("axis", 1)), int(node.attrs.get("block_size", 0))
        one = len(scale.dims) == 0 or (scale.dims == (1,) and not block)
        node.attrs |= {"axis": 0 if one else axis_of(node, axis, len(x.dims)), "block_size": 0 if one else block}
        if facts.has(node, 2) and facts.value(node, 2).size != scale.size:
            raise ModelError(
                f"{node.label}: the scale has shape {scale.dims}, the zero point {facts.value(node, 2).dims}; "
                "they must be alike"
            )
        if one:
            return
        axis = node.attrs["axis"]
        wanted = x.dims[axis : axis + 1]
        if block:
            wanted = tuple(-(-n // block) if i == axis else n for i, n in enumerate(x.dims))
        if scale.dims != wanted:
            raise ModelError(
                f"{node.label}: a scale of shape {scale.dims} does not fit an input of shape {x.dims} with axis={axis} "
                f"and block_size={block}"
            )

    def runs(self, node: Node, b: Binder) -> tuple[int, int, tuple[int, int, int, int]]:
        """How the kernels walk: (length of a run, whether its elements have scales of their own, steps)."""
        x, scale = b.value(node.inputs[0]), b.value(node.inputs[1])
        if scale.size == 1:
            return max(1, min(RUN, x.size)), 0, (1, 1, 0, 0)
        axis, block = b.axis(x.name, node.attrs["axis"]), node.attrs["block_size"]
        dims = b.shape(x.name)
        count, inner = dims[axis], prod(dims[axis + 1 :])
        if not block:
            return (inner, 0, (count, 1, 0, 1)) if inner > 1 else (count, 1, (1, 1, 0, 0))
        groups = -(-count // block)
        if inner == 1 and count % block == 0:
            return block, 0, (groups, 1, groups, 1)
        return inner, int(inner > 1), (count, block, groups * inner, inner)

    def has_kernel(self, node: Node, b: Binder) -> bool:
        """Whether the kernels do it: they know no small types, and blocks in ONNX order alone."""
        x, y = b.value(node.inputs[0]), b.value(node.outputs[0])
        names = {x.dtype.name if x.dtype else "", y.dtype.name if y.dtype else ""}
        known = len(names & {"float32", "float64"}) == 1 and len(names & {*KERNEL_TYPES}) == 1
        return known and x.size > 0 and not (node.attrs["block_size"] and x.layout == "last")


@register("QuantizeLinear")
class QuantizeLinear(_Linear):
    """ONNX opsets 10, 13 (axis), 19 (8-bit floats), 21 (blocks, output_dtype), 23 (precision), 24, 25: saturate(round(
    x / scale) + zero point), rounded half to even.

    Floats are divided in the type that the network is computed in, whatever `precision` asks for.
    """

    def normalize(self, node: Node, facts: Facts) -> None:
        super().normalize(node, facts)
        code = int(node.attrs.get("output_dtype", 0))
        dtype = facts.value(node, 2).dtype if facts.has(node, 2) else _quantized_type(node, code or 2)
        node.attrs = {k: node.attrs[k] for k in ("axis", "block_size")} | {
            "to": dtype,
            "saturate": bool(node.attrs.get("saturate", 1)),
        }

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x = inputs[0]
        assert x is not None
        return [(node.attrs["to"], x.dims)]

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        x, scale, zero = (*arrays, None)[:3]
        if x is None or scale is None or (zero is None and len(inputs) > 2 and inputs[2] is not None):
            return None
        if x.dtype.kind != "f":
            x = x.astype(scale.dtype)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            scaled = x / _spread(node, scale, x.shape)
        shift = None if zero is None else _spread(node, zero, x.shape)
        return [quantized(scaled, shift, node.attrs["to"], node.attrs["saturate"])]

    def bind(self, node: Node, b: Binder) -> None:
        y = b.value(node.outputs[0])
        if not self.has_kernel(node, b):
            super().bind(node, b)
            return
        assert y.dtype is not None
        zero: Buffer = b.buffer(node.inputs[2]) if node.input(2) else b.empty(y.dtype)
        x, scale = b.buffer(node.inputs[0]), b.buffer(node.inputs[1])
        b.call("quantize", x, scale, zero, b.buffer(y.name), *self.runs(node, b), integer_range(y.dtype))


@register("DequantizeLinear")
class DequantizeLinear(_Linear):
    """ONNX opsets 10, 13 (axis), 19 (8-bit floats), 21 (blocks), 23 (output_dtype), 24, 25: (x - zero) * scale."""

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x, scale = inputs[0], inputs[1]
        assert x and scale and scale.dtype
        return [(scale.dtype, x.dims)]

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        x, scale, zero = (*arrays, None)[:3]
        if x is None or scale is None or (zero is None and len(inputs) > 2 and inputs[2] is not None):
            return None
        whole = integer_range(x.dtype) is not None
        found = x.astype(np.int64).astype(scale.dtype) if whole else x.astype(scale.dtype)
        if zero is not None and whole:
            shift = _spread(node, zero.astype(np.int64), x.shape)
            found = (x.astype(np.int64) - shift).astype(scale.dtype)
        return [found * _spread(node, scale, x.shape)]

    def bind(self, node: Node, b: Binder) -> None:
        x, y = b.value(node.inputs[0]), b.value(node.outputs[0])
        if not self.has_kernel(node, b):
            super().bind(node, b)
            return
        zero = b.buffer(node.inputs[2]) if node.input(2) else b.empty(x.dtype)
        b.call("dequantize", b.buffer(x.name), b.buffer(node.inputs[1]), zero, b.buffer(y.name), *self.runs(node, b))


@register("DynamicQuantizeLinear")
class DynamicQuantizeLinear(Op):
    """ONNX opset 11: X -> Y (uint8), its scale and its zero point, which spread the range of X and 0 over 0..255."""

    since = 11
    differentiable = False

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x = inputs[0]
        assert x and x.dtype
        byte = np.dtype(np.uint8)
        return [(byte, x.dims), (x.dtype, ()), (byte, ())]

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        x = arrays[0]
        if x is None:
            return None
        least, greatest = x.min(initial=0), x.max(initial=0)
        scale = ((greatest - least) if greatest > least else x.dtype.type(1)) / x.dtype.type(255)
        zero = np.rint(np.clip(-least / scale, 0, 255)).astype(np.uint8)
        return [quantized(x / scale, zero, np.dtype(np.uint8)), np.asarray(scale), zero]

    def bind(self, node: Node, b: Binder) -> None:
        x = b.value(node.inputs[0])
        source, y = b.buffer(x.name), b.buffer(node.outputs[0])
        scale = b.buffer(node.outputs[1]) if node.output(1) else b.scratch(1)
        zero = b.buffer(node.outputs[2]) if node.output(2) else b.scratch(1, np.uint8)
        b.call("dynamic_scale", source, scale, zero)
        b.call("quantize", source, scale, zero, y, max(1, min(RUN, x.size)), 0, (1, 1, 0, 0), (0, 255))
