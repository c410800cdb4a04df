"""Pictures from the columns of their windows, and back, in ONNX order.

x (planes, taps, windows) holds what each tap of each window meets, y (planes, d, h, w) the pictures. `geometry` is
three integers each of: size of a picture, windows, kernel, strides, dilations, begins.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial

__all__ = ["columns_to_pictures", "pictures_to_columns"]


@serial
def _meeting(tap, geometry):
    """Windows first..last along w whose tap of this number there meets the picture."""
    size, windows, stride, start = geometry[2], geometry[5], geometry[11], tap * geometry[14] - geometry[17]
    first = max(0, -(start // stride))
    return first, max(first, min(windows, (size - 1 - start) // stride + 1))


@serial
def _plane(plane, x, y, geometry, gather):
    _, in_h, in_w, out_d, out_h, out_w, taps_d, taps_h, taps_w = geometry[:9]
    columns = out_d * out_h * out_w
    for tap in range(taps_d * taps_h * taps_w):
        tap_d, tap_h, tap_w = tap // (taps_h * taps_w), tap // taps_w % taps_h, tap % taps_w
        first, last = _meeting(tap_w, geometry)
        for line in range(out_d * out_h):
            d = line // out_h * geometry[9] + tap_d * geometry[12] - geometry[15]
            h = line % out_h * geometry[10] + tap_h * geometry[13] - geometry[16]
            at = (plane * taps_d * taps_h * taps_w + tap) * columns + line * out_w
            if not (0 <= d < geometry[0] and 0 <= h < in_h):
                if gather:
                    x[at : at + out_w] = 0
                continue
            place = ((plane * geometry[0] + d) * in_h + h) * in_w + tap_w * geometry[14] - geometry[17]
            if gather:
                x[at : at + first] = 0
                x[at + last : at + out_w] = 0
                for w in range(first, last):
                    x[at + w] = y[place + w * geometry[11]]
            else:
                for w in range(first, last):
                    y[place + w * geometry[11]] += x[at + w]


@kernel
def columns_to_pictures(x, y, planes, geometry):
    """y = the sum of what lies on each pixel (ONNX Col2Im)."""
    for index in prange(planes):
        plane = np.int64(index)
        pixels = geometry[0] * geometry[1] * geometry[2]
        y[plane * pixels : (plane + 1) * pixels] = 0
        _plane(plane, x, y, geometry, False)


@kernel
def pictures_to_columns(y, x, planes, geometry):
    """x = the pixels that each tap of each window meets, 0 outside: the gradient of columns_to_pictures."""
    for index in prange(planes):
        plane = np.int64(index)
        _plane(plane, x, y, geometry, True)
