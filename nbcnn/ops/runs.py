"""How a tensor is reduced over any of its axes, by kernels that know (outer, rows, inner) -> (outer, inner): axes are
brought together one run of neighbours in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, prod

from nbcnn.binder import Binder, Buffer
from nbcnn.graph import Value
from nbcnn.kernels import opcodes
from nbcnn.kernels.cuda.row_parts import rows_of_part
from nbcnn.ops.broadcast import memory_order
from nbcnn.ops.strided import copy, strides

__all__ = ["Run", "bind_reduction", "merged_runs", "reduce_runs", "runs"]

AFTER = {opcodes.SUM_OF_SIZES: opcodes.SUM, opcodes.SUM_OF_SQUARES: opcodes.SUM}
"""How the results of a first pass are brought together, where it is not as in that pass."""
EMPTY = {opcodes.MAX: -inf, opcodes.MIN: inf, opcodes.PRODUCT: 1.0}
"""What the reduction of nothing is, where it is not 0."""

BLOCK = 16384
"""Elements that one task sums, where there are too few sums to go round."""
TASKS = 64
NARROW, FOLDED = 64, 512
"""Rows narrower than the first are taken several at a time, up to the second."""


@dataclass(frozen=True)
class Run:
    """Neighbouring axes in memory that are all reduced, or all kept."""

    size: int
    reduced: bool


def runs(x: Value, axes: Sequence[int]) -> list[Run]:
    """x in memory order, as runs; axes of size 1 join either kind."""
    return merged_runs(Run(x.dims[axis], axis in axes) for axis in memory_order(x))


def merged_runs(parts: Iterable[Run]) -> list[Run]:
    """The same with neighbours of one kind as one."""
    found: list[Run] = []
    for run in parts:
        if run.size == 1:
            continue
        size = run.size
        if found and found[-1].reduced == run.reduced:
            size *= found.pop().size
        found.append(Run(size, run.reduced))
    return found


def bind_reduction(b: Binder, code: int, x: Value, y: Value, axes: Sequence[int], scale: float = 1.0) -> None:
    """Emit y = scale times x reduced over ONNX axes; y has the axes that are left, in order, with or without ones
    between them.
    """
    left = [axis for axis in memory_order(x) if axis not in axes and x.dims[axis] != 1]
    order = [axis for axis in memory_order(y) if y.dims[axis] != 1]
    # Where the axes that are left lie in another order in y, they are reduced into scratch memory first.
    names = iter(axis for axis in range(len(x.dims)) if axis not in axes and x.dims[axis] != 1)
    axis_of = {axis: next(names) for axis in range(len(y.dims)) if y.dims[axis] != 1}
    if [axis_of[axis] for axis in order] == left:
        reduce_runs(b, code, b.buffer(x.name), b.buffer(y.name), runs(x, axes), scale)
        return
    middle = b.graph.new_value(f"{y.name}.reduced", y.dtype, [x.dims[axis] for axis in left])
    reduce_runs(b, code, b.buffer(x.name), b.buffer(middle), runs(x, axes), scale)
    source = b.value(middle)
    step = dict(zip(left, strides(source), strict=True))
    target = strides(y)
    copy(b, source, y, [(y.dims[axis], step[axis_of[axis]], target[axis]) for axis in order])


def reduce_runs(b: Binder, code: int, x: Buffer, y: Buffer, left: list[Run], scale: float) -> None:
    """The passes, each over the longest run that is still to be reduced."""
    left = list(left)
    if not any(run.reduced for run in left):
        left.append(Run(1, True))
    while any(run.reduced for run in left):
        index = max((i for i, run in enumerate(left) if run.reduced), key=lambda i: left[i].size)
        outer, inner = prod(r.size for r in left[:index]), prod(r.size for r in left[index + 1 :])
        rows = left.pop(index).size
        last = not any(run.reduced for run in left)
        target = y if last else b.scratch(outer * inner)
        _pass(b, code, x, target, (outer, rows, inner), scale if last else 1.0)
        x, code = target, AFTER.get(code, code)


def _pass(b: Binder, code: int, x: Buffer, y: Buffer, shape: tuple[int, int, int], scale: float) -> None:
    """(outer, rows, inner) -> (outer, inner): at once, or in blocks of rows where there are few sums of many rows."""
    outer, rows, inner = shape
    one, factor = b.dtype.type(1), b.dtype.type(scale)
    if rows == 0 or outer * inner == 0:
        if outer * inner:
            b.call("fill", y, b.dtype.type(EMPTY.get(code, 0.0)))
        return
    kernel = "reduce_mapped" if code in AFTER or code == opcodes.PRODUCT else "reduce_rows"
    fold, block = (1, min(rows_of_part(*shape), rows)) if b.backend == "cuda" else _split(*shape)
    parts = -(-(rows // fold) // block)
    if parts * fold == 1:
        b.call(kernel, code, x, y, shape, rows, factor)
        return
    partial = b.scratch(outer * parts * fold * inner)
    b.call(kernel, code, x, partial, (outer, rows // fold, inner * fold), block, one)
    kernel = "reduce_mapped" if code == opcodes.PRODUCT else "reduce_rows"
    b.call(kernel, AFTER.get(code, code), partial, y, (outer, parts * fold, inner), parts * fold, factor)


def _split(outer: int, rows: int, inner: int) -> tuple[int, int]:
    """How many neighbouring rows are taken as one, and how many such make a block, on the CPU."""
    fold = _fold(rows, inner)
    block = max(BLOCK // (inner * fold), 1)
    if outer * -(-inner // 1024) >= TASKS or rows // fold <= 2 * block:
        block = rows // fold
    return fold, block


def _fold(rows: int, inner: int) -> int:
    """How many neighbouring rows are taken as one, so that a narrow one fills the vectors."""
    fold = 1
    while 1 < inner < NARROW and rows % (2 * fold) == 0 and 2 * fold * inner <= FOLDED and rows > 32 * fold:
        fold *= 2
    return fold
