"""Broadcasting: how operands of different shapes and layouts are walked together."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from nbcnn.binder import Binder, Buffer
from nbcnn.errors import UnsupportedError
from nbcnn.graph import Value
from nbcnn.kernels.opcodes import ADD, EQUAL, MAX, MIN, MUL, REVERSED
from nbcnn.ops.strided import strides

__all__ = ["aligned_strides", "combine", "loops", "memory_order"]

LOOPS = 6
"""Axes that the kernel walks, after neighbours that can be have been merged."""
COMMUTATIVE = (ADD, MUL, MAX, MIN, EQUAL)


def aligned_strides(value: Value, rank: int) -> tuple[int, ...]:
    """Elements of memory from neighbour to neighbour along each ONNX axis of a tensor of this rank, to whose last axes
    the value's belong; 0 along which the value is repeated.
    """
    own = [0 if n == 1 else step for n, step in zip(value.dims, strides(value), strict=True)]
    return (*(0,) * (rank - len(own)), *own)


def memory_order(value: Value) -> list[int]:
    """The ONNX axes in the order in which they lie in memory, the contiguous one last."""
    axes = list(range(len(value.dims)))
    return [0, *axes[2:], 1] if value.layout == "last" else axes


def loops(y: Value, *operands: Sequence[int]) -> tuple[tuple[int, ...], list[tuple[int, ...]]] | None:
    """The shape of y in memory order and the operands' strides along it, in as few axes as can be, filled up to LOOPS
    in front.

    operands: strides by ONNX axis of y. None where more than LOOPS axes are left.
    """
    shape: list[int] = []
    steps: list[list[int]] = [[] for _ in operands]
    for axis in memory_order(y):
        size = y.dims[axis]
        if size == 1:
            continue
        merges = bool(shape) and all(s[-1] == size * o[axis] for s, o in zip(steps, operands, strict=True))
        if merges:
            shape[-1] *= size
        else:
            shape.append(size)
        for s, o in zip(steps, operands, strict=True):
            s[-1:] = [o[axis]] if merges else [*s[-1:], o[axis]]
    if len(shape) > LOOPS:
        return None
    spare = LOOPS - len(shape)
    return (*(1,) * spare, *shape), [(*(0,) * spare, *s) for s in steps]


def combine(
    b: Binder,
    code: int,
    operands: tuple[Buffer, Buffer],
    steps: tuple[Sequence[int], Sequence[int]],
    y: Value,
    clamp: tuple[float, float] = (-inf, inf),
) -> None:
    """Emit y = a op b, held in the clamp, for operands that are walked with these strides along the ONNX axes of y."""
    walked = loops(y, *steps)
    if walked is None:
        assert b.node is not None
        raise UnsupportedError(f"{b.node.label}: broadcasting to {y.dims} takes more than {LOOPS} loops")
    if not y.size:
        return
    shape, (first, second) = walked
    left, right = operands
    if first[-1] == 0 and second[-1] == 1:
        left, right, first, second = right, left, second, first
        code = code if code in COMMUTATIVE else code + REVERSED
    low, high = (b.dtype.type(bound) for bound in clamp)
    b.call("arithmetic", code, left, right, b.buffer(y.name), shape, first, second, low, high)
