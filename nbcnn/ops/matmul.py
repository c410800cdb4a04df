"""MatMul (ONNX opsets 1, 9, 13): numpy.matmul.

Where the right operand is one matrix, the decompose pass makes it a Gemm, and a vector a matrix. What stays are stacks
of matrices on the right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbcnn.binder import Binder
from nbcnn.errors import ModelError, UnsupportedError
from nbcnn.graph import Node, Value
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.broadcast import aligned_strides

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

STACK = 4
"""Dimensions in front of the matrices' two that the kernel walks, after neighbours that can be have been merged."""


def product_shape(node: Node, a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of numpy.matmul; raises ModelError."""
    if not a or not b:
        raise ModelError(f"{node.label}: cannot multiply shapes {a} and {b}: a single number is no matrix")
    left = (1, *a) if len(a) == 1 else a
    right = (*b, 1) if len(b) == 1 else b
    try:
        stack = np.broadcast_shapes(left[:-2], right[:-2])
    except ValueError:
        stack = None
    if stack is None or left[-1] != right[-2]:
        raise ModelError(f"{node.label}: cannot multiply shapes {a} and {b}")
    return (*stack, *(left[-2:-1] if len(a) > 1 else ()), *(right[-1:] if len(b) > 1 else ()))


@register("MatMul")
class MatMul(Op):
    """inputs: A (..., M, K), B (..., K, N) -> (..., M, N). Attributes of gradients: transA, transB, an operand's last
    two axes swapped.
    """

    layout = "plain"
    since = 1
    alike = (0, 1)
    trainable = (0, 1)

    def normalize(self, node: Node, facts: Facts) -> None:
        a, b = facts.value(node, 0), facts.value(node, 1)
        product_shape(node, a.dims, b.dims)
        node.attrs = {}
        assert a.dtype is not None
        if a.dtype.kind != "f":
            node.op = "IntegerProduct"

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        a, b = inputs
        assert a and b
        assert a.dtype is not None
        return [(a.dtype, product_shape(node, a.dims, b.dims))]

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        a, b = arrays
        return None if a is None or b is None else [a @ b]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        a, b = node.inputs
        return [
            _grad(back, [dy, b], {"transB": True}, a, dy) if need[0] else None,
            _grad(back, [a, dy], {"transA": True}, b, dy) if need[1] else None,
        ]

    def bind(self, node: Node, b: Binder) -> None:
        left, right, y = b.value(node.inputs[0]), b.value(node.inputs[1]), b.value(node.outputs[0])
        if not y.size:
            return
        rank = len(y.dims)
        steps, others = _steps(left, rank, node.attrs.get("transA")), _steps(right, rank, node.attrs.get("transB"))
        depth = left.dims[-2 if node.attrs.get("transA") else -1]
        stack = _merged(y.dims[:-2], steps[:-2], others[:-2])
        if len(stack) > STACK:
            raise UnsupportedError(
                f"{node.label}: the product of shapes {left.dims} and {right.dims} repeats matrices along more than "
                f"{STACK} axes; expand an operand before"
            )
        sizes, first, second = zip(*[(1, 0, 0)] * (STACK - len(stack)), *stack, strict=True)
        b.call(
            "matmul_batched",
            b.buffer(left.name),
            b.buffer(right.name),
            b.buffer(y.name),
            sizes,
            first,
            second,
            (*y.dims[-2:], depth),
            steps[-2:],
            others[-2:],
        )


def _merged(sizes: Sequence[int], steps: Sequence[int], others: Sequence[int]) -> list[tuple[int, int, int]]:
    """Size, stride of the left and of the right operand along as few axes of the stack as can be."""
    found: list[tuple[int, int, int]] = []
    for size, first, second in zip(sizes, steps, others, strict=True):
        if size != 1:
            if found and found[-1][1:] == (size * first, size * second):
                size *= found.pop()[0]
            found.append((size, first, second))
    return found


@register("IntegerProduct")
class IntegerProduct(Op):
    """MatMul and Gemm of integers, by NumPy. Attributes: none, or the normalized ones of Gemm."""

    layout = "plain"
    differentiable = False

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        a, b = inputs[:2]
        assert a and b and a.dtype is not None
        left = a.dims[::-1] if node.attrs.get("transA") else a.dims
        right = b.dims[::-1] if node.attrs.get("transB") else b.dims
        return [(a.dtype, product_shape(node, left, right))]

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        a, b, c = [*arrays, None][:3]
        if a is None or b is None or (node.input(2) and c is None):
            return None
        left, right = (x.T if node.attrs.get(swap) else x for x, swap in ((a, "transA"), (b, "transB")))
        y = left @ right
        if node.attrs.get("alpha", 1.0) != 1:
            y = y * node.attrs["alpha"]
        if c is not None and node.attrs["beta"]:
            y = y + (c if node.attrs["beta"] == 1 else c * node.attrs["beta"])
        return [y.astype(a.dtype)]


def _steps(x: Value, rank: int, swapped: bool | None) -> tuple[int, ...]:
    """Strides in a tensor of this rank, of which the last two are real even where the size is 1."""
    *stack, _, _ = aligned_strides(x, rank)
    last = (1, x.dims[-1]) if swapped else (x.dims[-1], 1)
    return (*stack, *last)


def _grad(back: Backward, inputs: list[str], attrs: dict[str, bool], like: str, dy: str) -> str:
    """One operand's gradient, summed over the stack along which that operand was repeated."""
    values = back.graph.values
    shape = (*values[dy].dims[:-2], *values[like].dims[-2:])
    if shape == values[like].dims:
        return back.add("MatMul", inputs, like=like, attrs=attrs)
    whole = back.graph.new_value(f"{like}.grad", values[like].dtype, shape)
    back.node("MatMul", inputs, [whole], attrs)
    return back.add("ReduceSumTo", [whole], like=like)
