"""Products of rows by packed weights: 1x1 convolutions of stride 1, Gemm, and their gradients by the input.

Activations lie channels last, so that pixels are the rows of a matrix without a gap. A block of rows is multiplied by
all panels of weights before the next one, and y is written in the order in which it lies. While a tile is computed,
its loop asks for the rows of x, y and the residual that the next block needs, evenly spread over its steps: a layer of
64 channels writes so much for each multiplication that it would else wait for memory half of the time. Where the next
block is another thread's it is left alone: to take from a core's cache what that is about to write costs both.
"""

from __future__ import annotations

import numpy as np
from numba import get_thread_id, prange

from nbcnn.kernels.cpu import narrow, simd, tile
from nbcnn.kernels.cpu.jit import apart, inlined, kernel, serial
from nbcnn.kernels.cpu.tiling import HALF_ROWS, PANEL_VECS, ROWS, SHORT_ROWS
from nbcnn.kernels.cpu.width import HALVES_PAY

__all__ = ["conv_pointwise", "pointwise_task"]


@inlined
def _multiply(acc, row, x, starts, w, at, depth, y, residual, ahead, steps):
    """tile += `depth` channels of x by as many rows of a weight panel.

    ahead: where the next rows lie in x, and in y and the residual; steps: how far to go on there with every channel.
    """
    width = len(row) * simd.lanes(x)
    x_ahead, y_ahead = ahead
    x_step, y_step = steps
    for c in range(depth):
        simd.prefetch(x, x_ahead)
        simd.prefetch(y, y_ahead)
        simd.prefetch(residual, y_ahead)
        x_ahead += x_step
        y_ahead += y_step
        acc = tile.fma(acc, x, starts, c, tile.row(row, w, at))
        at += width
    return acc


@serial
def _finish_edge(spill, spot, across, y, start, pitch, rows, column, columns, bias, base, low, high):
    """As tile.finish_onto for a tile spilled to rows of `across`, of which only so many rows and columns are there."""
    lanes = simd.lanes(y)
    for r in range(rows):
        for c in range(0, columns, lanes):
            left = columns - c
            place = start + r * pitch + column + c
            value = simd.load(spill, spot + r * across + c)
            if bias.size > 0:
                value = simd.add(value, simd.load_first(bias, column + c, left))
            if base.size > 0:
                value = simd.add(value, simd.load_first(base, place, left))
            simd.store_first(y, place, simd.clamp(value, low, high), left)


@serial
def _edge_tile(
    acc, row, x, starts, w, at, depth, y, residual, ahead, steps, spill, spot, start, rows, column, columns,
    bias, base, low, high,
):  # fmt: skip
    """A tile of which not every row or column is there, from its product to its place in y."""
    found = _multiply(acc, row, x, starts, w, at, depth, y, residual, ahead, steps)
    tile.spill(found, spill, spot)
    across = len(row) * tile.lanes(row)
    _finish_edge(spill, spot, across, y, start[0], start[1], rows, column, columns, bias, base, low, high)


@inlined
def _narrow_tiles(
    acc, row, y, x, start, pitch, w, at, width, depth, spill, spot, place, rows, column, columns, bias, base, low, high
):  # fmt: skip
    """`rows` rows by the first columns of a panel, as many as `row` has or a few less: tiles one below the other."""
    tall, across = len(acc) // len(row), len(row) * tile.lanes(row)
    added = tile.row_first(row, bias, column, columns) if bias.size > 0 else row
    for r in range(0, rows, tall):
        left = rows - r
        found = narrow.multiply(acc, row, x, start + r * pitch, pitch, w, at, width, depth, tall * pitch)
        first, pitch_y = place[0] + r * place[1], place[1]
        if (left < tall) | (columns < across):
            tile.spill(found, spill, spot)
            _finish_edge(
                spill, spot, across, y, first, pitch_y, min(left, tall), column, columns, bias, base, low, high
            )
        elif base.size > 0:
            tile.finish_onto(found, row, y, tile.pitched(acc, row, first, pitch_y), column, added, base, low, high)
        else:
            tile.finish(found, row, y, tile.pitched(acc, row, first, pitch_y), column, added, low, high)


@apart
def _single_tiles(y, *arguments):
    """Tiles of one register in a row."""
    _narrow_tiles(tile.zeros(y, ROWS, 1), tile.zeros(y, 1, 1), y, *arguments)


@apart
def _third_tiles(y, *arguments):
    """Tiles of a register and a half in a row."""
    _narrow_tiles(tile.halves(y, HALF_ROWS, 3), tile.halves(y, 1, 3), y, *arguments)


@serial
def _pack_rows(x, scratch, at, apart, start, pitch, rows, count, depth):
    """Copy `depth` channels of `rows` rows of x to scratch, `apart` elements from each other; the last one fills up to
    `count`.
    """
    lanes = simd.lanes(x)
    for r in range(count):
        source, place = start + min(r, rows - 1) * pitch, at + r * apart
        for c in range(0, depth, lanes):
            simd.store(scratch, place + c, simd.load_first(x, source + c, depth - c))


@serial
def pointwise_task(task, x, w, bias, residual, y, scratch, slot, dims, schedule, low, high):
    """A block of rows by a range of panels, a part of the depth after the other."""
    acc, row = tile.zeros(y, ROWS, PANEL_VECS), tile.zeros(y, 1, PANEL_VECS)
    short = tile.zeros(y, SHORT_ROWS, PANEL_VECS)
    all_rows, depth, channels, pitch_y = dims
    block, panel_group, part, copies, _slot, near = schedule
    lanes = simd.lanes(y)
    width = lanes if channels <= lanes else PANEL_VECS * lanes
    panels = (channels + width - 1) // width
    ranges = (panels + panel_group - 1) // panel_group
    # One range of panels after the other: each thread reads its own part of the weights.
    blocks = (all_rows + block - 1) // block
    panel0 = task // blocks * panel_group
    panel1 = min(panel0 + panel_group, panels)
    first = task % blocks * block
    rows = min(block, all_rows - first)
    tiles = (rows + ROWS - 1) // ROWS
    packed, pitch_packed = slot + ROWS * width, part + lanes
    below = residual if residual.size > 0 else y
    # Of y, only whole rows are asked for: the rest of a row may be another thread's.
    asks = near if ranges == 1 else 0
    x_step = near * ((ROWS + panel1 - panel0 - 1) // (panel1 - panel0))
    y_step = asks * ((ROWS * pitch_y + panels * depth - 1) // (panels * depth))
    x_ahead, y_ahead = (first + near * rows) * depth, (first + asks * rows) * pitch_y
    for c0 in range(0, depth, part):
        count = min(part, depth - c0)
        is_first, is_last = c0 == 0, c0 + part >= depth
        floor = low if is_last else y.dtype.type(-np.inf)
        ceiling = high if is_last else y.dtype.type(np.inf)
        base = residual if is_first else y
        offset = bias if is_first else bias[:0]
        for panel in range(panel0, panel1):
            column = panel * width
            columns = min(width, channels - column)
            added = tile.row_first(row, offset, column, columns) if offset.size > 0 else row
            for i in range(tiles):
                at = first + i * ROWS
                left = min(ROWS, rows - i * ROWS)
                start, pitch = at * depth + c0, depth
                # Rows of a smaller tile are copied too, so that none is read that is not there; one row is read by all.
                if copies | (left < ROWS):
                    if rows == 1:
                        pitch = 0
                    else:
                        place = packed + i * ROWS * pitch_packed
                        if panel == panel0:
                            _pack_rows(x, scratch, place, pitch_packed, start, depth, left, ROWS, count)
                        start, pitch = simd.distance(x, scratch) + place, pitch_packed
                starts = tile.pitched(acc, row, start, pitch)
                weight, ahead, steps = (panel * depth + c0) * width, (x_ahead, y_ahead), (x_step, y_step)
                place_y = (at * pitch_y, pitch_y)
                if columns <= lanes:
                    _single_tiles(
                        y, x, start, pitch, w, weight, width, count, scratch, slot, place_y, left, column, columns,
                        offset, base, floor, ceiling,
                    )  # fmt: skip
                elif HALVES_PAY & (2 * columns <= 3 * lanes):
                    _third_tiles(
                        y, x, start, pitch, w, weight, width, count, scratch, slot, place_y, left, column, columns,
                        offset, base, floor, ceiling,
                    )  # fmt: skip
                elif left <= SHORT_ROWS:
                    _edge_tile(
                        short, row, x, tile.pitched(short, row, start, pitch), w, weight, count, y, below,
                        ahead, steps, scratch, slot, place_y, left, column, columns, offset, base, floor, ceiling,
                    )  # fmt: skip
                elif (left < ROWS) | (columns < width):
                    _edge_tile(
                        acc, row, x, starts, w, weight, count, y, below, ahead, steps, scratch, slot, place_y,
                        left, column, columns, offset, base, floor, ceiling,
                    )  # fmt: skip
                else:
                    found = _multiply(acc, row, x, starts, w, weight, count, y, below, ahead, steps)
                    places = tile.pitched(acc, row, at * pitch_y, pitch_y)
                    if base.size > 0:
                        tile.finish_onto(found, row, y, places, column, added, base, floor, ceiling)
                    else:
                        tile.finish(found, row, y, places, column, added, floor, ceiling)
                x_ahead += x_step * count
                y_ahead += y_step * count


@kernel
def conv_pointwise(x, w, bias, residual, y, scratch, dims, schedule, low, high):
    """y = clamp(bias + residual + x @ w, low, high).

    x (rows, depth), residual and y (rows, channels), bias (channels): flat; bias and residual may be empty, and the
    residual may be y itself. w: panels of PANEL_VECS registers (of one, where channels are no more), as tiling.py says.
    dims: (rows, depth, channels, elements from row to row of y and the residual). schedule: (rows in a block, a
    multiple of ROWS; panels in a task; part of the depth that is taken at once; 1 if rows of x are copied next to each
    other before they are multiplied; elements of scratch for a thread: a tile, and a block of rows of that part and a
    register each; 1 if the next block of rows is most often the same thread's, which then asks for it in time).
    """
    all_rows, _depth, channels, _pitch = dims
    block, panel_group, _part, _copies, size, _near = schedule
    lanes = simd.lanes(y)
    width = lanes if channels <= lanes else PANEL_VECS * lanes
    ranges = ((channels + width - 1) // width + panel_group - 1) // panel_group
    for index in prange((all_rows + block - 1) // block * ranges):
        task = np.int64(index)
        slot = get_thread_id() * size
        pointwise_task(task, x, w, bias, residual, y, scratch, slot, dims, schedule, low, high)
