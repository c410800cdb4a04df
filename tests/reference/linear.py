"""ONNX Gemm-13 and MatMul-13."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from reference._float64 import Array, f64, unbroadcast


def gemm(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    c: npt.ArrayLike | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Array:
    """alpha A' B' + beta C, with A' (M, K) = a or its transpose, B' (K, N) likewise, C broadcast to (M, N)."""
    y = alpha * (_turned(f64(a), transA) @ _turned(f64(b), transB))
    return y if c is None else y + beta * f64(c)


def gemm_backward(
    dy: npt.ArrayLike,
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    c: npt.ArrayLike | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> tuple[Array, Array, Array | None]:
    """-> (da, db, dc); dc is None where there is no c."""
    dy, a, b = f64(dy), _turned(f64(a), transA), _turned(f64(b), transB)
    dc = None if c is None else unbroadcast(beta * dy, f64(c).shape)
    return _turned(alpha * dy @ b.T, transA), _turned(alpha * a.T @ dy, transB), dc


def matmul(a: npt.ArrayLike, b: npt.ArrayLike) -> Array:
    """numpy.matmul: stacks of matrices, broadcast; a vector is a row on the left, a column on the right."""
    return np.matmul(f64(a), f64(b))


def matmul_backward(dy: npt.ArrayLike, a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[Array, Array]:
    dy, a, b = f64(dy), f64(a), f64(b)
    rows = a[None, :] if a.ndim == 1 else a
    columns = b[:, None] if b.ndim == 1 else b
    if b.ndim == 1:
        dy = np.expand_dims(dy, -1)
    if a.ndim == 1:
        dy = np.expand_dims(dy, -2)
    da = unbroadcast(dy @ columns.swapaxes(-1, -2), rows.shape)
    db = unbroadcast(rows.swapaxes(-1, -2) @ dy, columns.shape)
    return da.reshape(a.shape), db.reshape(b.shape)


def _turned(m: Array, transposed: int) -> Array:
    return m.T if transposed else m
