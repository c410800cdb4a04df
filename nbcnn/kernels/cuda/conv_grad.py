"""The gradient of a convolution by its weights: a product whose long side is the pixels.

Blocks share the pixels; where more than one does, each leaves the sums of its part in `packed`, and the parts are added
in an order that is fixed. Weights lie in panels, as nbcnn/kernels/cpu/tiling.py says.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np

from nbcnn.kernels.cpu.tiling import panel_width
from nbcnn.kernels.cuda._cuda import SIMULATED, Kernel, launch
from nbcnn.kernels.cuda.grad_plain import PLAIN_SIZE, PLAIN_THREADS, plain_grad
from nbcnn.kernels.cuda.grad_tensor import TENSOR_THREADS, tensor_code, tile_size
from nbcnn.kernels.cuda.partial import add_parts

__all__ = ["Products", "conv_weight_grad", "conv_weight_grad_fp32"]

SMALL, EXACT_LARGE, LARGE = (2, 4), (4, 4), ((4, 4) if SIMULATED else (4, 8))
"""Fragments of a warp, down and across, for gradients of few and of many rows and columns."""


def _fills(count: int, large: int, small: int) -> bool:
    """Whether large tiles, which read less, cover so many rows or columns with little more than small ones do."""
    return 3 * -(-count // large) * large < 4 * -(-count // small) * small


class Products(NamedTuple):
    """What every form of the gradient takes.

    partials: room for `parts` times dw, if that is more than one. source, outer, weights: as conv_weight_grad's.
    dense: a single tap that does not move, in strides of 1; taps is not read.
    """

    x: Any
    dy: Any
    dw: Any
    taps: Any
    partials: Any
    source: tuple[int, ...]
    outer: tuple[int, ...]
    weights: tuple[int, ...]
    parts: int
    dense: bool = False

    def launch(self, code: Kernel, size: tuple[int, int], threads: int, *more: Any) -> None:
        """Start code whose blocks make `size` rows and columns of the gradient, and add up the parts."""
        groups, channels, all_taps = self.weights
        width = panel_width(channels, self.dw.dtype.itemsize)
        columns = -(-channels // width) * width
        tiles = groups * -(-all_taps * self.source[4] // size[0]) * -(-columns // size[1])
        target = self.partials if self.parts > 1 else self.dw
        arrays = self.x, self.dy, target, self.taps
        share = -(-prod(self.outer[:4]) // self.parts)
        shapes = self.source, self.outer, self.weights, columns, width, share
        launch(code, (tiles, self.parts), threads, *arrays, *shapes, *more)
        if self.parts > 1:
            add_parts(self.partials, self.dw, self.parts)

    def start(self, exact: bool) -> None:
        """Start what suits; exact: not in TF32."""
        if self.dw.dtype != np.float32:
            self.launch(plain_grad, (PLAIN_SIZE, PLAIN_SIZE), PLAIN_THREADS, int(self.dense))
            return
        channels, rows = self.weights[1], self.weights[2] * self.source[4]
        large = EXACT_LARGE if exact else LARGE
        (small_m, small_n), (large_m, large_n) = tile_size(*SMALL), tile_size(*large)
        down = large[0] if _fills(rows, large_m, small_m) else SMALL[0]
        across = large[1] if _fills(channels, large_n, small_n) else SMALL[1]
        # Copies of 16 bytes need runs and pixels that are multiples of them.
        x_each = 1 if self.source[3] % 4 or self.source[4] % 4 else 4
        dy_each = 1 if self.outer[4] % 4 or channels % 4 else 4
        code = tensor_code(down, across, x_each, dy_each, self.dense, exact)
        self.launch(code, tile_size(down, across), TENSOR_THREADS)


def conv_weight_grad(x, dy, dw, taps, scratch, spill, packed, source, outer, weights, schedule):
    """dw[tap, c, o] = sum over pixels of x[pixel moved by the tap, c] * dy[pixel, o], packed as the weights are.

    As on the CPU, but packed is room for schedule[1] times dw: for so many parts of the pixels, if it is more than one.
    Taps are numbered in order. float32 is multiplied in TF32.
    """
    Products(x, dy, dw, taps, packed, source, outer, weights, schedule[1]).start(exact=False)


def conv_weight_grad_fp32(x, dy, dw, taps, scratch, spill, packed, source, outer, weights, schedule):
    """conv_weight_grad, not in TF32."""
    Products(x, dy, dw, taps, packed, source, outer, weights, schedule[1]).start(exact=True)
