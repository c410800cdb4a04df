"""How long a convolution takes by each algorithm: a model that was fitted to measurements.

A layer's time is that of its arithmetic on all threads, or that of streaming its weights from memory, whichever is
longer. Only ratios matter here: what all algorithms of a layer have in common, such as reading the input and writing
the output, is left out. Cycles are those of one fused multiply-add on one register.

The constants were fitted to the times that `python -m bench algorithms` reports, which also says how often the model
picks the fastest algorithm, and what it costs where it does not.
"""

from __future__ import annotations

from dataclasses import dataclass

from nbcnn.kernels.cpu.tiling import ROWS, SHORT_ROWS, lanes

__all__ = ["Layer", "cycles"]

DIRECT_SHARE = 0.88
"""Share of the multiply-add ceiling that implicit GEMM reaches."""
PRODUCT_SHARE = 0.86
"""The same for the products of Winograd's algorithm."""
TRANSFORM = {4: 95.0, 6: 260.0}
"""Points -> cycles to transform one register of channels of one tile, there or back."""
WEIGHTS = {4: 50.0, 6: 120.0}
"""Points -> cycles to transform one register of filters."""
STREAM = 4.6
"""Bytes of weights that a thread reads in a cycle, when all threads read."""


@dataclass(frozen=True)
class Layer:
    """A convolution of 3x3 taps. rows: pixels of the output in all pictures. tiles: points -> tiles in all pictures.
    changing: whether the weights are new at every call, and must be transformed each time.
    """

    rows: int
    tiles: dict[int, int]
    depth: int
    channels: int
    itemsize: int
    changing: bool


def _padded(rows: int) -> int:
    """Rows that the register tiles compute for so many."""
    tall, left = divmod(rows, ROWS)
    if left == 0:
        return rows
    return tall * ROWS + (SHORT_ROWS if left <= SHORT_ROWS else ROWS)


def cycles(layer: Layer, points: int, threads: int) -> float:
    """Estimated cycles by Winograd's algorithm of so many points; 0: by implicit GEMM."""
    registers = layer.channels / lanes(layer.itemsize)
    weights = layer.depth * layer.channels * layer.itemsize
    if points == 0:
        compute = -(-layer.rows // ROWS) * ROWS * 9 * layer.depth * registers / DIRECT_SHARE
        return max(compute / threads, 9 * weights / STREAM / threads)
    tiles = layer.tiles[points]
    product = _padded(tiles) * points**2 * layer.depth * registers / PRODUCT_SHARE
    transforms = tiles * (registers + layer.depth / lanes(layer.itemsize)) * TRANSFORM[points]
    found = max((product + transforms) / threads, points**2 * weights / STREAM / threads)
    if layer.changing:
        found += layer.depth * registers * WEIGHTS[points] / threads + points**2 * weights / STREAM / threads
    return found
