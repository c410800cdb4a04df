"""Where the largest or smallest elements along an axis lie, and the first few of them in order. NaN counts as the
largest of all for TopK, and comes first for the others, as in NumPy.
"""

from __future__ import annotations

from math import isnan

from nbcnn.kernels.cuda._cuda import BLOCK, cuda, device, kernel, launch, spread, types
from nbcnn.kernels.cuda.block import threads_for
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.memory import get
from nbcnn.kernels.opcodes import MAX

__all__ = ["arg_extreme", "top_k"]

FEW = 64
"""Of so many elements, one or fewer are found by going through them all for each; to find more, each is compared with
all others.
"""


@device
def _wins(code, u, i, v, j, last):
    """Whether element i, which is u, takes the place of j, which is v; a place below 0 is none."""
    if i < 0 or j < 0:
        return i >= 0
    if isnan(u) != isnan(v):
        return isnan(u)
    if u == v or isnan(u):
        return i > j if last else i < j
    return u > v if code == MAX else u < v


@kernel
def _arg(code, x, y, shape, last, tiles):
    values = cuda.shared.array(BLOCK, types.float64)
    places = cuda.shared.array(BLOCK, types.int64)
    outer, rows, inner = shape
    tile, group = remainder(cuda.blockIdx.x, tiles), divide(cuda.blockIdx.x, tiles)
    column, line = tile * cuda.blockDim.x + cuda.threadIdx.x, group * cuda.blockDim.z + cuda.threadIdx.z
    inside = column < inner and line < outer
    base = line * rows * inner + column if inside else 0
    row, best, at = cuda.threadIdx.y, get(x, base), -1
    while inside and row < rows:
        value = get(x, base + row * inner)
        if _wins(code, value, row, best, at, last):
            best, at = value, row
        row += cuda.blockDim.y
    slot = (cuda.threadIdx.z * cuda.blockDim.x + cuda.threadIdx.x) * cuda.blockDim.y + cuda.threadIdx.y
    values[slot], places[slot] = best, at
    reach = cuda.blockDim.y >> 1
    while reach > 0:
        cuda.syncthreads()
        other = slot + reach
        if cuda.threadIdx.y < reach and _wins(code, values[other], places[other], values[slot], places[slot], last):
            values[slot], places[slot] = values[other], places[other]
        reach >>= 1
    if inside and cuda.threadIdx.y == 0:
        y[line * inner + column] = places[slot]


def arg_extreme(code, x, best, y, shape, last):
    """y (outer, inner) int64 = the row of the maximum (code MAX) or minimum of x (outer, rows, inner).

    best: for the CPU. shape: (outer, rows, inner), rows at least 1. last: of equal ones the last counts, not the first.
    """
    outer, rows, inner = shape
    threads = threads_for(inner, rows)
    tiles = -(-inner // threads[0])
    launch(_arg, tiles * -(-outer // threads[2]), threads, code, x, y, shape, last, tiles)


@device
def _before(u, i, v, j, largest):
    """Whether element i, which is u, comes before element j, which is v."""
    if u == v or (isnan(u) and isnan(v)):
        return i < j
    if isnan(u) or isnan(v):
        return isnan(u) == largest
    return (u > v) == largest


@kernel
def _rank(x, values, indices, count, shape, k, largest):
    t = cuda.grid(1)
    while t < count:
        _, rows, inner = shape
        line, i = divide(t, rows), remainder(t, rows)
        block, column = divide(line, inner), remainder(line, inner)
        base = block * rows * inner + column
        value, rank = get(x, base + i * inner), 0
        for j in range(rows):
            rank += 1 if _before(get(x, base + j * inner), j, value, i, largest) else 0
        if rank < k:
            place = (block * k + rank) * inner + column
            values[place], indices[place] = value, i
        t += cuda.gridsize(1)


@kernel
def _select(x, values, indices, shape, k, largest):
    found = cuda.shared.array(BLOCK, types.float64)
    places = cuda.shared.array(BLOCK, types.int64)
    _, rows, inner = shape
    block, column = divide(cuda.blockIdx.x, inner), remainder(cuda.blockIdx.x, inner)
    base, thread = block * rows * inner + column, cuda.threadIdx.x
    for number in range(k):
        # The first of all that come after the one that was found last.
        row, best, at = thread, get(x, base), -1
        while row < rows:
            value = get(x, base + row * inner)
            left = number == 0 or _before(found[0], places[0], value, row, largest)
            if left and (at < 0 or _before(value, row, best, at, largest)):
                best, at = value, row
            row += BLOCK
        cuda.syncthreads()
        found[thread], places[thread] = best, at
        reach = BLOCK >> 1
        while reach > 0:
            cuda.syncthreads()
            mine, other = places[thread], places[thread + reach] if thread < reach else -1
            if other >= 0 and (mine < 0 or _before(found[thread + reach], other, found[thread], mine, largest)):
                found[thread], places[thread] = found[thread + reach], other
            reach >>= 1
        cuda.syncthreads()
        if thread == 0:
            place = (block * k + number) * inner + column
            values[place], indices[place] = found[0], places[0]


def top_k(x, values, indices, shape, k, largest):
    """values, indices (outer, k, inner) = the k largest (or smallest) of x (outer, rows, inner), in order; of equal
    ones the first comes first. shape: (outer, rows, inner); 1 <= k <= rows.
    """
    outer, rows, inner = shape
    if rows > FEW * k:
        launch(_select, outer * inner, BLOCK, x, values, indices, shape, k, largest)
    else:
        spread(_rank, outer * rows * inner, x, values, indices, outer * rows * inner, shape, k, largest)
