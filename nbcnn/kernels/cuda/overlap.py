"""What a transposed convolution of few output channels ends with: windows added up where they overlap."""

from __future__ import annotations

from math import prod

from nbcnn.kernels.cuda._cuda import cuda, device, kernel, spread
from nbcnn.kernels.cuda.index import divide, remainder

__all__ = ["meets", "overlap_add"]


@device
def meets(at, tap, size, stride, dilation, begin):
    """The window along an axis whose tap lies on position `at` of the picture, or -1."""
    at += begin - tap * dilation
    if at < 0 or remainder(at, stride) != 0:
        return -1
    found = divide(at, stride)
    return found if found < size else -1


@kernel
def _overlap_add(columns, bias, residual, y, count, channels, size, out, window, low, high):
    taps_d, taps_h, taps_w, stride_d, stride_h, stride_w, gap_d, gap_h, gap_w, begin_d, begin_h, begin_w = window
    zero = y.dtype.type(0)
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        c, rest = remainder(i, channels), divide(i, channels)
        w, rest = remainder(rest, out[2]), divide(rest, out[2])
        h, rest = remainder(rest, out[1]), divide(rest, out[1])
        d, image = remainder(rest, out[0]), divide(rest, out[0])
        total = (bias[c] if bias.size > 0 else zero) + (residual[i] if residual.size > 0 else zero)
        for tap_d in range(taps_d):
            from_d = meets(d, tap_d, size[0], stride_d, gap_d, begin_d)
            for tap_h in range(taps_h if from_d >= 0 else 0):
                from_h = meets(h, tap_h, size[1], stride_h, gap_h, begin_h)
                for tap_w in range(taps_w if from_h >= 0 else 0):
                    from_w = meets(w, tap_w, size[2], stride_w, gap_w, begin_w)
                    if from_w >= 0:
                        pixel = ((image * size[0] + from_d) * size[1] + from_h) * size[2] + from_w
                        total += columns[(((pixel * channels + c) * taps_d + tap_d) * taps_h + tap_h) * taps_w + tap_w]
        # The comparisons let NaN through.
        y[i] = low if total < low else high if total > high else total


def overlap_add(columns, bias, residual, y, channels, images, size, out, window, low, high):
    """y (images, out..., channels) = the sum of all windows, plus bias and residual (empty: none), held between low and
    high. y may be the residual.
    """
    count = images * prod(out) * channels
    spread(_overlap_add, count, columns, bias, residual, y, count, channels, size, out, window, low, high)
