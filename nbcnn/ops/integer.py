"""Products of 8-bit integers as a file has them: ConvInteger, QLinearConv, MatMulInteger and QLinearMatMul.

Here is what they mean, in NumPy. Before a network is bound, the integer_products pass (nbcnn/passes/integer.py) makes
integer kernels of them; what stays is rare: a zero point for each row of a matrix, or matrices that broadcast in their
batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbcnn.errors import ModelError, UnsupportedError
from nbcnn.geometry import Window, window
from nbcnn.graph import Node, Value
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.quantize import integer_range, quantized

__all__ = ["PRODUCTS", "Places", "conv_window"]


class Places:
    """Which input of a product is what; None: it has none. x, w: the factors; a zero point and a scale of each."""

    def __init__(self, w: int, x_zero: int, w_zero: int, scales: tuple[int, int, int] | None, bias: int | None) -> None:
        self.w, self.x_zero, self.w_zero, self.scales, self.bias = w, x_zero, w_zero, scales, bias
        self.y_zero = None if scales is None else 7


PRODUCTS = {
    "ConvInteger": Places(1, 2, 3, None, None),
    "MatMulInteger": Places(1, 2, 3, None, None),
    "QLinearConv": Places(3, 2, 5, (1, 4, 6), 8),
    "QLinearMatMul": Places(3, 2, 5, (1, 4, 6), 8),
}


def conv_window(node: Node, x: Value, w: Value) -> Window:
    """The window of a normalized convolution of integers."""
    return window(x.dims[2:], w.dims[2:], node.attrs["strides"], node.attrs["pads"], node.attrs["dilations"])


class _Product(Op):
    """Normalized: `zero`, the zero point of the result (None for int32)."""

    activations = (0,)
    since = 10
    differentiable = False

    def _zero(self, node: Node, facts: Facts) -> None:
        places = PRODUCTS[node.op]
        if places.y_zero is not None:
            zero = facts.constant(node, places.y_zero, "the zero point of the result")
            if zero is None or zero.size == 0 or integer_range(zero.dtype) is None:
                raise ModelError(f"{node.label}: the zero point of the result must be one or more integers of 8 bits")
            node.attrs |= {"to": zero.dtype, "zero": int(zero.reshape(-1)[0])}
        else:
            node.attrs |= {"to": np.dtype(np.int32), "zero": None}
        for index in (0, places.w):
            kind = facts.value(node, index).dtype
            if kind is None or kind.name not in ("int8", "uint8"):
                raise UnsupportedError(f"{node.label}: input {index} has type {kind}; int8 and uint8 are supported")

    def product(self, node: Node, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        """x times w, whole numbers in float64, which is exact."""
        raise NotImplementedError

    def spread(self, scale: np.ndarray, rank: int) -> np.ndarray:
        """A scale or zero point of w, so that it broadcasts against the result (or w)."""
        raise NotImplementedError

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        places = PRODUCTS[node.op]
        given = [*arrays, *[None] * 9][:9]
        if any(value is not None and array is None for value, array in zip(inputs, arrays, strict=True)):
            return None
        x, w, x_zero, w_zero = (given[i] for i in (0, places.w, places.x_zero, places.w_zero))
        assert x is not None and w is not None
        if x_zero is not None:
            x = x.astype(np.float64) - _rows(x_zero, x.ndim)
        if w_zero is not None:
            w = w.astype(np.float64) - self.spread(w_zero, w.ndim)
        found = self.product(node, x.astype(np.float64), w.astype(np.float64))
        bias = None if places.bias is None else given[places.bias]
        if bias is not None:
            found += self.result_spread(bias, x.ndim)
        if places.scales is None:
            return [found.astype(np.int64).astype(np.int32)]
        x_scale, w_scale, y_scale = (np.asarray(given[i]).astype(np.float32) for i in places.scales)
        factor = _rows(x_scale, x.ndim) * self.result_spread(w_scale, x.ndim) / y_scale
        scaled = found.astype(np.float32) * factor
        return [quantized(scaled, np.asarray(node.attrs["zero"]), node.attrs["to"])]

    def result_spread(self, scale: np.ndarray, rank: int) -> np.ndarray:
        return self.spread(scale, rank)


def _rows(scale: np.ndarray, rank: int) -> np.ndarray:
    """A scale or zero point of x: one number, or one for each row of a matrix."""
    if scale.size == 1:
        return scale.reshape(())
    return scale[:, None] if scale.ndim == 1 and rank > 1 else scale


class _Conv(_Product):
    layout = "last"

    def normalize(self, node: Node, facts: Facts) -> None:
        x, w = facts.value(node, 0), facts.value(node, PRODUCTS[node.op].w)
        rank, group = len(x.dims) - 2, int(node.attrs.get("group", 1))
        if not 1 <= rank <= 3:
            raise UnsupportedError(f"{node.label}: {node.op} needs 1 to 3 spatial dimensions, not an input {x.dims}")
        if len(w.dims) != rank + 2 or x.dims[1] != w.dims[1] * group or w.dims[0] % group:
            raise ModelError(f"{node.label}: input {x.dims} does not fit weights {w.dims} with group={group}")
        attrs = node.attrs
        win = window(
            x.dims[2:],
            w.dims[2:],
            attrs.get("strides"),
            attrs.get("pads"),
            attrs.get("dilations"),
            attrs.get("auto_pad", "NOTSET"),
        )
        node.attrs = {
            "group": group,
            "strides": win.strides,
            "pads": win.begins + win.ends,
            "dilations": win.dilations,
        }
        self._zero(node, facts)

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x, w = inputs[0], inputs[PRODUCTS[node.op].w]
        assert x and w
        return [(node.attrs["to"], (x.dims[0], w.dims[0], *conv_window(node, x, w).out))]

    def product(self, node: Node, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        rank, group = x.ndim - 2, node.attrs["group"]
        pads, strides, dilations = (node.attrs[k] for k in ("pads", "strides", "dilations"))
        widths = [(0, 0), (0, 0)] + [(pads[i], max(pads[rank + i], 0)) for i in range(rank)]
        reach = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
        axes = tuple(range(2, 2 + rank))
        views = np.lib.stride_tricks.sliding_window_view(np.pad(x, widths), reach, axes)
        steps = (slice(None),) * 2 + tuple(slice(None, None, s) for s in strides)
        views = views[steps + tuple(slice(None, None, d) for d in dilations)]
        parts = zip(np.split(views, group, 1), np.split(w, group), strict=True)
        over = (1, *range(2 + rank, 2 + 2 * rank)), (1, *range(2, 2 + rank))
        return np.concatenate([np.moveaxis(np.tensordot(a, b, over), -1, 1) for a, b in parts], 1)

    def spread(self, scale: np.ndarray, rank: int) -> np.ndarray:
        return scale.reshape(-1, *[1] * (rank - 1))

    def result_spread(self, scale: np.ndarray, rank: int) -> np.ndarray:
        return scale.reshape(-1, *[1] * (rank - 2))


@register("ConvInteger")
class ConvInteger(_Conv):
    """ONNX opset 10. inputs: X, W (int8 or uint8), zero points of X (one) and W (one, or one a channel) or none ->
    int32. Padding counts as zero.
    """


@register("QLinearConv")
class QLinearConv(_Conv):
    """ONNX opset 10. inputs: X, its scale and zero point, W, its scales and zero points (one, or one a channel), the
    scale and zero point of Y, bias (int32) or none -> Y = saturate(round((sum + bias) * factor) + zero point), where
    factor, in float32, is scale of X * scale of W / scale of Y.
    """


class _MatMul(_Product):
    layout = "plain"

    def normalize(self, node: Node, facts: Facts) -> None:
        a, b = facts.value(node, 0), facts.value(node, PRODUCTS[node.op].w)
        node.attrs = {"transB": True} if node.attrs.get("transB") else {}
        matrix = b.dims[::-1] if node.attrs else b.dims
        if not a.dims or not matrix or a.dims[-1] != (matrix[-2] if len(matrix) > 1 else matrix[0]):
            raise ModelError(f"{node.label}: cannot multiply {a.dims} by {b.dims}")
        self._zero(node, facts)

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        a, b = inputs[0], inputs[PRODUCTS[node.op].w]
        assert a and b
        batch = np.broadcast_shapes(a.dims[:-2], b.dims[:-2])
        rows, columns = a.dims[-2:-1], b.dims[-1:] if len(b.dims) > 1 else ()
        if "transB" in node.attrs:
            columns = b.dims[:1]
        return [(node.attrs["to"], (*batch, *rows, *columns))]

    def product(self, node: Node, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        return np.asarray(np.matmul(x, w.T if "transB" in node.attrs else w))

    def spread(self, scale: np.ndarray, rank: int) -> np.ndarray:
        return scale.reshape(()) if scale.size == 1 else scale


@register("MatMulInteger")
class MatMulInteger(_MatMul):
    """ONNX opset 10. inputs: A, B (int8 or uint8), zero points of A (one, or one a row) and B (one, or one a column) or
    none -> int32.
    """


@register("QLinearMatMul")
class QLinearMatMul(_MatMul):
    """ONNX opsets 10, 21. inputs: A, its scale and zero point (one, or one a row), B, its scale and zero point (one, or
    one a column), the scale and zero point of Y -> Y, rounded as QLinearConv's. A Gemm that became one has a bias
    (int32) for each column too, and an attribute transB for a B (N, K).
    """
