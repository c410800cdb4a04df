"""Gemm (ONNX opsets 1, 6, 7, 9, 11, 13) and its gradients: a 1x1 convolution whose pixels are the rows of A."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbcnn.binder import Binder
from nbcnn.errors import ModelError
from nbcnn.geometry import Window
from nbcnn.graph import Node, Value
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.gather import Epilogue, Gather, weight_grad
from nbcnn.ops.packing import Packing, matrix

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

__all__ = ["Gemm", "bind_product"]


def bind_product(
    node: Node, b: Binder, a: str, w: str, y: str, rows: int, packing: Packing, epilogue: Epilogue
) -> None:
    """y (rows, channels) = a (rows, depth) times packed w, plus bias and residual, clamped."""
    if not rows:
        return
    depth = packing.depth
    gather = Gather(rows, (1,), (1,), depth, (1,), (1,), packing.channels, (0,), (1,), [((0,), 0)])
    gather.bind(b, node, b.buffer(a), b.buffer(w), b.buffer(y), packing, epilogue)


@register("Gemm")
class Gemm(Op):
    """inputs: A (M, K), B (K, N) or (N, K) with transB, C broadcast to (M, N) or none -> alpha * A B + beta * C.

    Normalized: C is none or of shape (N) (`bias`), added while the product is stored; every other form is spelled out
    in nodes of its own by the decompose pass.
    """

    layout = "plain"
    activations = (0, 3)
    since = 1
    alike = (0, 1, 2)
    trainable = (1, 2)
    halves = 1

    def normalize(self, node: Node, facts: Facts) -> None:
        a, w = facts.value(node, 0), facts.value(node, 1)
        if len(a.dims) != 2 or len(w.dims) != 2:
            raise ModelError(f"{node.label}: Gemm multiplies matrices; the inputs have shapes {a.dims} and {w.dims}")
        trans_a, trans_b = bool(node.attrs.get("transA", 0)), bool(node.attrs.get("transB", 0))
        depth, inner = a.dims[0 if trans_a else 1], w.dims[1 if trans_b else 0]
        if depth != inner:
            raise ModelError(
                f"{node.label}: cannot multiply {a.dims} (transA={int(trans_a)}) by {w.dims} (transB={int(trans_b)})"
            )
        shape = (a.dims[1 if trans_a else 0], w.dims[0 if trans_b else 1])
        if facts.has(node, 2):
            added = facts.value(node, 2).dims
            fits = zip(added[::-1], shape[::-1], strict=False)
            if len(added) > 2 or any(n not in (1, m) for n, m in fits):
                raise ModelError(f"{node.label}: C of shape {added} cannot be added to a product of shape {shape}")
        node.attrs = {
            "transA": trans_a,
            "transB": trans_b,
            "alpha": float(node.attrs.get("alpha", 1.0)),
            "beta": float(node.attrs.get("beta", 1.0)),
            "channel_axis": 0 if trans_b else 1,
        }
        assert a.dtype is not None
        if a.dtype.kind != "f":
            node.op = "IntegerProduct"

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        a, w = inputs[0], inputs[1]
        assert a and w and a.dtype
        return [(a.dtype, (a.dims[1 if node.attrs["transA"] else 0], w.dims[0 if node.attrs["transB"] else 1]))]

    def packing(self, node: Node, values: dict[str, Value]) -> Packing:
        w = values[node.inputs[1]]
        assert w.dtype is not None
        first = node.attrs["transB"]
        channels, depth = (w.dims[0], w.dims[1]) if first else (w.dims[1], w.dims[0])
        return matrix(channels, depth, first, w.dtype.itemsize)

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        a, w = node.inputs[:2]
        dy, residual = back.unclamp(node, dy)
        found: list[str | None] = [None] * len(node.inputs)
        attrs = {"transB": node.attrs["transB"]}
        if need[0]:
            found[0] = back.add("GemmInputGrad", [dy, w], like=a, attrs=attrs)
        if need[1]:
            found[1] = back.add("GemmWeightGrad", [a, dy], like=w, attrs=attrs)
        if node.input(2) and need[2]:
            found[2] = back.add("ChannelSum", [dy], like=node.inputs[2])
        if node.input(3) and need[3]:
            found[3] = residual
        return found

    def bind(self, node: Node, b: Binder) -> None:
        residual = node.input(3)
        if residual:
            b.in_place(node.outputs[0], residual)
        rows = b.value(node.outputs[0]).dims[0]
        epilogue = Epilogue(node.input(2), residual)
        bind_product(node, b, node.inputs[0], node.inputs[1], node.outputs[0], rows, node.attrs["packing"], epilogue)


@register("GemmInputGrad")
class GemmInputGrad(Op):
    """inputs: dY (M, N), B -> dA (M, K)."""

    layout = "plain"
    activations = (0, 2)
    halves = 1

    def packing(self, node: Node, values: dict[str, Value]) -> Packing:
        return Gemm().packing(node, values).transposed()

    def bind(self, node: Node, b: Binder) -> None:
        residual = node.input(2)
        if residual:
            b.in_place(node.outputs[0], residual)
        rows = b.value(node.outputs[0]).dims[0]
        epilogue = Epilogue("", residual)
        bind_product(node, b, node.inputs[0], node.inputs[1], node.outputs[0], rows, node.attrs["packing"], epilogue)


@register("GemmWeightGrad")
class GemmWeightGrad(Op):
    """inputs: A (M, K), dY (M, N) -> dB, in the forward packing."""

    layout = "plain"
    activations = (0, 1)

    def packing(self, node: Node, values: dict[str, Value]) -> Packing:
        dw = values[node.outputs[0]]
        assert dw.dtype is not None
        first = node.attrs["transB"]
        channels, depth = (dw.dims[0], dw.dims[1]) if first else (dw.dims[1], dw.dims[0])
        return matrix(channels, depth, first, dw.dtype.itemsize)

    def bind(self, node: Node, b: Binder) -> None:
        rows, depth = b.value(node.inputs[0]).dims
        # Rows of A are the pixels of one line, so that the kernel walks them without a break.
        win = Window((rows,), (1,), (1,), (1,), (0,), (0,), (rows,))
        a, dy, dw = b.buffer(node.inputs[0]), b.buffer(node.inputs[1]), b.buffer(node.outputs[0])
        weight_grad(b, a, dy, dw, node.attrs["packing"], win, 1, depth)
