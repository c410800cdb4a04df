"""Pictures from the columns of their windows, and back, in ONNX order. A thread makes one element: of its pixel it asks
which windows lie on it, so that nothing is added to twice at once.
"""

from __future__ import annotations

from math import prod

from nbcnn.kernels.cuda._cuda import cuda, kernel, spread
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.overlap import meets

__all__ = ["columns_to_pictures", "pictures_to_columns"]


@kernel
def _to_pictures(x, y, count, geometry):
    in_d, in_h, in_w, out_d, out_h, out_w, taps_d, taps_h, taps_w = geometry[:9]
    stride_d, stride_h, stride_w, gap_d, gap_h, gap_w, begin_d, begin_h, begin_w = geometry[9:]
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        w, rest = remainder(i, in_w), divide(i, in_w)
        h, rest = remainder(rest, in_h), divide(rest, in_h)
        d, plane = remainder(rest, in_d), divide(rest, in_d)
        total = y.dtype.type(0)
        for tap_d in range(taps_d):
            at_d = meets(d, tap_d, out_d, stride_d, gap_d, begin_d)
            for tap_h in range(taps_h if at_d >= 0 else 0):
                at_h = meets(h, tap_h, out_h, stride_h, gap_h, begin_h)
                for tap_w in range(taps_w if at_h >= 0 else 0):
                    at_w = meets(w, tap_w, out_w, stride_w, gap_w, begin_w)
                    if at_w >= 0:
                        tap = ((plane * taps_d + tap_d) * taps_h + tap_h) * taps_w + tap_w
                        total += x[((tap * out_d + at_d) * out_h + at_h) * out_w + at_w]
        y[i] = total


def columns_to_pictures(x, y, planes, geometry):
    """y = the sum of what lies on each pixel (ONNX Col2Im)."""
    count = planes * prod(geometry[:3])
    spread(_to_pictures, count, x, y, count, geometry)


@kernel
def _to_columns(y, x, count, geometry):
    in_d, in_h, in_w, out_d, out_h, out_w, taps_d, taps_h, taps_w = geometry[:9]
    stride_d, stride_h, stride_w, gap_d, gap_h, gap_w, begin_d, begin_h, begin_w = geometry[9:]
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        w, rest = remainder(i, out_w) * stride_w - begin_w, divide(i, out_w)
        h, rest = remainder(rest, out_h) * stride_h - begin_h, divide(rest, out_h)
        d, rest = remainder(rest, out_d) * stride_d - begin_d, divide(rest, out_d)
        w, rest = w + remainder(rest, taps_w) * gap_w, divide(rest, taps_w)
        h, rest = h + remainder(rest, taps_h) * gap_h, divide(rest, taps_h)
        d, plane = d + remainder(rest, taps_d) * gap_d, divide(rest, taps_d)
        inside = 0 <= d < in_d and 0 <= h < in_h and 0 <= w < in_w
        x[i] = y[((plane * in_d + d) * in_h + h) * in_w + w] if inside else x.dtype.type(0)


def pictures_to_columns(y, x, planes, geometry):
    """x = the pixels that each tap of each window meets, 0 outside: the gradient of columns_to_pictures."""
    count = planes * prod(geometry[3:9])
    spread(_to_columns, count, y, x, count, geometry)
