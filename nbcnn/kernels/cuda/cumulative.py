"""Sums and products of all elements up to each."""

from __future__ import annotations

from nbcnn.kernels.cuda._cuda import BLOCK, WAVES, cuda, device, kernel, launch, spread
from nbcnn.kernels.cuda.index import divide
from nbcnn.kernels.opcodes import ADD

__all__ = ["accumulate", "accumulate_weighted"]

NEIGHBOURS = 32
"""Lines side by side from which on a thread takes each: a warp of them reads what lies together."""


@device
def _joined(code, a, b):
    return a + b if code == ADD else a * b


@kernel
def _columns(code, x, y, shape, exclusive, reverse):
    """A thread goes along each line."""
    outer, rows, inner = shape
    index = cuda.grid(1)
    while index < outer * inner:
        o = divide(index, inner)
        at, step = o * rows * inner + index - o * inner, inner
        if reverse:
            at, step = at + (rows - 1) * inner, -inner
        total = x.dtype.type(0 if code == ADD else 1)
        for row in range(rows):
            before, total = total, _joined(code, total, x[at + row * step])
            y[at + row * step] = before if exclusive else total
        index += cuda.gridsize(1)


@kernel
def _lines(code, x, y, shape, exclusive, reverse):
    """A block goes along each line, a stretch of it at a time (Hillis and Steele, "Data Parallel Algorithms", 1986)."""
    outer, rows, inner = shape
    shared = cuda.shared.array(BLOCK, x.dtype)
    me, start = cuda.threadIdx.x, x.dtype.type(0 if code == ADD else 1)
    index = cuda.blockIdx.x
    while index < outer * inner:
        o = divide(index, inner)
        carry = start
        for first in range(0, rows, BLOCK):
            row = first + me
            at = (o * rows + (rows - 1 - row if reverse else row)) * inner + index - o * inner
            total = x[at] if row < rows else start
            shared[me] = total
            cuda.syncthreads()
            reach = 1
            while reach < BLOCK:
                before = shared[me - reach] if me >= reach else start
                cuda.syncthreads()
                total = _joined(code, before, total)
                shared[me] = total
                cuda.syncthreads()
                reach *= 2
            if exclusive:
                total = shared[me - 1] if me > 0 else start
            if row < rows:
                y[at] = _joined(code, carry, total)
            carry = _joined(code, carry, shared[BLOCK - 1])
            cuda.syncthreads()
        index += cuda.gridDim.x


def accumulate(code, x, y, shape, exclusive, reverse):
    """y[o, r, i] = x[o, 0, i] op ... op x[o, r, i]; x, y (outer, rows, inner).

    code: ADD or MUL. exclusive: leave out the last operand. reverse: from the last row on, backwards.
    """
    outer, rows, inner = shape
    if inner >= NEIGHBOURS or rows <= NEIGHBOURS:
        spread(_columns, outer * inner, code, x, y, shape, exclusive, reverse)
    else:
        launch(_lines, min(outer * inner, WAVES), BLOCK, code, x, y, shape, exclusive, reverse)


@kernel
def _weighted_columns(w, x, y, shape, exclusive, reverse):
    """A thread goes along each line."""
    outer, rows, inner = shape
    index = cuda.grid(1)
    while index < outer * inner:
        o = divide(index, inner)
        at, step = o * rows * inner + index - o * inner, inner
        if reverse:
            at, step = at + (rows - 1) * inner, -inner
        rest = x.dtype.type(0)
        for row in range(rows):
            here = at + row * step
            own = x[here]
            total = rest if exclusive else rest + own
            y[here] = total
            rest = w[here] * total
            if exclusive:
                rest += own
        index += cuda.gridsize(1)


@kernel
def _weighted_lines(w, x, y, shape, exclusive, reverse):
    """A block goes along each line, as in _lines. Every row is a function of the row before, a times that plus b; what
    is brought together are such functions.
    """
    outer, rows, inner = shape
    factors = cuda.shared.array(BLOCK, x.dtype)
    terms = cuda.shared.array(BLOCK, x.dtype)
    me, zero, one = cuda.threadIdx.x, x.dtype.type(0), x.dtype.type(1)
    index = cuda.blockIdx.x
    while index < outer * inner:
        o = divide(index, inner)
        carry, step = zero, -inner if reverse else inner
        for first in range(0, rows, BLOCK):
            row = first + me
            at = (o * rows + (rows - 1 - row if reverse else row)) * inner + index - o * inner
            a, b = one, zero
            if row < rows:
                a = w[at - step] if row > 0 else zero
                if not exclusive:
                    b = x[at]
                elif row > 0:
                    b = x[at - step]
            factors[me], terms[me] = a, b
            cuda.syncthreads()
            reach = 1
            while reach < BLOCK:
                factor, term = one, zero
                if me >= reach:
                    factor, term = factors[me - reach], terms[me - reach]
                cuda.syncthreads()
                a, b = a * factor, b + a * term
                factors[me], terms[me] = a, b
                cuda.syncthreads()
                reach *= 2
            if row < rows:
                y[at] = a * carry + b
            carry = factors[BLOCK - 1] * carry + terms[BLOCK - 1]
            cuda.syncthreads()
        index += cuda.gridDim.x


def accumulate_weighted(w, x, y, shape, exclusive, reverse):
    """y[o, r, i] = x[o, r, i] + w[o, r - 1, i] y[o, r - 1, i], from y[o, 0, i] = x[o, 0, i] on; all (outer, rows,
    inner).

    exclusive: x[o, r - 1, i] is added instead, to nothing at first. reverse: from the last row on, backwards.
    """
    outer, rows, inner = shape
    if inner >= NEIGHBOURS or rows <= NEIGHBOURS:
        spread(_weighted_columns, outer * inner, w, x, y, shape, exclusive, reverse)
    else:
        launch(_weighted_lines, min(outer * inner, WAVES), BLOCK, w, x, y, shape, exclusive, reverse)
