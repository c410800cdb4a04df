"""What a transposed convolution of few output channels ends with: windows added up where they overlap.

Its product has made columns (pixels of x, channels * taps): what each pixel gives to each place of its window.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial

__all__ = ["overlap_add"]


@serial
def _meets(out, tap, size, stride, dilation, begin):
    """The window along an axis whose tap lies on position `out`, or -1."""
    at = out + begin - tap * dilation
    return at // stride if at >= 0 and at % stride == 0 and at // stride < size else -1


@serial
def _add_windows(columns, y, at, place, step, size, out, channels, taps, first, count, stride, dilation, begin):
    """Add a line of windows to a line of y: taps first..first + count of each channel's, along w."""
    for tap in range(count):
        left = tap * dilation - begin
        low = max(0, -(left // stride))
        met = min(size, (out - 1 - left) // stride + 1) - low
        for c in range(channels):
            # Slices, because an index that might be negative takes a look at its sign.
            target = y[place + (low * stride + left) * channels + c :: stride * channels]
            source = columns[at + low * step + c * taps + first + tap :: step]
            for i in range(met):
                target[i] += source[i]


@serial
def _overlap_line(line, columns, bias, residual, y, channels, size, out, window, low, high):
    taps_d, taps_h, taps_w = window[:3]
    taps = taps_d * taps_h * taps_w
    h, d, image = line % out[1], line // out[1] % out[0], line // out[1] // out[0]
    place, count = line * out[2] * channels, out[2] * channels
    for w in range(place, place + count, channels):
        for c in range(channels):
            y[w + c] = (bias[c] if bias.size else y.dtype.type(0)) + (
                residual[w + c] if residual.size else y.dtype.type(0)
            )
    for tap_d in range(taps_d):
        from_d = _meets(d, tap_d, size[0], window[3], window[6], window[9])
        for tap_h in range(taps_h):
            from_h = _meets(h, tap_h, size[1], window[4], window[7], window[10])
            if from_d >= 0 and from_h >= 0:
                at = ((image * size[0] + from_d) * size[1] + from_h) * size[2] * channels * taps
                first = (tap_d * taps_h + tap_h) * taps_w
                step, along = channels * taps, (window[5], window[8], window[11])
                _add_windows(columns, y, at, place, step, size[2], out[2], channels, taps, first, taps_w, *along)
    for i in range(place, place + count):
        # The comparisons let NaN through.
        y[i] = low if y[i] < low else high if y[i] > high else y[i]


@kernel
def overlap_add(columns, bias, residual, y, channels, images, size, out, window, low, high):
    """y (images, out..., channels) = the sum of all windows, plus bias and residual (empty: none), held between low and
    high. y may be the residual.

    columns (images, size..., channels, taps). window: three integers each (d, h, w) of kernel, strides, dilations and
    begins.
    """
    for index in prange(images * out[0] * out[1]):
        line = np.int64(index)
        _overlap_line(line, columns, bias, residual, y, channels, size, out, window, low, high)
