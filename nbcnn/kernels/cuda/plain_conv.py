"""Convolution with a thread for each element of y: for float64, which tensor cores do not have, and for the simulator.

It says what the fast kernels of tensor_conv.py compute, in a few lines.
"""

from __future__ import annotations

from nbcnn.kernels.cuda._cuda import cuda, kernel, spread
from nbcnn.kernels.cuda.halves import is_half
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.panels import place_in_panel
from nbcnn.kernels.cuda.pixels import clamp, locate, row_of, start_of, tap_start

__all__ = ["convolve"]


@kernel
def _convolve(x, w, bias, residual, y, taps, grid, source, target, weights, panels, paired, low, high):
    groups, channels, tap_count = weights
    width, panel_count = panels
    run = source[4]
    for i in range(cuda.grid(1), grid[0] * grid[1] * grid[2] * grid[3] * groups * channels, cuda.gridsize(1)):
        position, channel = locate(divide(i, groups * channels), grid), remainder(i, groups * channels)
        group, column = divide(channel, channels), remainder(channel, channels)
        panel, lane = group * panel_count + divide(column, width), remainder(column, width)
        start = start_of(position, source)
        total = y.dtype.type(0)
        for tap in range(len(taps) // 4):
            place = tap_start(start, (taps[4 * tap], taps[4 * tap + 1], taps[4 * tap + 2]), source)
            weight = (panel * tap_count + taps[4 * tap + 3]) * run * width
            if place >= 0:
                for c in range(run):
                    total += x[place + group * run + c] * w[weight + place_in_panel(c, lane, width, paired)]
        place = row_of(position, target) + channel
        if bias.size > 0:
            total += bias[channel]
        if residual.size > 0:
            total += residual[place]
        y[place] = clamp(total, low, high)


def convolve(x, w, bias, residual, y, taps, grid, source, target, weights, panels, low, high):
    """What conv.conv_gather computes, with the width of the panels and their number in a group. taps: an array, or a
    tuple of four integers. A w of 16 bits is in the order of pairs.
    """
    paired = int(is_half(w))
    count = grid[0] * grid[1] * grid[2] * grid[3] * weights[0] * weights[1]
    spread(_convolve, count, x, w, bias, residual, y, taps, grid, source, target, weights, panels, paired, low, high)
