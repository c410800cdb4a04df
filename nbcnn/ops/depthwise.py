"""How operators call the kernels of depthwise convolution: Conv with as many groups as channels, and its gradients."""

from __future__ import annotations

from math import prod

import numpy as np

from nbcnn.binder import Binder, Buffer
from nbcnn.geometry import Window
from nbcnn.graph import Node
from nbcnn.kernels.cpu.pixels import PIXELS
from nbcnn.kernels.cpu.tiling import LINES, lanes, panel_width
from nbcnn.kernels.cpu.width import WIDTH_BYTES
from nbcnn.ops.gather import TASKS, Epilogue, Gather, bounds, shared_pixels, triple, window_taps
from nbcnn.ops.packing import Packing

__all__ = ["bind_depthwise", "depthwise_weight_grad"]

BOX_BYTES = 128 * 1024
"""What depthwise_gather copies of a register of channels at a time: the L2 cache holds it."""
TASK_LINES = 16
"""Lines of a task of depthwise_3x3, where there are more: with all their channels they should stay in the L2 cache."""
MATRIX_LINES = 8
"""Lines of a picture of so few pixels that a 1x1 convolution of it is shared out by channels."""
CUDA_CHANNELS, CUDA_PIXELS = 128, 256
"""What a block of a GPU takes of the gradient by the weights at the least."""
FEW_LINES = 4
"""Lines of a task at the least, because neighbours read the same lines of x."""


def bind_depthwise(
    gather: Gather, b: Binder, node: Node, x: Buffer, w: Buffer, y: Buffer, packing: Packing, epilogue: Epilogue
) -> None:
    """Emit the call of the kernel; y is overwritten on the grid."""
    if b.backend == "cpu" and _is_3x3(gather):
        _bind_3x3(gather, b, node, x, w, y, packing, epilogue)
        return
    width = lanes(packing.itemsize)
    grid, step = triple(gather.grid, 1), triple(gather.step, 1)
    moves = np.array([triple(move, 0) for move, _ in gather.taps], np.int64).reshape(-1, 3)
    first, last = moves.min(0, initial=0), moves.max(0, initial=0)
    depth, height, across = (int(n) for n in last - first + 1)
    across += (grid[2] - 1) * step[2]
    lines, registers = _task(gather.images * grid[0], grid[1], across * step[1] * WIDTH_BYTES, packing)
    size = depth, (lines - 1) * step[1] + height, across
    places = (moves - first) @ np.array([size[1] * size[2], size[2], 1]) * width
    numbers = [number * panel_width(packing.channels, packing.itemsize) for _, number in gather.taps]
    slot = (prod(size) + PIXELS * step[2]) * width
    b.call(
        "depthwise_gather",
        *(x, w, b.optional(epilogue.bias), b.optional(epilogue.residual), y),
        b.constant(np.array([places, numbers], np.int64).T),
        b.scratch(slot * b.threads) if b.backend == "cpu" else b.empty(),
        *gather.grids(packing),
        tuple(int(n) for n in first),
        size,
        (lines, registers, slot),
        *bounds(node, b.dtype),
    )


def _is_3x3(gather: Gather) -> bool:
    """Whether these are all taps of a 3x3 kernel, which move in strides of 1 or 2 and write all of y."""
    if len(gather.taps) != 9 or len(gather.grid) != 2:
        return False
    moves = sorted(tuple(move) for move, _ in gather.taps)
    (top, left), step = moves[0], tuple(gather.step)
    dense = moves == [(top + i, left + j) for i in range(3) for j in range(3)]
    whole = tuple(gather.grid) == tuple(gather.target) and not any(gather.first) and {*gather.jump} == {1}
    return dense and whole and step in ((1, 1), (2, 2))


def _bind_3x3(
    gather: Gather, b: Binder, node: Node, x: Buffer, w: Buffer, y: Buffer, packing: Packing, epilogue: Epilogue
) -> None:
    """Emit the call of depthwise_3x3."""
    width = panel_width(packing.channels, packing.itemsize)
    taps = sorted((tuple(move), number * width) for move, number in gather.taps)
    (out_h, out_w), (in_h, in_w) = gather.grid, gather.extent
    registers = -(-packing.channels // lanes(packing.itemsize))
    # Where the products beside it are shared out by rows, so is this: what a thread made is then in its own cache.
    shares = min(-(-b.threads // gather.images), out_h // LINES) if out_h > MATRIX_LINES else 1
    parts = max(-(-out_h // TASK_LINES), shares)
    lines = -(-out_h // parts)
    b.call(
        "depthwise_3x3",
        *(x, w, b.optional(epilogue.bias), b.optional(epilogue.residual), y),
        b.zeros(in_w * packing.channels + lanes(packing.itemsize)),
        b.constant(np.array([place for _, place in taps], np.int64)),
        (in_h, in_w, gather.step[0]),
        (gather.images, out_h, out_w, packing.channels),
        (-taps[0][0][0], -taps[0][0][1]),
        (lines, max(1, min(registers, registers * gather.images * parts // TASKS))),
        *bounds(node, b.dtype),
    )


def _task(planes: int, height: int, line_bytes: int, packing: Packing) -> tuple[int, int]:
    """Lines and registers of channels in a task: as many lines as fit into a box, and TASKS tasks where there is so
    much to do.
    """
    parts = -(-height // max(FEW_LINES, BOX_BYTES // line_bytes))
    registers = -(-packing.channels // lanes(packing.itemsize))
    return -(-height // parts), max(1, min(registers, registers * planes * parts // TASKS))


def depthwise_weight_grad(
    b: Binder, x: Buffer, dy: Buffer, dw: Buffer, packing: Packing, win: Window, images: int
) -> None:
    """Emit the call for a forward window, in `depthwise` packing."""
    channels = packing.channels
    source = (*triple(win.size, 1), channels, 1, *triple(win.strides, 1))
    outer = (images, *triple(win.out, 1), channels)
    taps = [(*triple(move, 0), number) for move, number in window_taps(win.kernel, win.dilations, win.begins)]
    row = win.kernel[-1] if win.dilations[-1] == 1 else 1
    partials = b.empty()
    if b.backend == "cuda":
        tiles = len(taps) // row * -(-channels // CUDA_CHANNELS)
        partials = shared_pixels(b, tiles, -(-images * prod(win.out) // CUDA_PIXELS), packing)[0]
    table = b.constant(np.array(taps, np.int64))
    b.call("depthwise_weight_grad", x, dy, dw, table, partials, source, outer, channels, row)
