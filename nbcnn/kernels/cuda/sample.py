"""Sampling between pixels: which pixels each sample reads, and with what weights.

See kernels/cpu/sample.py for `form`, `window` and `strides`. Each thread takes one sample; positions are worked out in
float64, as there.
"""

from __future__ import annotations

import math

import numpy as np

from nbcnn.kernels.cuda._cuda import cuda, device, kernel, spread
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.memory import get
from nbcnn.kernels.opcodes import BORDER, CUBIC, LINEAR, NEAREST, REFLECTION

__all__ = ["sampling_grad", "sampling_taps"]

FAR = 1e9
"""Positions further out than so are no integers."""
KEYS = -0.75
"""The parameter of cubic interpolation, as ONNX GridSample fixes it."""


@device
def _reflected(v, low, high):
    """v folded back at low and high until it lies between them, and the sign of its derivative."""
    span = high - low
    if span <= 0:
        return low, 0.0
    beyond = low - v if v < low else v - high
    turns = float(math.floor(beyond / span))
    rest = beyond - turns * span
    if (turns % 2.0 == 0.0) == (v < low):
        return low + rest, -1.0 if v < low else 1.0
    return high - rest, 1.0 if v < low else -1.0


@device
def _pixel(i, size, padding, aligned):
    """The pixel that is read for number i of an axis, -1 for none."""
    if 0 <= i < size:
        return i
    if padding == BORDER:
        return min(max(i, 0), size - 1)
    if padding == REFLECTION:
        low = 0.0 if aligned else -0.5
        folded, _ = _reflected(float(i), low, size - 1 - low)
        return min(max(int(folded), 0), size - 1)
    return -1


@device
def _rounded(v):
    """To the nearest integer, halves to the even one; what is far out stays."""
    if not abs(v) < FAR:
        return v
    low = np.int64(math.floor(v))
    up = v - low > 0.5 or (v - low == 0.5 and low % 2 != 0)
    return float(low + 1 if up else low)


@device
def _place(v, size, fixed, mode, padding, aligned, normalized, kind):
    """(first pixel, how far beyond the pixel from which taps are weighted, derivative by v) of a value on an axis."""
    position, slope = np.float64(v) + fixed, 1.0
    if normalized:
        # Rounded after every operation, as runtimes do, so that ties between pixels fall the same way.
        scaled = kind(np.float64(v + kind(1)) * (size - aligned))
        position = np.float64(kind(np.float64(scaled) - (1 - aligned))) * 0.5
        slope = 0.5 * (size - aligned)
    if mode == NEAREST:
        position, slope = _rounded(position), 0.0
    low = 0.0 if aligned else -0.5
    high = size - 1 - low
    if abs(position) < FAR and (position < low or position > high):
        if padding == BORDER and mode != CUBIC:  # whose taps alone are held inside, in PyTorch and onnxruntime
            position, slope = min(max(position, 0.0), size - 1.0), 0.0
        elif padding == REFLECTION:
            position, sign = _reflected(position, low, high)
            slope *= sign
    if not abs(position) < FAR:
        # A position that is not a number gives none; one far out, or infinite, is out.
        if math.isnan(position) or padding == REFLECTION:
            return 0, math.nan, 0.0
        if padding == BORDER:
            position, slope = (size - 1.0 if position > 0 else 0.0), 0.0
        else:
            return -10, 0.0, 0.0
    left = np.int64(math.floor(position))
    return left - (1 if mode == CUBIC else 0), position - left, slope


@device
def _weight(mode, k, t):
    """The weight of tap k of a position that lies t beyond a pixel. Cubic: Keys, "Cubic convolution interpolation for
    digital image processing", 1981, equation 15.
    """
    if mode == NEAREST:
        return 1.0 + 0.0 * t
    if mode == LINEAR:
        return t if k else 1.0 - t
    d = abs(k - 1 - t)
    if d <= 1:
        return ((KEYS + 2) * d - (KEYS + 3)) * d * d + 1
    return ((KEYS * d - 5 * KEYS) * d + 8 * KEYS) * d - 4 * KEYS


@device
def _weight_slope(mode, k, t):
    """The derivative of _weight by t."""
    if mode == NEAREST:
        return 0.0
    if mode == LINEAR:
        return 1.0 if k else -1.0
    d = abs(k - 1 - t)
    sign = 1.0 if k < 2 else -1.0
    if d <= 1:
        return sign * (3 * (KEYS + 2) * d - 2 * (KEYS + 3)) * d
    return sign * ((3 * KEYS * d - 10 * KEYS) * d + 8 * KEYS)


@device
def _axis(values, at, size, form, axis, fixed, step):
    """_place of axis 0 to 2 of a sample; an axis that is not sampled has one pixel."""
    rank, mode, padding, aligned, normalized = form
    if axis < 3 - rank:
        return 0, 0.0, 0.0
    value = get(values, at + (axis - 3 + rank) * step)
    return _place(value, size, fixed, mode, padding, aligned, normalized, values.dtype.type)


@device
def _sample(number, values, form, size, out, sets, window, strides):
    """Image, d, h and w of sample `number`, its set, and _axis of d, h and w."""
    point, s = divide(number, sets), remainder(number, sets)
    line, volume = divide(point, out[3]), divide(point, out[3] * out[2])
    image, d, h, w = (
        divide(volume, out[1]),
        remainder(volume, out[1]),
        remainder(line, out[2]),
        remainder(point, out[3]),
    )
    at = strides[0] + image * strides[1] + s * strides[2] + d * strides[4] + h * strides[5] + w * strides[6]
    # Which tap of the window it is, and so how far from its corner.
    tap_d = divide(remainder(s, window[0] * window[1] * window[2]), window[1] * window[2])
    tap_h, tap_w = remainder(divide(s, window[2]), window[1]), remainder(s, window[2])
    fixed_d = d * window[3] + tap_d * window[6] - window[9]
    fixed_h = h * window[4] + tap_h * window[7] - window[10]
    fixed_w = w * window[5] + tap_w * window[8] - window[11]
    return (
        (image, d, h, w, s),
        at,
        _axis(values, at, size[0], form, 0, fixed_d, strides[3]),
        _axis(values, at, size[1], form, 1, fixed_h, strides[3]),
        _axis(values, at, size[2], form, 2, fixed_w, strides[3]),
    )


@device
def _modes(form):
    """How d, h and w are interpolated."""
    rank, mode, _, _, _ = form
    return mode if rank > 2 else NEAREST, mode if rank > 1 else NEAREST, mode


@device
def _mask_at(where, mask_strides):
    image, d, h, w, s = where
    at = image * mask_strides[0] + s * mask_strides[1] + d * mask_strides[2]
    return at + h * mask_strides[3] + w * mask_strides[4]


@kernel
def _taps(values, mask, places, weights, count, form, size, out, sets, window, strides, mask_strides):
    number = cuda.grid(1)
    while number < count:
        where, _, of_d, of_h, of_w = _sample(number, values, form, size, out, sets, window, strides)
        padding, aligned = form[2], form[3]
        mode_d, mode_h, mode_w = _modes(form)
        factor = 1.0
        if mask.size:
            factor = np.float64(get(mask, _mask_at(where, mask_strides)))
        t = number << (mode_d + mode_h + mode_w)
        for k_d in range(1 << mode_d):
            at_d = _pixel(of_d[0] + k_d, size[0], padding, aligned)
            weight_d = factor * _weight(mode_d, k_d, of_d[1])
            for k_h in range(1 << mode_h):
                at_h = _pixel(of_h[0] + k_h, size[1], padding, aligned)
                weight_h = weight_d * _weight(mode_h, k_h, of_h[1])
                for k_w in range(1 << mode_w):
                    at_w = _pixel(of_w[0] + k_w, size[2], padding, aligned)
                    inside = at_d >= 0 and at_h >= 0 and at_w >= 0
                    places[t] = ((where[0] * size[0] + at_d) * size[1] + at_h) * size[2] + at_w if inside else -1
                    weights[t] = weight_h * _weight(mode_w, k_w, of_w[1])
                    t += 1
        number += cuda.gridsize(1)


def sampling_taps(values, mask, places, weights, form, size, out, sets, window, strides, mask_strides):
    """places, weights (out..., sets, taps): the pixel that each tap reads, counted over all images of `size` (d, h, w),
    or -1 where it reads nothing, and its weight, times the sample's factor in `mask` (which may be empty).
    """
    count = out[0] * out[1] * out[2] * out[3] * sets
    how = (count, form, size, out, sets, window, strides, mask_strides)
    spread(_taps, count, values, mask, places, weights, *how)


@kernel
def _grad(values, mask, products, dvalues, dmask, count, form, size, out, sets, window, strides, mask_strides):
    number = cuda.grid(1)
    while number < count:
        where, at, of_d, of_h, of_w = _sample(number, values, form, size, out, sets, window, strides)
        mode_d, mode_h, mode_w = _modes(form)
        by_d = by_h = by_w = total = 0.0
        t = number << (mode_d + mode_h + mode_w)
        for k_d in range(1 << mode_d):
            weight_d, change_d = _weight(mode_d, k_d, of_d[1]), _weight_slope(mode_d, k_d, of_d[1])
            for k_h in range(1 << mode_h):
                weight_h, change_h = _weight(mode_h, k_h, of_h[1]), _weight_slope(mode_h, k_h, of_h[1])
                for k_w in range(1 << mode_w):
                    weight_w, change_w = _weight(mode_w, k_w, of_w[1]), _weight_slope(mode_w, k_w, of_w[1])
                    product = np.float64(get(products, t))
                    by_d += product * change_d * weight_h * weight_w
                    by_h += product * weight_d * change_h * weight_w
                    by_w += product * weight_d * weight_h * change_w
                    total += product * weight_d * weight_h * weight_w
                    t += 1
        factor = 1.0
        if mask.size:
            at_mask = _mask_at(where, mask_strides)
            factor = np.float64(get(mask, at_mask))
            dmask[at_mask] = total
        at += (form[0] - 1) * strides[3]
        dvalues[at] = factor * of_w[2] * by_w
        if form[0] > 1:
            dvalues[at - strides[3]] = factor * of_h[2] * by_h
        if form[0] > 2:
            dvalues[at - 2 * strides[3]] = factor * of_d[2] * by_d
        number += cuda.gridsize(1)


def sampling_grad(values, mask, products, dvalues, dmask, form, size, out, sets, window, strides, mask_strides):
    """The gradients by values and mask (which lie as these do), from products (out..., sets, taps): what each tap reads
    times the gradient of what its sample gives.
    """
    count = out[0] * out[1] * out[2] * out[3] * sets
    how = (count, form, size, out, sets, window, strides, mask_strides)
    spread(_grad, count, values, mask, products, dvalues, dmask, *how)
