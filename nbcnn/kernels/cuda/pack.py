"""Weights between ONNX order and panels, which are those of the CPU's kernels (nbcnn/kernels/cpu/tiling.py)."""

from __future__ import annotations

from nbcnn.kernels.cuda._cuda import SIMULATED, cuda, device, kernel, launch, spread
from nbcnn.kernels.cuda.halves import is_half
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.panels import of_pairs, panels_of, place_in_panel

__all__ = ["pack_weights", "transpose_weights", "unpack_weights"]

TILE = 8 if SIMULATED else 32
"""Rows and columns of a square that a block transposes."""
PITCH = TILE + 1
"""Elements from row to row of a square: so a column's lie in different banks of shared memory."""
ROWS = 4 if SIMULATED else 8
"""Rows of a square that a block reads at once."""


@device
def _place(i, dims, order, width, panels):
    """Where element i of the panels lies in ONNX order; -1 where it only fills a panel up."""
    _groups, channels, taps, inner, depth = dims
    by_group, by_channel, by_tap, by_inner, by_depth = order
    lane, rest = remainder(i, width), divide(i, width)
    c, rest = remainder(rest, depth), divide(rest, depth)
    run, rest = remainder(rest, inner), divide(rest, inner)
    tap, rest = remainder(rest, taps), divide(rest, taps)
    channel = remainder(rest, panels) * width + lane
    if channel >= channels:
        return -1
    return divide(rest, panels) * by_group + channel * by_channel + tap * by_tap + run * by_inner + c * by_depth


@kernel
def _pack(w, out, dims, order, width, panels, paired):
    for i in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        place = _place(of_pairs(i, width) if paired else i, dims, order, width, panels)
        out[i] = w[place] if place >= 0 else w.dtype.type(0)


@kernel
def _unpack(panels_data, out, dims, order, width, panels):
    for i in range(cuda.grid(1), panels_data.size, cuda.gridsize(1)):
        place = _place(i, dims, order, width, panels)
        if place >= 0:
            out[place] = panels_data[i]


def pack_weights(w, out, dims, order):
    """out = panels of w. dims: (groups, output channels a group, taps, inner, depth); order: their strides in w.

    An `out` of 16 bits gets the order of pairs (panels.py).
    """
    spread(_pack, out.size, w, out, dims, order, *panels_of(dims[1], out), int(is_half(out)))


def unpack_weights(panels_data, out, dims, order):
    """The inverse of pack_weights; padding is dropped."""
    spread(_unpack, panels_data.size, panels_data, out, dims, order, *panels_of(dims[1], out))


@kernel
def _transpose(w, out, channels, taps, depth, old, new, paired):
    """A square of output by input channels of one tap and group."""
    square = cuda.shared.array((TILE, PITCH), w.dtype)
    width, panels = old
    new_width, new_panels = new
    column, first = cuda.threadIdx.x, cuda.threadIdx.y
    o0, c0 = cuda.blockIdx.x * TILE, cuda.blockIdx.y * TILE
    group, tap = divide(cuda.blockIdx.z, taps), remainder(cuda.blockIdx.z, taps)
    o = o0 + column
    source = ((group * panels + divide(o, width)) * taps + tap) * depth * width + remainder(o, width)
    for r in range(first, TILE, ROWS):
        c = c0 + r
        square[r, column] = w[source + c * width] if o < channels and c < depth else w.dtype.type(0)
    cuda.syncthreads()
    c = c0 + column
    target = ((group * new_panels + divide(c, new_width)) * taps + tap) * channels * new_width
    lane = remainder(c, new_width)
    for r in range(first, TILE, ROWS):
        o = o0 + r
        if o < channels and c < new_width * new_panels:
            out[target + place_in_panel(o, lane, new_width, paired)] = square[column, r]


def transpose_weights(w, out, dims):
    """Panels (group, panel, tap, depth, lane) of w -> panels whose lanes are the depth and whose depth is the output
    channels. An `out` of 16 bits gets the order of pairs (panels.py).
    """
    groups, channels, taps, _inner, depth = dims
    old, new = panels_of(channels, w), panels_of(depth, w)
    blocks = (-(-channels // TILE), -(-new[0] * new[1] // TILE), groups * taps)
    launch(_transpose, blocks, (TILE, ROWS), w, out, channels, taps, depth, old, new, int(is_half(out)))
