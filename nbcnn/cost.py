"""How long a convolution takes by each algorithm: a model that was fitted to measurements.

A layer's time is that of its arithmetic, or that of streaming its weights from memory, whichever is
longer. Only ratios matter here: what all algorithms of a layer have in common, such as reading the input and writing
the output, is left out. Cycles are those of one fused multiply-add on one register.

The constants come from the times that `python -m bench algorithms` measures. It also says how often the model picks the
fastest algorithm, what it loses where it does not (0.6 to 1.6% over 80 layers), and which constants would
have lost least.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nbcnn.kernels.cpu.tiling import ROWS, SHORT_ROWS, lanes

__all__ = ["FITTED", "Constants", "Layer", "cycles"]


@dataclass(frozen=True)
class Constants:
    """direct: share of the multiply-add ceiling that implicit GEMM reaches; product: the same for the products of
    Winograd's algorithm. transform: points -> cycles to transform one register of channels of a tile, there or back.
    weights: points -> cycles to transform one register of filters. stream: bytes of weights that a thread reads in a
    cycle when all threads read.
    """

    direct: float
    product: float
    transform: Mapping[int, float]
    weights: Mapping[int, float]
    stream: float


FITTED = Constants(direct=0.88, product=0.86, transform={4: 95.0, 6: 260.0}, weights={4: 50.0, 6: 120.0}, stream=4.6)
"""To a 2-core AMD EPYC (Zen 4) with AVX-512."""


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


def cycles(layer: Layer, points: int, constants: Constants = FITTED) -> float:
    """Estimated cycles by Winograd's algorithm of so many points; 0: by implicit GEMM.

    Of all threads together, so that the choice, and with it the results, do not depend on how many there are.
    """
    registers = layer.channels / lanes(layer.itemsize)
    weights = layer.depth * layer.channels * layer.itemsize
    if points == 0:
        compute = -(-layer.rows // ROWS) * ROWS * 9 * layer.depth * registers / constants.direct
        return max(compute, 9 * weights / constants.stream)
    tiles = layer.tiles[points]
    product = _padded(tiles) * points**2 * layer.depth * registers / constants.product
    transforms = tiles * (registers + layer.depth / lanes(layer.itemsize)) * constants.transform[points]
    found = max(product + transforms, points**2 * weights / constants.stream)
    if layer.changing:
        found += layer.depth * registers * constants.weights[points] + points**2 * weights / constants.stream
    return found
