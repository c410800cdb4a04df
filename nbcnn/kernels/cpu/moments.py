"""Sums over rows of channels, (rows, channels), in tiles of fixed size; `dims` is (rows, channels).

Within a tile a few rows are added up, then their sums, so that errors grow with 16 + 16 terms and not with 256.
"""

from __future__ import annotations

import numpy as np

from nbcnn.kernels.cpu import simd
from nbcnn.kernels.cpu.jit import serial
from nbcnn.kernels.cpu.row_tiles import TILE_CHANNELS, TILE_ROWS, pitch_of

__all__ = ["RUN", "add_up", "merge_moments", "pitch", "tile_moments", "tile_of", "tiles_of"]

RUN = 16
"""Rows that are added up before their sum is added to the tile's: the root of TILE_ROWS."""

pitch = serial(pitch_of)


@serial
def tile_of(task, dims):
    """Of a tile: first row and one past the last, first channel and number of channels, number of the block of rows."""
    rows, channels = dims
    blocks = (channels + TILE_CHANNELS - 1) // TILE_CHANNELS
    first, block = task % blocks * TILE_CHANNELS, task // blocks
    row = block * TILE_ROWS
    return row, min(row + TILE_ROWS, rows), first, min(TILE_CHANNELS, channels - first), block


@serial
def tiles_of(dims):
    """The number of tiles."""
    rows, channels = dims
    return ((rows + TILE_ROWS - 1) // TILE_ROWS) * ((channels + TILE_CHANNELS - 1) // TILE_CHANNELS)


@serial
def add_up(sums, at, run, start, count, lanes):
    """Add a run's sums to the tile's, and begin a new run."""
    for c in range(0, count, lanes):
        simd.store(sums, at + c, simd.add(simd.load(sums, at + c), simd.load(run, start + c)))
    run[start : start + pitch(count)] = 0


@serial
def tile_moments(task, x, partials, run, slot, dims):
    """Mean of a tile, and sum of squared deviations from it, by channel, in two passes: it stays in the cache."""
    row0, row1, first, count, block = tile_of(task, dims)
    mean = block * 2 * pitch(dims[1]) + first
    square = mean + pitch(dims[1])
    partials[mean : mean + pitch(count)] = 0
    partials[square : square + pitch(count)] = 0
    run[slot : slot + pitch(count)] = 0
    lanes = simd.lanes(x)
    for begin in range(row0, row1, RUN):
        for row in range(begin, min(begin + RUN, row1)):
            at = row * dims[1] + first
            for c in range(0, count, lanes):
                total = simd.add(simd.load(run, slot + c), simd.load_first(x, at + c, count - c))
                simd.store(run, slot + c, total)
        add_up(partials, mean, run, slot, count, lanes)
    for c in range(count):
        partials[mean + c] /= row1 - row0
    for begin in range(row0, row1, RUN):
        for row in range(begin, min(begin + RUN, row1)):
            at = row * dims[1] + first
            for c in range(0, count, lanes):
                deviation = simd.sub(simd.load_first(x, at + c, count - c), simd.load(partials, mean + c))
                simd.store(run, slot + c, simd.fma(deviation, deviation, simd.load(run, slot + c)))
        add_up(partials, square, run, slot, count, lanes)


@serial
def merge_moments(c, partials, mean, var, dims):
    """Tile after tile by the update of Chan, Golub and LeVeque ("Updating Formulae and a Pairwise Algorithm", 1979)."""
    rows, width = dims[0], pitch(dims[1])
    total, center, squares = 0, 0.0, 0.0
    for row in range(0, rows, TILE_ROWS):
        count = min(TILE_ROWS, rows - row)
        at = row // TILE_ROWS * 2 * width + c
        delta = np.float64(partials[at]) - center
        center += delta * count / (total + count)
        squares += np.float64(partials[at + width]) + delta * delta * total * count / (total + count)
        total += count
    mean[c] = center
    var[c] = squares / rows
