"""The matrices of Winograd's minimal filtering F(m, r): m results of a filter of r taps from n = m + r - 1 products.

result = output @ ((filter @ taps) * (input @ samples)), in two dimensions applied to rows and to columns. They follow
from interpolation at n - 1 points and at infinity (Toom and Cook; Winograd, "Arithmetic Complexity of Computations",
1980; Lavin and Gray, arXiv:1509.09308).

The points decide how far rounding errors grow (Barabasz and others, arXiv:1803.10986). Pairs of opposite points let two
rows of a transform share their sums (linear.py); of the pairs tried for n = 6, 1/sqrt(2) and sqrt(2) gave the least
error: a quarter of that of the usual 1 and 2, half of that of the best points without symmetry.
"""

from __future__ import annotations

from functools import cache

import numpy as np

__all__ = ["POINTS", "filter_matrix", "input_matrix", "output_matrix"]

POINTS = {
    4: (0.0, 1.0, -1.0),
    6: (0.0, 0.5**0.5, -(0.5**0.5), 2.0**0.5, -(2.0**0.5)),
}
"""Number of products -> the finite points; opposite ones next to each other."""


def _others(n: int, i: int) -> np.ndarray:
    return np.array([p for k, p in enumerate(POINTS[n]) if k != i])


@cache
def input_matrix(n: int) -> np.ndarray:
    """(n, n): from n samples to n factors. It depends on n alone, not on how n is shared by results and taps."""
    rows = [[*np.polynomial.polynomial.polyfromroots(_others(n, i)), 0.0] for i in range(n - 1)]
    return np.round([*rows, np.polynomial.polynomial.polyfromroots(POINTS[n])], 15)


@cache
def filter_matrix(n: int, taps: int) -> np.ndarray:
    """(n, taps): from the filter's taps to n factors."""
    rows = [[p**j / np.prod(p - _others(n, i)) for j in range(taps)] for i, p in enumerate(POINTS[n])]
    return np.round([*rows, [0.0] * (taps - 1) + [1.0]], 15)


@cache
def output_matrix(n: int, results: int) -> np.ndarray:
    """(results, n): from n products to the results."""
    columns = [[p**j for j in range(results)] for p in POINTS[n]]
    return np.round([*columns, [0.0] * (results - 1) + [1.0]], 15).T
