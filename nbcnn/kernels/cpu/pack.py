"""Weights between ONNX order and the panels of the matrix kernels (tiling.py says how panels lie)."""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu import lane_tile, simd
from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.cpu.tiling import PANEL_VECS

__all__ = ["pack_weights", "transpose_weights", "unpack_weights"]


@serial
def _width(array, channels):
    lanes = simd.lanes(array)
    return lanes if channels <= lanes else PANEL_VECS * lanes


@serial
def _pack_panel(task, w, out, dims, order, width, panels):
    _groups, channels, taps, inner, depth = dims
    by_group, by_channel, by_tap, by_inner, by_depth = order
    panel = task % panels
    place = task * taps * inner * depth * width
    columns = min(width, channels - panel * width)
    base = task // panels * by_group + panel * width * by_channel
    for tap in range(taps):
        for i in range(inner):
            for c in range(depth):
                start = base + tap * by_tap + i * by_inner + c * by_depth
                for lane in range(columns):
                    out[place + lane] = w[start + lane * by_channel]
                for lane in range(columns, width):
                    out[place + lane] = 0
                place += width


@kernel
def pack_weights(w, out, dims, order):
    """out = panels of w. dims: (groups, output channels a group, taps, inner, depth); order: their strides in w."""
    width = _width(out, dims[1])
    panels = (dims[1] + width - 1) // width
    for index in prange(dims[0] * panels):
        task = np.int64(index)
        _pack_panel(task, w, out, dims, order, width, panels)


@serial
def _unpack_panel(task, panels_data, out, dims, order, width, panels):
    _groups, channels, taps, inner, depth = dims
    by_group, by_channel, by_tap, by_inner, by_depth = order
    panel = task % panels
    place = task * taps * inner * depth * width
    columns = min(width, channels - panel * width)
    base = task // panels * by_group + panel * width * by_channel
    for lane in range(columns):
        for tap in range(taps):
            for i in range(inner):
                start = base + lane * by_channel + tap * by_tap + i * by_inner
                source = place + (tap * inner + i) * depth * width + lane
                for c in range(depth):
                    out[start + c * by_depth] = panels_data[source + c * width]


@kernel
def unpack_weights(panels_data, out, dims, order):
    """The inverse of pack_weights; padding is dropped."""
    width = _width(out, dims[1])
    panels = (dims[1] + width - 1) // width
    for index in prange(dims[0] * panels):
        task = np.int64(index)
        _unpack_panel(task, panels_data, out, dims, order, width, panels)


@serial
def _transpose_panel(square, task, w, out, dims, width, panels, new_width, new_panels):
    """One new panel: columns are input channels, depth is the output channels of the old panels. A square of as many of
    both as a register has lanes at a time.
    """
    _groups, channels, taps, _inner, depth = dims
    lanes = simd.lanes(w)
    group, new_panel = task // new_panels, task % new_panels
    columns = min(new_width, depth - new_panel * new_width)
    for tap in range(taps):
        for panel in range(panels):
            source = (((group * panels + panel) * taps + tap) * depth + new_panel * new_width) * width
            place = ((task * taps + tap) * channels + panel * width) * new_width
            for o in range(0, min(width, channels - panel * width), lanes):
                rows = channels - panel * width - o
                for lane in range(0, new_width, lanes):
                    square = lane_tile.load_rows(square, w, source + lane * width + o, width, columns - lane, lanes)
                    turned = lane_tile.transpose(square)
                    lane_tile.store_rows(turned, out, place + o * new_width + lane, new_width, rows, lanes)


@kernel
def transpose_weights(w, out, dims):
    """Panels (group, panel, tap, depth, lane) of w -> panels whose lanes are the depth and whose depth is the output
    channels.
    """
    width, new_width = _width(w, dims[1]), _width(w, dims[4])
    panels, new_panels = (dims[1] + width - 1) // width, (dims[4] + new_width - 1) // new_width
    for index in prange(dims[0] * new_panels):
        task = np.int64(index)
        _transpose_panel(lane_tile.square(w), task, w, out, dims, width, panels, new_width, new_panels)
