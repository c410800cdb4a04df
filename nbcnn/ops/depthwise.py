"""How operators call the kernels of depthwise convolution: Conv with as many groups as channels, and its gradients."""

from __future__ import annotations

from math import prod

import numpy as np

from nbcnn.binder import Binder, Buffer
from nbcnn.geometry import Window
from nbcnn.graph import Node
from nbcnn.kernels.cpu.pixels import PIXELS
from nbcnn.kernels.cpu.tiling import lanes, panel_width
from nbcnn.kernels.cpu.width import WIDTH_BYTES
from nbcnn.ops.gather import TASKS, Epilogue, Gather, bounds, triple, window_taps
from nbcnn.ops.packing import Packing

__all__ = ["bind_depthwise", "depthwise_weight_grad"]

BOX_BYTES = 128 * 1024
"""What is copied of a register of channels at a time: some lines may leave the L1 cache, but not the L2 cache."""
FEW_LINES = 4
"""Lines of a task at the least, because neighbours read the same lines of x."""


def bind_depthwise(
    gather: Gather, b: Binder, node: Node, x: Buffer, w: Buffer, y: Buffer, packing: Packing, epilogue: Epilogue
) -> None:
    """Emit the call of depthwise_gather; y is overwritten on the grid."""
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
        b.scratch(slot * b.threads),
        *gather.grids(packing),
        tuple(int(n) for n in first),
        size,
        (lines, registers, slot),
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
    b.call("depthwise_weight_grad", x, dy, dw, b.constant(np.array(taps, np.int64)), source, outer, channels)
