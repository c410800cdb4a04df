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
from nbcnn.kernels.cuda.halves import is_half, kind_of
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

    def launch(self, code: Kernel, size: tuple[int, int], threads: int, *more: Any, per_word: int = 1) -> None:
        """Start code whose blocks make `size` rows and columns of the gradient, and add up the parts.

        per_word: elements of what the code counts x and dy in.
        """
        groups, channels, all_taps = self.weights
        width = panel_width(channels, self.dw.dtype.itemsize)
        columns = -(-channels // width) * width
        tiles = groups * -(-all_taps * self.source[4] // size[0]) * -(-columns // size[1])
        target = self.partials if self.parts > 1 else self.dw
        operands = (self.x, self.dy) if per_word == 1 else (self.x.words(), self.dy.words())
        pitch, run, out_pitch, across = (n // per_word for n in (*self.source[3:5], self.outer[4], channels))
        source, outer = (*self.source[:3], pitch, run, *self.source[5:]), (*self.outer[:4], out_pitch)
        share = -(-prod(self.outer[:4]) // self.parts)
        shapes = source, outer, (groups, across, all_taps), columns, width, share
        launch(code, (tiles, self.parts), threads, *operands, target, self.taps, *shapes, *more)
        if self.parts > 1:
            add_parts(self.partials, self.dw, self.parts)

    def start(self, exact: bool) -> None:
        """Start what suits; exact: float32 not in TF32. (Of 16 bits products are exact.)"""
        form, per_word = self.form(exact)
        if form is None:
            self.launch(plain_grad, (PLAIN_SIZE, PLAIN_SIZE), PLAIN_THREADS, int(self.dense))
            return
        channels, rows = self.weights[1], self.weights[2] * self.source[4]
        large = EXACT_LARGE if form == "exact" else LARGE
        (small_m, small_n), (large_m, large_n) = tile_size(*SMALL), tile_size(*large)
        down = large[0] if _fills(rows, large_m, small_m) else SMALL[0]
        across = large[1] if _fills(channels, large_n, small_n) else SMALL[1]
        x_each = _at_once(per_word, self.source[3], self.source[4])
        dy_each = _at_once(per_word, self.outer[4], channels)
        code = tensor_code(down, across, x_each, dy_each, self.dense, form)
        self.launch(code, tile_size(down, across), TENSOR_THREADS, per_word=per_word)

    def form(self, exact: bool) -> tuple[str | None, int]:
        """The form of tensor_code that makes it, if one does, and the elements of its words."""
        kind, sizes = kind_of(self.x), (*self.source[3:5], self.outer[4], self.weights[1])
        if kind is not None and kind == kind_of(self.dy) and all(size % 2 == 0 for size in sizes):
            return kind, 2
        if self.dw.dtype != np.float32 or is_half(self.x) or is_half(self.dy):
            return None, 1
        return "exact" if exact else "tf32", 1


def _at_once(per_word: int, *sizes: int) -> int:
    """Words that a copy takes: runs and pixels must be multiples of them."""
    choices = (4, 1) if per_word == 1 else (4, 2, 1)
    return next(words for words in choices if all(size % (words * per_word) == 0 for size in sizes))


def conv_weight_grad(x, dy, dw, taps, scratch, spill, packed, source, outer, weights, schedule):
    """dw[tap, c, o] = sum over pixels of x[pixel moved by the tap, c] * dy[pixel, o], packed as the weights are.

    As on the CPU, but packed is room for schedule[1] times dw: for so many parts of the pixels, if it is more than one.
    Taps are numbered in order. float32 is multiplied in TF32.
    """
    Products(x, dy, dw, taps, packed, source, outer, weights, schedule[1]).start(exact=False)


def conv_weight_grad_fp32(x, dy, dw, taps, scratch, spill, packed, source, outer, weights, schedule):
    """conv_weight_grad, not in TF32."""
    Products(x, dy, dw, taps, packed, source, outer, weights, schedule[1]).start(exact=True)
