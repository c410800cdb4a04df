"""How operators call the gather kernels: what Conv, ConvTranspose and Gemm have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np

from nbcnn.binder import Binder, Buffer
from nbcnn.geometry import Window
from nbcnn.graph import Node
from nbcnn.kernels.cpu.tiling import (
    CHANNEL_BLOCK,
    DEPTH_BLOCK,
    GRAD_ROWS,
    PACKED_PANELS,
    PANEL_VECS,
    ROWS,
    SHORT_ROWS,
    lanes,
    panel_width,
)
from nbcnn.ops.packing import Packing

__all__ = [
    "BLOCK",
    "PRODUCT_TILES",
    "TASKS",
    "Epilogue",
    "Gather",
    "bounds",
    "product_parts",
    "shared_pixels",
    "triple",
    "weight_grad",
    "whole_lines",
    "window_taps",
]

BLOCK = ROWS * 8
"""Pixels whose row starts are looked up at once; their share of x should stay in the L2 cache."""
GRAD_PIXELS = 128
"""Pixels of a block of the weight gradient: their panel of dy (16 KiB in float32) stays in the L1 cache."""
L2_SHARE = 384 << 10
"""Bytes of x and dy in a block of the weight gradient of a product, from 128 pixels up."""
LARGE_GRADIENT = 1 << 20
"""Bytes of a weight gradient from which on it is worth visiting it less often."""

PAGE = 4096
"""Rows of x that lie a multiple of so many bytes apart share their places in the L1 cache."""
LARGE_WEIGHTS = 8 << 20
"""Bytes of weights from which on as many tiles of rows as can be are multiplied by a panel before the next one."""
PRODUCT_TILES = 8
"""Tiles in a block of rows of a product at the most."""
NEAR_TASKS = 4
"""Tasks of a thread from which on most of them are followed by another one of its own."""
MANY_TILES = 64
"""Tiles of rows from which on threads get equal shares of them, all panels in a task."""
BLOCK_COST = 0.1
"""What a block of rows costs beside its tiles, in tiles."""

CUDA_BLOCKS = 528
"""Blocks of a gradient by the weights on a GPU, at the most and if it can be cut so: four for each multiprocessor of an
H100. The number is fixed, so that sums are the same on every GPU.
"""
CUDA_TILE, CUDA_PIXELS = 128, 512
"""Rows and columns of a block of such a gradient, and pixels of a part at the least: partial sums cost memory."""
PARTIAL_BYTES = 64 << 20
"""Sums of parts of the pixels, at the most."""

TASKS = 16
"""Tasks that a call should have at the least, so that a few threads get equal shares."""


def whole_lines(integers: int) -> int:
    """So many int64, rounded up to whole cache lines: what threads write to should not share one."""
    return -(-integers // 8) * 8


def triple(values: Sequence[int], fill: int) -> tuple[int, int, int]:
    """Spatial values of up to three dimensions, filled up in front."""
    return (*(fill,) * (3 - len(values)), *values)  # type: ignore[return-value]


def bounds(node: Node, dtype: np.dtype) -> tuple[np.generic, np.generic]:
    """The clamp that was fused into a node, as scalars of the element type (so that a kernel has one signature)."""
    return dtype.type(node.attrs.get("low", -np.inf)), dtype.type(node.attrs.get("high", np.inf))


@dataclass(frozen=True)
class Epilogue:
    """What happens while the product is stored; empty names are left out."""

    bias: str = ""
    residual: str = ""


@dataclass(frozen=True)
class Gather:
    """One call of conv_gather, but for its arrays.

    images: pictures. grid: positions to compute. extent: of x. pitch: elements from pixel to pixel of x. step: move
    in x from position to position. target, first, jump: extent of y, and where in it the grid lies. taps: (move,
    number in the weights) each.
    """

    images: int
    grid: Sequence[int]
    extent: Sequence[int]
    pitch: int
    step: Sequence[int]
    target: Sequence[int]
    out_pitch: int
    first: Sequence[int]
    jump: Sequence[int]
    taps: Sequence[tuple[Sequence[int], int]]

    def bind(
        self, b: Binder, node: Node, x: Buffer, w: Buffer, y: Buffer, packing: Packing, epilogue: Epilogue
    ) -> None:
        """Emit the call; y is overwritten on the grid."""
        pixels = self.images * prod(self.grid)
        if not pixels or not packing.channels:
            return
        product = self._is_product(packing)
        arrays: tuple[Buffer, ...] = (x, w, b.optional(epilogue.bias), b.optional(epilogue.residual), y)
        if product and pixels == 1:
            b.call("vector_product", *arrays, (packing.run, packing.channels), *bounds(node, b.dtype))
            return
        if product:
            bind_product(b, node, x, w, y, pixels, packing, epilogue, self.out_pitch)
            return
        arrays += (self.tap_table(b),)
        if b.backend == "cuda":
            room, none = parts_scratch(b, pixels, self.pitch, len(self.taps), packing), b.empty()
            arrays += (none, none, room, none)
            schedule = (int(self.stays_inside()),)
            b.call("conv_gather", *arrays, *self.grids(packing), schedule, *bounds(node, b.dtype))
            return
        block = min(BLOCK, -(-pixels // ROWS) * ROWS)
        at_once, taps = min(packing.run, CHANNEL_BLOCK), len(self.taps)
        copied = min(DEPTH_BLOCK // at_once, taps) if self._rows_collide(packing) else 0
        slot = whole_lines((taps + copied + 5) * block + 2 * 16)
        size = block * (copied * at_once + lanes(b.dtype.itemsize)) * b.threads
        b.call(
            "conv_gather",
            *arrays,
            b.zeros(packing.run),
            b.scratch(slot * b.threads, np.int64),
            b.scratch(ROWS * PANEL_VECS * lanes(b.dtype.itemsize) * b.threads),
            b.scratch(size) if copied else b.empty(),
            *self.grids(packing),
            (block, self.panels_a_task(packing, pixels, block), int(self.stays_inside()), slot),
            *bounds(node, b.dtype),
        )

    def _is_product(self, packing: Packing) -> bool:
        """Whether each pixel of y is made of the pixel of x at the same place, and those of x lie without a gap."""
        ((moves, _), *others) = self.taps or [((1,), 0)]
        still = not others and not any((*moves, *self.first)) and {*self.step, *self.jump} == {1}
        same = tuple(self.grid) == tuple(self.extent) == tuple(self.target)
        dense = packing.groups == 1 and self.pitch == packing.run
        return still and same and dense

    def _rows_collide(self, packing: Packing) -> bool:
        """Whether a tile's rows of x push each other out of the L1 cache, and are read often enough to be copied."""
        apart = self.pitch * self.step[-1] * packing.itemsize
        return len(self.taps) > 0 and apart % PAGE == 0 and packing.channels >= 64

    def stays_inside(self) -> bool:
        """Whether no tap of any position falls off the picture."""
        return all(
            move >= 0 and (grid - 1) * step + move < extent
            for moves, _ in self.taps
            for move, grid, step, extent in zip(moves, self.grid, self.step, self.extent, strict=True)
        )

    def tap_table(self, b: Binder) -> Buffer:
        return b.constant(np.array([(*triple(move, 0), number) for move, number in self.taps], np.int64).reshape(-1))

    def grids(self, packing: Packing) -> tuple[tuple[int, ...], ...]:
        """The arguments grid, source, target and weights of the kernels."""
        return (
            (self.images, *triple(self.grid, 1)),
            (*triple(self.extent, 1), self.pitch, packing.run, *triple(self.step, 1)),
            (*triple(self.target, 1), self.out_pitch, *triple(self.first, 0), *triple(self.jump, 1)),
            (packing.groups, packing.channels, packing.taps),
        )

    def panels_a_task(self, packing: Packing, pixels: int, block: int) -> int:
        """All panels when there are blocks enough for every thread; else few enough that there are TASKS of them."""
        panels = -(-packing.channels // panel_width(packing.channels, packing.itemsize))
        blocks = -(-pixels // block) * packing.groups
        return panels if blocks >= TASKS else max(1, panels * blocks // TASKS)


def bind_product(
    b: Binder,
    node: Node,
    x: Buffer,
    w: Buffer,
    y: Buffer,
    rows: int,
    packing: Packing,
    epilogue: Epilogue,
    out_pitch: int,
) -> None:
    """Emit the call of conv_pointwise: y (rows, channels), rows `out_pitch` apart, = x (rows, depth) times packed w."""
    depth = packing.run
    arrays, dims = (x, w, b.optional(epilogue.bias), b.optional(epilogue.residual), y), (rows, depth, packing.channels)
    if b.backend == "cuda":
        room = parts_scratch(b, rows, depth, 1, packing)
        b.call("conv_pointwise", *arrays, room, (*dims, out_pitch), (), *bounds(node, b.dtype))
        return
    tiles, panel_group = _shares(rows, packing, b.threads)
    block = ROWS * tiles
    part, copies, slot = product_parts(packing, block, rows)
    panels = -(-packing.channels // panel_width(packing.channels, packing.itemsize))
    tasks = -(-rows // block) * -(-panels // panel_group)
    b.call(
        "conv_pointwise",
        *arrays,
        b.scratch(slot * b.threads),
        (*dims, out_pitch),
        (block, panel_group, part, copies, slot, int(tasks >= NEAR_TASKS * b.threads)),
        *bounds(node, b.dtype),
    )


def parts_scratch(b: Binder, pixels: int, pitch: int, taps: int, packing: Packing) -> Buffer:
    """Room for what blocks of a GPU that share a sum have of it."""
    from nbcnn.kernels.cuda.tiling import scratch_size

    each = 1 if packing.kept is None else 2  # elements of a word
    size = scratch_size(pixels, packing.channels, packing.groups, packing.run // each, pitch // each, taps)
    return b.scratch(size) if b.dtype == np.float32 else b.empty()


def product_parts(packing: Packing, block: int, rows: int) -> tuple[int, int, int]:
    """The end of the schedule of conv_pointwise: part of the depth, whether rows are copied, scratch for a thread."""
    depth, itemsize = packing.run, packing.itemsize
    copies = depth * itemsize % PAGE == 0 and rows > 1
    part = depth if depth <= DEPTH_BLOCK and not copies else CHANNEL_BLOCK
    slot = ROWS * panel_width(packing.channels, itemsize) + block * (part + lanes(itemsize))
    return part, int(copies), slot


def _shares(rows: int, packing: Packing, threads: int) -> tuple[int, int]:
    """Tiles of rows that are multiplied by a panel before the next one, and panels in a task, for the least time of
    the thread that has most to do. Results do not depend on them.
    """
    count, panels = -(-rows // ROWS), -(-packing.channels // panel_width(packing.channels, packing.itemsize))
    panels, row_bytes = max(panels, 1), max(packing.run + packing.channels, 1) * packing.itemsize
    most = max(1, min(PRODUCT_TILES, count, L2_SHARE // (ROWS * row_bytes)))
    if packing.size * packing.itemsize > LARGE_WEIGHTS:
        tiles = min(PRODUCT_TILES, count)
        blocks = -(-count // tiles)
        return tiles, panels if blocks >= TASKS else max(1, panels * blocks // TASKS)
    if count >= MANY_TILES:
        return min(range(1, most + 1), key=lambda tiles: -(-count // (tiles * threads)) * (tiles + BLOCK_COST)), panels
    groups = sorted({-(-panels // ranges) for ranges in range(1, min(panels, TASKS) + 1)}, reverse=True)
    choices = [(tiles, group) for tiles in range(most, 0, -1) for group in groups]
    return min(choices, key=lambda choice: _longest(rows, panels, choice, threads))


def _longest(rows: int, panels: int, choice: tuple[int, int], threads: int) -> float:
    """The time of the thread that has most to do, in tiles by one panel; choice: see _shares."""
    tiles, group = choice
    count = -(-rows // ROWS)
    blocks = [float(min(tiles, count - first)) for first in range(0, count, tiles)]
    if 0 < rows % ROWS <= SHORT_ROWS:
        blocks[-1] -= 1 - SHORT_ROWS / ROWS
    tasks = [size * min(group, panels - first) + BLOCK_COST for first in range(0, panels, group) for size in blocks]
    ends = [round(len(tasks) * share / threads) for share in range(threads + 1)]
    return max(sum(tasks[begin:end]) for begin, end in pairwise(ends))


def weight_grad(
    b: Binder, x: Buffer, dy: Buffer, dw: Buffer, packing: Packing, win: Window, images: int, pitch: int
) -> None:
    """Emit the call of conv_weight_grad for a forward window; taps of `packing` are the window's, in order."""
    if win.taps == 1 and win.strides == (1,) * len(win.strides) and win.out == win.size:
        rows = images * prod(win.out)
        fits = packing.channels > lanes(packing.itemsize) and packing.run >= GRAD_ROWS
        if packing.groups == 1 and (fits or b.backend == "cuda"):
            _product_weight_grad(b, x, dy, dw, rows, packing)
            return
        win, images = _lines_of(rows), 1
    out_pitch = packing.groups * packing.channels
    lines = _lines_at_once(win, images, packing)
    tile_lanes = PANEL_VECS * lanes(b.dtype.itemsize)
    if b.backend == "cuda":
        packed, parts = _tiled_parts(b, images * prod(win.out), packing)
        scratch, spill = b.empty(np.int64), b.empty()
    else:
        scratch, spill = b.scratch(16 * b.threads, np.int64), b.scratch(GRAD_ROWS * tile_lanes * b.threads)
        packed = b.scratch(lines * win.out[-1] * tile_lanes * PACKED_PANELS * b.threads)
        parts = b.threads
    b.call(
        "conv_weight_grad",
        *(x, dy, dw, b.constant(_flat_taps(packing, win)), scratch, spill, packed),
        (*triple(win.size, 1), pitch, packing.run, *triple(win.strides, 1)),
        (images, *triple(win.out, 1), out_pitch),
        (packing.groups, packing.channels, packing.taps),
        (lines, parts, int(_taps_stay_inside(win))),
    )


def shared_pixels(b: Binder, tiles: int, steps: int, packing: Packing) -> tuple[Buffer, int]:
    """Room for sums over parts of the pixels, for a gradient by the weights on a GPU, and the number of parts. tiles:
    blocks that the gradient is cut into. steps: parts that the pixels can be cut into.
    """
    most = PARTIAL_BYTES // max(packing.size * packing.itemsize, 1)
    parts = max(1, min(CUDA_BLOCKS // max(tiles, 1), steps, most))
    return (b.scratch(parts * packing.size) if parts > 1 else b.empty()), parts


def _tiled_parts(b: Binder, pixels: int, packing: Packing) -> tuple[Buffer, int]:
    """shared_pixels for a gradient that is a product."""
    tiles = packing.groups * -(-packing.taps * packing.run // CUDA_TILE) * -(-packing.channels // CUDA_TILE)
    return shared_pixels(b, tiles, -(-pixels // CUDA_PIXELS), packing)


def _product_weight_grad(b: Binder, x: Buffer, dy: Buffer, dw: Buffer, rows: int, packing: Packing) -> None:
    """Emit the call of pointwise_weight_grad."""
    depth, channels = packing.run, packing.channels
    block = min(rows, max(GRAD_PIXELS, min(2 * GRAD_PIXELS, L2_SHARE // (depth + channels) // packing.itemsize)))
    slot = panel_width(channels, packing.itemsize) * (GRAD_ROWS + block)
    scratch, parts = _tiled_parts(b, rows, packing) if b.backend == "cuda" else (b.scratch(slot * b.threads), b.threads)
    schedule = (block, parts, int(depth > channels), slot)
    b.call("pointwise_weight_grad", x, dy, dw, scratch, (rows, depth, channels), schedule)


def _taps_stay_inside(win: Window) -> bool:
    """Whether every tap of every output position meets the picture."""
    reach = zip(win.out, win.strides, win.kernel, win.dilations, win.size, strict=True)
    return not any(win.begins) and all((o - 1) * s + (k - 1) * d < n for o, s, k, d, n in reach)


def _lines_at_once(win: Window, images: int, packing: Packing) -> int:
    """Lines of dy in a block of the weight gradient: few enough for the L1 cache, more where dw itself is large."""
    pixels = GRAD_PIXELS if packing.size * packing.itemsize < LARGE_GRADIENT else 2 * GRAD_PIXELS
    return max(1, min(pixels // win.out[-1], images * prod(win.out[:-1])))


def _lines_of(pixels: int) -> Window:
    """A window of one tap over so many pixels, which may lie in any shape: in lines that make good blocks."""
    width = next((w for w in range(min(GRAD_PIXELS, pixels), 15, -1) if pixels % w == 0), pixels)
    size = (pixels // width, width)
    return Window(size, (1, 1), (1, 1), (1, 1), (0, 0), (0, 0), size)


def _flat_taps(packing: Packing, win: Window) -> np.ndarray:
    kernel = win.kernel if packing.inner == 1 else (*win.kernel[:-1], 1)
    taps = window_taps(kernel, win.dilations, win.begins)
    return np.array([(*triple(move, 0), number) for move, number in taps], np.int64).reshape(-1)


def window_taps(
    kernel: Sequence[int], dilations: Sequence[int], begins: Sequence[int]
) -> list[tuple[tuple[int, ...], int]]:
    """The taps of a forward window: for each, its move in the input, and its number."""
    return [
        (tuple(k * d - p for k, d, p in zip(tap, dilations, begins, strict=True)), number)
        for number, tap in enumerate(np.ndindex(*kernel))
    ]
