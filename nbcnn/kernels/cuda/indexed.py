"""Reading and writing rows at places that indices tell: Gather, GatherElements, GatherND, and the Scatter operators.

Nobody looks at indices before they are used, because a GPU would have to stop for it: what an index outside of its axis
reads is NaN, and nothing is written there.
"""

from __future__ import annotations

import math
from math import prod

import numpy as np

from nbcnn.kernels.cuda._cuda import cuda, device, kernel, launch, spread, types
from nbcnn.kernels.cuda.chains import TILE, link, width_of
from nbcnn.kernels.cuda.channels import columns, lanes_of
from nbcnn.kernels.cuda.copy import fill
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.memory import get
from nbcnn.kernels.opcodes import ADD, CLEAR, MAX, MUL, PUT

__all__ = ["gather_rows", "index_offsets", "scatter_rows"]


@kernel
def _offsets(indices, offsets, bad, shape, moves, sizes, strides):
    number = cuda.grid(1)
    while number < offsets.size:
        rest, at, outside = number, 0, False
        for axis in range(5, -1, -1):
            at += remainder(rest, shape[axis]) * moves[axis]
            rest = divide(rest, shape[axis])
        for k in range(sizes.size):
            size, index = get(sizes, k), np.int64(get(indices, number * sizes.size + k))
            index += size if index < 0 else 0
            outside |= index < 0 or index >= size
            at += index * get(strides, k)
        offsets[number] = -1 if outside else at
        if outside:
            bad[0] = 1
        number += cuda.gridsize(1)


def index_offsets(indices, offsets, bad, shape, moves, sizes, strides):
    """offsets (prod(shape),) = what index tuples stand for, in elements, -1 where one leaves its axis; bad (1,) = 1 if
    one does, else 0.

    indices: tuples of sizes.size integers, negative ones counted from the end. shape, moves: six integers each, the
    shape that the tuples have, and what is added for each step along it. sizes, strides: of the axes they count.
    """
    fill(bad, np.int64(0))
    spread(_offsets, prod(shape), indices, offsets, bad, shape, moves, sizes, strides)


@device
def _element(x, offsets, y, at, shape, pitch, offset_pitch):
    """Element `at` of y."""
    _, rows, length = shape
    row = divide(at, length)
    block = divide(row, rows)
    offset = get(offsets, block * offset_pitch + row - block * rows)
    value = get(x, block * pitch + max(offset, 0) + at - row * length)
    return value if offset >= 0 else y.dtype.type(math.nan)


@kernel
def _gather(x, offsets, y, total, lanes, shape, pitch, offset_pitch):
    i = cuda.grid(1)
    while i < lanes:
        p, q, r, s = columns(i, lanes, total)
        a = _element(x, offsets, y, p, shape, pitch, offset_pitch)
        b = _element(x, offsets, y, q, shape, pitch, offset_pitch)
        c = _element(x, offsets, y, r, shape, pitch, offset_pitch)
        d = _element(x, offsets, y, s, shape, pitch, offset_pitch)
        y[p], y[q], y[r], y[s] = a, b, c, d
        i += cuda.gridsize(1)


def gather_rows(x, offsets, y, shape, pitch, offset_pitch):
    """y (outer, rows, length) = the elements of x from outer * pitch + offsets[outer * offset_pitch + rows] on.

    shape: (outer, rows, length).
    """
    total = prod(shape)
    spread(_gather, lanes_of(total), x, offsets, y, total, lanes_of(total), shape, pitch, offset_pitch)


@device
def _joined(code, v, u):
    """v op u; NaN wins."""
    if code == PUT:
        return u
    if code == ADD:
        return v + u
    if code == MUL:
        return v * u
    if code == MAX:
        return v if v >= u or math.isnan(v) else u
    return v if v <= u or math.isnan(v) else u


@kernel
def _clear(offsets, y, count, shape, pitch, offset_pitch):
    i = cuda.grid(1)
    while i < count:
        _, rows, length = shape
        row = divide(i, length)
        block = divide(row, rows)
        offset = get(offsets, block * offset_pitch + row - block * rows)
        if offset >= 0:
            y[block * pitch + offset + i - row * length] = 0
        i += cuda.gridsize(1)


@kernel
def _scatter(code, x, offsets, y, shape, pitch, offset_pitch, width, chunks):
    keys = cuda.shared.array(TILE, types.int64)
    following = cuda.shared.array(TILE, types.int32)
    leads = cuda.shared.array(TILE, types.boolean)
    _, rows, length = shape
    thread, block = cuda.threadIdx.x, divide(cuda.blockIdx.x, chunks)
    column = remainder(cuda.blockIdx.x, chunks) * width + remainder(thread, width)
    for start in range(0, rows, TILE):
        row = start + thread
        keys[thread] = get(offsets, block * offset_pitch + row) if row < rows else -1
        cuda.syncthreads()
        link(keys, following, leads, thread)
        cuda.syncthreads()
        lead = divide(thread, width)
        while lead < TILE:
            if leads[lead] and column < length:
                at, member = block * pitch + keys[lead] + column, lead
                value = y[at]
                while member >= 0:
                    value = _joined(code, value, get(x, (block * rows + start + member) * length + column))
                    member = following[member]
                y[at] = value
            lead += divide(TILE, width)
        cuda.syncthreads()


def scatter_rows(code, x, offsets, y, shape, pitch, offset_pitch):
    """y, from outer * pitch + offsets[outer * offset_pitch + row] on, is joined with the rows of x (outer, rows,
    length).

    code: PUT, CLEAR (0 is put there; x is not read), ADD, MUL, MAX, MIN. shape: (outer, rows, length). The rows of one
    `outer` are taken in order (chains.py); those of two must not meet.
    """
    outer, _, length = shape
    if code == CLEAR:
        spread(_clear, prod(shape), offsets, y, prod(shape), shape, pitch, offset_pitch)
        return
    width = width_of(length)
    chunks = -(-length // width)
    launch(_scatter, outer * chunks, TILE, code, x, offsets, y, shape, pitch, offset_pitch, width, chunks)
