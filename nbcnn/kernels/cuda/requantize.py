"""What products of integers need beside their weights: a number for each channel that the sums begin with, and one
that they are multiplied by.
"""

from __future__ import annotations

import numpy as np

from nbcnn.kernels.cuda._cuda import cuda, kernel, spread

__all__ = ["integer_offsets", "integer_scales"]


@kernel
def _offsets(sums, zero, bias, offsets, edge, flip, widths):
    shift = flip
    if zero.size > 0:
        shift += np.int64(zero[0])
    for i in range(cuda.grid(1), edge.size, cuda.gridsize(1)):
        edge[i] = np.uint8(shift & 255)
    channels, padded = widths
    for i in range(cuda.grid(1), offsets.size, cuda.gridsize(1)):
        group, channel = i // padded, i % padded
        value = -shift * np.int64(sums[i])
        if bias.size > 0 and channel < channels:
            value += np.int64(bias[group * channels + channel])
        offsets[i] = value


def integer_offsets(sums, zero, bias, offsets, edge, flip, widths):
    """offsets (int32) = bias - zero * sums, for padded channels; edge = zero, everywhere.

    zero: of x, none or one; it and what is written to the edge are shifted by `flip` (0: the products take signed bytes
    as they are). bias: int32 for each channel, or empty. widths: channels of a group, without and with padding.
    """
    spread(_offsets, max(edge.size, offsets.size), sums, zero, bias, offsets, edge, flip, widths)


@kernel
def _scales(x_scale, w_scale, y_scale, scales, widths):
    channels, padded = widths
    for i in range(cuda.grid(1), scales.size, cuda.gridsize(1)):
        group, channel = i // padded, min(i % padded, channels - 1)
        w = np.float32(w_scale[group * channels + channel if w_scale.size > 1 else 0])
        scales[i] = np.float32(x_scale[0]) * w / np.float32(y_scale[0])


def integer_scales(x_scale, w_scale, y_scale, scales, widths):
    """scales (float32) = x_scale * w_scale / y_scale, for padded channels; w_scale: one, or one for each channel."""
    spread(_scales, scales.size, x_scale, w_scale, y_scale, scales, widths)
