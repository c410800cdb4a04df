"""Strided copies: how the operators that only move elements call one kernel, whatever the two layouts are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf, prod

import numpy as np

from nbcnn.binder import Binder
from nbcnn.graph import Value

__all__ = ["Axis", "copy", "fill", "has_kernel", "memory_order", "strides"]

Axis = tuple[int, int, int]
"""One axis of a copy: size, stride in x, stride in y (elements)."""
RANK = 6


def memory_order(layout: str, rank: int) -> list[int]:
    """The ONNX axes from the outermost in memory to the innermost."""
    return [0, *range(2, rank), 1] if layout == "last" else list(range(rank))


def strides(value: Value) -> tuple[int, ...]:
    """How many elements of memory lie between neighbours along each ONNX axis."""
    dims = value.dims
    order = memory_order(value.layout, len(dims))
    return tuple(prod(dims[k] for k in order[order.index(axis) + 1 :]) for axis in range(len(dims)))


def merged(axes: Iterable[Axis]) -> tuple[list[Axis], int, int]:
    """The same copy with as few axes as can be, in the kernel's order, and what to add to the two starts."""
    x_start = y_start = 0
    kept: list[Axis] = []
    for size, x, y in axes:
        if y < 0:
            x_start, y_start, x, y = x_start + (size - 1) * x, y_start + (size - 1) * y, -x, -y
        if size != 1:
            kept.append((size, x, y))
    kept.sort(key=lambda axis: -axis[2])
    found: list[Axis] = []
    for size, x, y in kept:
        if found and found[-1][1:] == (size * x, size * y):
            size *= found.pop()[0]
        found.append((size, x, y))
    if len(found) > 2 and found[-1][1] != 1:
        # y is written along the last axis; the one along which x is contiguous comes next to it.
        nearest = min(range(len(found) - 1), key=lambda k: abs(found[k][1]) or inf)
        found.insert(len(found) - 2, found.pop(nearest))
    return found, x_start, y_start


def copy(
    b: Binder, x: Value, y: Value, axes: Sequence[Axis], x_start: int = 0, y_start: int = 0, apart: bool = False
) -> None:
    """Emit the copy of prod(sizes) elements of x into y; none where y can be the memory of x, unless they have to lie
    `apart`.
    """
    count = prod(size for size, _, _ in axes)
    if count == 0:
        return
    assert x.dtype is not None and y.dtype is not None
    found, x_more, y_more = merged(axes)
    if count == x.size == y.size and x.dtype == y.dtype and found in ([], [(count, 1, 1)]) and not apart:
        b.alias(y.name, x.name)
        return
    source, target = b.buffer(x.name), b.buffer(y.name)
    x_start, y_start = x_start + x_more, y_start + y_more
    if len(found) > RANK or not (has_kernel(x.dtype, b.backend) and has_kernel(y.dtype, b.backend)):
        b.call(_in_numpy(found, x_start, y_start), source, target)
        return
    shape, x_strides, y_strides = zip(*[(1, 0, 0)] * (RANK - len(found)), *found, strict=True)
    b.call("copy_strided", source, target, shape, x_start, x_strides, y_start, y_strides)


def has_kernel(dtype: np.dtype, backend: str = "cpu") -> bool:
    """Floats, and what quantized networks consist of; every number on a GPU, from which NumPy is far."""
    return dtype.kind in ("biuf" if backend == "cuda" else "f") or dtype in (np.int8, np.uint8)


def _in_numpy(axes: Sequence[Axis], x_start: int, y_start: int) -> Callable[..., None]:
    """The same copy without a kernel, which would have to be compiled for each type of integers too."""
    sizes, x_steps, y_steps = zip(*axes, strict=True) if axes else ((), (), ())

    def move(x: np.ndarray, y: np.ndarray) -> None:
        source, target = (
            np.lib.stride_tricks.as_strided(a[start:], sizes, [step * a.itemsize for step in steps])
            for a, start, steps in ((x, x_start, x_steps), (y, y_start, y_steps))
        )
        target[...] = source

    return move


def fill(b: Binder, y: Value, value: float) -> None:
    """Emit the filling of the whole of y."""
    assert y.dtype is not None
    if y.size and has_kernel(y.dtype, b.backend):
        b.call("fill", b.buffer(y.name), y.dtype.type(value))
    elif y.size:
        b.call(lambda array: array.fill(value), b.buffer(y.name))
