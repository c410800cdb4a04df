"""Two-dimensional linear transforms with constant matrices, on tiles of SIMD registers: what Winograd's algorithm does
before and after its products.

`sandwich` emits result = matrix @ tile @ matrix.T, lane by lane, from memory to memory. Where rows of the matrix differ
only in the signs of some columns, or columns in the signs of some rows, their sums are shared. Rows of the result
are worked out in groups, each from as much of the tile as it needs, because the whole tile would not fit into the
registers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from nbcnn.kernels.cpu.simd import VecType, emit_fma

__all__ = ["apply_rows", "row_groups", "sandwich"]

Load = Callable[[int, int], Any]
Store = Callable[[int, int, Any], None]


def _parts(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """(a, b) with first = a + b, second = a - b, and no place where both are set; None if there are none such."""
    a, b = np.round((first + second) / 2, 15), np.round((first - second) / 2, 15)
    return (a, b) if np.any(a) and np.any(b) and not np.any(a * b) else None


def row_groups(matrix: np.ndarray) -> list[tuple[int, ...]]:
    """Rows to work out together: all of a matrix with fewer rows than columns, else pairs that share their sums."""
    if matrix.shape[0] < matrix.shape[1]:
        return [tuple(range(len(matrix)))]
    groups: list[tuple[int, ...]] = []
    row = 0
    while row < len(matrix):
        paired = row + 1 < len(matrix) and _parts(matrix[row], matrix[row + 1]) is not None
        groups.append((row, row + 1) if paired else (row,))
        row += len(groups[-1])
    return groups


def apply_rows(builder: Any, kind: VecType, matrix: np.ndarray, rows: Sequence[int], vecs: Sequence[Any]) -> list[Any]:
    """(matrix @ vecs)[rows], for rows that are a group; entries of `vecs` that meet only zeros may be None."""
    if len(rows) == 2:
        shared = _parts(matrix[rows[0]], matrix[rows[1]])
        if shared is not None:
            return _sum_and_difference(builder, kind, *shared, vecs)
    matrix, vecs = _butterflies(builder, matrix[list(rows)], vecs)
    return [_combine(builder, kind, row, vecs) for row in matrix]


def _sum_and_difference(
    builder: Any, kind: VecType, even: np.ndarray, odd: np.ndarray, vecs: Sequence[Any]
) -> list[Any]:
    """(even + odd) @ vecs and (even - odd) @ vecs; a factor taken out of odd costs nothing in the last step."""
    factor = odd[np.flatnonzero(odd)[-1]]
    a = _combine(builder, kind, even, vecs)
    b = _combine(builder, kind, odd / factor, vecs)
    return [_multiply_add(builder, kind, sign * factor, b, a) for sign in (1.0, -1.0)]


def _butterflies(builder: Any, matrix: np.ndarray, vecs: Sequence[Any]) -> tuple[np.ndarray, list[Any]]:
    """Replace pairs of vectors by their sum and difference where that leaves zeros in the matrix."""
    matrix, vecs = matrix.copy(), list(vecs)
    for i in range(matrix.shape[1] - 1):
        shared = _parts(matrix[:, i], matrix[:, i + 1])
        if len(matrix) > 1 and shared is not None and np.any(matrix[:, i] != 0) and vecs[i] is not None:
            matrix[:, i], matrix[:, i + 1] = shared
            vecs[i : i + 2] = builder.fadd(*vecs[i : i + 2]), builder.fsub(*vecs[i : i + 2])
    return matrix, vecs


def _combine(builder: Any, kind: VecType, weights: np.ndarray, vecs: Sequence[Any]) -> Any:
    """The sum of weights[i] * vecs[i]; a weight of 1 comes first where there is one, as it needs no multiplication."""
    total = None
    for i in sorted(np.flatnonzero(weights).tolist(), key=lambda i: (weights[i] != 1.0, weights[i] != -1.0)):
        total = _multiply_add(builder, kind, weights[i], vecs[i], total)
    return total


def _multiply_add(builder: Any, kind: VecType, weight: float, vec: Any, total: Any) -> Any:
    if total is None:
        return vec if weight == 1.0 else builder.fmul(_constant(kind, weight), vec)
    if weight == 1.0:
        return builder.fadd(total, vec)
    if weight == -1.0:
        return builder.fsub(total, vec)
    return emit_fma(builder, kind, vec, _constant(kind, weight), total)


def _constant(kind: VecType, value: float) -> Any:
    element = ir.FloatType() if kind.element.bitwidth == 32 else ir.DoubleType()
    rounded = float(np.float32(value)) if kind.element.bitwidth == 32 else float(value)
    return ir.Constant(ir.VectorType(element, kind.count), [rounded] * kind.count)


def sandwich(builder: Any, kind: VecType, matrix: np.ndarray, load: Load, store: Store) -> None:
    """Emit store(i, j, result[i, j]) for result = matrix @ tile @ matrix.T, where tile[i, j] = load(i, j)."""
    size = matrix.shape[1]
    groups = row_groups(matrix)
    for rows in groups:
        needed = np.any(matrix[list(rows)] != 0, axis=0)
        columns = [
            apply_rows(builder, kind, matrix, rows, [load(i, j) if needed[i] else None for i in range(size)])
            for j in range(size)
        ]
        for place, i in enumerate(rows):
            line = [column[place] for column in columns]
            for across in groups:
                for j, value in zip(across, apply_rows(builder, kind, matrix, across, line), strict=True):
                    store(i, j, value)
