"""What products of integers need beside their weights: a number for each channel that the sums begin with, and one
that they are multiplied by.
"""

from __future__ import annotations

import numpy as np

from nbcnn.kernels.cpu.jit import small_kernel
from nbcnn.kernels.cpu.rounding import divide

__all__ = ["integer_offsets", "integer_scales"]


@small_kernel
def integer_offsets(sums, zero, bias, offsets, edge, flip, widths):
    """offsets (int32) = bias - zero * sums, for padded channels; edge = zero, everywhere.

    zero: of x, none or one; it and what is written to the edge are shifted by `flip` (128 for signed bytes). bias:
    int32 for each channel, or empty. widths: channels of a group, without and with padding.
    """
    shift = np.int32(flip)
    if zero.size > 0:
        shift += np.int32(zero[0])
    for i in range(edge.size):
        edge[i] = shift
    channels, padded = widths
    for i in range(offsets.size):
        group, channel = i // padded, i % padded
        value = -shift * sums[i]
        if (bias.size > 0) & (channel < channels):
            value += bias[group * channels + channel]
        offsets[i] = value


@small_kernel
def integer_scales(x_scale, w_scale, y_scale, scales, widths):
    """scales (float32) = x_scale * w_scale / y_scale, for padded channels; w_scale: one, or one for each channel."""
    channels, padded = widths
    for i in range(scales.size):
        group, channel = i // padded, min(i % padded, channels - 1)
        w = np.float32(w_scale[group * channels + channel if w_scale.size > 1 else 0])
        scales[i] = divide(np.float32(x_scale[0]) * w, np.float32(y_scale[0]))
