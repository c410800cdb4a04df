"""What mma.py offers, for the simulator: the fragments of a warp are put together as the PTX ISA says, and multiplied.

Copies happen as late as they may: when their group is waited for. Until then their target holds NaN, so that a kernel
that reads too early, or starts a copy to what is still read, computes NaN. Only whole blocks may call `multiply`: it
meets at the block's barrier, for want of one of the warp.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ml_dtypes import bfloat16

from nbcnn.kernels.cuda._cuda import cuda, device

__all__ = [
    "commit",
    "copy_1",
    "copy_2",
    "copy_4",
    "load_transposed",
    "multiply",
    "multiply_bfloat16",
    "multiply_exactly",
    "multiply_float16",
    "multiply_pairs",
    "shared_floats",
    "tf32",
    "wait",
    "zeros",
]

WARP = 32

_fragments: dict[int, tuple[Any, Any]] = {}
"""Thread -> its fragments of A and of B."""
_lines: dict[int, int] = {}
"""Thread -> where the line of a square starts that it names."""
_products: dict[int, np.ndarray] = {}
"""Warp -> the product of what its threads hold."""
_copies: dict[int, list[list[tuple[Any, ...]]]] = {}
"""Thread -> its groups of copies, the open one last."""


@device
def shared_floats(count):
    return cuda.shared.array(count, np.float32)


@device
def zeros(rows, columns):
    return ((np.float32(0),) * 4,) * (len(rows) * len(columns))


@device
def tf32(value):
    bits = np.float32(value).view(np.uint32)
    finite = (bits & 0x7F800000) != 0x7F800000
    return np.uint32((int(bits) + 0x1000) & 0xFFFFE000 if finite else int(bits)).view(np.float32)


@device
def multiply(sums, a, b):
    return _multiply(sums, a, b, np.float32)


@device
def multiply_float16(sums, a, b):
    return _multiply(sums, a, b, np.float16)


@device
def multiply_bfloat16(sums, a, b):
    return _multiply(sums, a, b, bfloat16)


def _multiply(sums: Any, a: Any, b: Any, kind: Any) -> Any:
    """sums + a b, for fragments whose words of 32 bits are one number or two of a kind."""
    thread = cuda.threadIdx.x
    warp, lane = thread // WARP, thread % WARP
    _fragments[thread] = (a, b)
    cuda.syncthreads()
    if lane == 0:
        held = [_fragments[warp * WARP + k] for k in range(WARP)]
        left, right = (words.view(kind).astype(np.float64) for words in (_left(held, len(a)), _right(held, len(b))))
        _products[warp] = left @ right.T
    cuda.syncthreads()
    found = iter(_held(_products[warp], lane))
    return tuple([tuple([np.float32(s + next(found)) for s in fragment]) for fragment in sums])


@device
def load_transposed(shared, at, offsets):
    thread = cuda.threadIdx.x
    first, lane = thread - thread % WARP, thread % WARP
    assert at % 4 == 0
    _lines[thread] = at
    cuda.syncthreads()
    starts = [_lines[first + k] for k in range(WARP)]
    cuda.syncthreads()
    return tuple([tuple([_pair(shared, starts[8 * q :], offset, lane) for q in range(4)]) for offset in offsets])


def _pair(shared: Any, starts: list[int], offset: int, lane: int) -> np.uint32:
    """The halves of lines 2 t and 2 t + 1 at column g, as one word."""
    column = lane // 4
    words = [int(shared[starts[lane % 4 * 2 + i] + offset + column // 2].view(np.uint32)) for i in (0, 1)]
    low, high = (word >> 16 * (column % 2) & 0xFFFF for word in words)
    return np.uint32(high << 16 | low)


@device
def multiply_exactly(sums, left, right):
    across = 2 * len(right[0])
    total = np.array(sums)
    rows, columns = np.array(left), np.array(right)
    for place in range(len(sums)):
        m, n = divmod(place, across)
        for i in range(4):
            total[place, i] += rows[2 * m + i // 2] @ columns[:, n // 4 * 2 + i % 2, n % 4]
    return tuple([tuple(fragment) for fragment in total])


@device
def multiply_pairs(sums, left, right):
    across = len(right) // 2
    total = np.array(sums)
    rows, columns = np.array(left), np.array(right)
    for place in range(len(sums)):
        m, n = divmod(place, across)
        for i in range(4):
            total[place, i] += rows[:, m, [i // 2, 2 + i // 2]].reshape(-1) @ columns[2 * n + i % 2]
    return tuple([tuple(fragment) for fragment in total])


def _left(held: list[tuple[Any, Any]], tiles: int) -> np.ndarray:
    """The words (16 * tiles, 8) of the fragments of A."""
    matrix = np.zeros((tiles, 16, 8), np.uint32)
    for lane, (a, _) in enumerate(held):
        for i in range(tiles):
            for k, (row, column) in enumerate(((0, 0), (8, 0), (0, 4), (8, 4))):
                matrix[i, lane // 4 + row, lane % 4 + column] = a[i][k].view(np.uint32)
    return matrix.reshape(-1, 8)


def _right(held: list[tuple[Any, Any]], tiles: int) -> np.ndarray:
    """The words (8 * tiles, 8) of the fragments of B, column by column."""
    matrix = np.zeros((tiles, 8, 8), np.uint32)
    for lane, (_, b) in enumerate(held):
        for j in range(tiles):
            for k in range(2):
                matrix[j, lane // 4, lane % 4 + 4 * k] = b[j][k].view(np.uint32)
    return matrix.reshape(-1, 8)


def _held(product: np.ndarray, lane: int) -> list[float]:
    """What a lane holds of the product's tiles (16, 8), row by row."""
    return [
        product[i + lane // 4 + row, j + lane % 4 * 2 + column]
        for i in range(0, product.shape[0], 16)
        for j in range(0, product.shape[1], 8)
        for row in (0, 8)
        for column in (0, 1)
    ]


@device
def copy_4(shared, at, source, start, inside):
    _start_copy(cuda.threadIdx.x, shared, at, source, start, inside, 4)


@device
def copy_2(shared, at, source, start, inside):
    _start_copy(cuda.threadIdx.x, shared, at, source, start, inside, 2)


@device
def copy_1(shared, at, source, start, inside):
    _start_copy(cuda.threadIdx.x, shared, at, source, start, inside, 1)


def _start_copy(thread: int, shared: Any, at: int, source: Any, start: int, inside: bool, count: int) -> None:
    assert at % count == 0 and 0 <= at <= shared.size - count
    assert start % count == 0 and (not inside or 0 <= start <= source.size - count)
    _copies.setdefault(thread, [[]])[-1].append((shared, at, source, start, inside, count))
    for k in range(count):
        shared[at + k] = np.nan


@device
def commit():
    _copies.setdefault(cuda.threadIdx.x, [[]]).append([])


@device
def wait(groups):
    thread = cuda.threadIdx.x
    closed = _copies[thread][:-1]
    count = len(closed) - len(groups)
    for group in closed[: max(count, 0)]:
        for shared, at, source, start, inside, size in group:
            for k in range(size):
                shared[at + k] = source[start + k] if inside else 0
    del _copies[thread][: max(count, 0)]
