"""Sampling between pixels: which pixels each sample reads, and with what weights.

A sample is a position in pixels along d, h and w, made of a value that the network computes and of a fixed grid. It
reads 1, 2 or 4 pixels along each axis (nearest, linear, cubic), its taps; blend.py then does the arithmetic on
channels. Samples lie on a grid `out`, (images, d, h, w), with `sets` of them at each point.

`form` is (rank, mode, padding, aligned, normalized): the last `rank` axes of d, h and w are sampled; aligned: -1 and 1
are the centres of the outermost pixels, or else their outer edges; normalized: values say where from -1 to 1, or else
how many pixels to move. `window` is kernel, strides, dilations and begins, three integers each: sample s of a point is
tap s % taps of a window there, from which the values count. `strides` says where a value lies: its start, and the
steps for image, set, axis, d, h and w; those of the mask have neither start nor axis.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.opcodes import BORDER, CUBIC, LINEAR, NEAREST, REFLECTION

__all__ = ["sampling_grad", "sampling_taps"]

FAR = 1e9
"""Positions further out than so are no integers."""
KEYS = -0.75
"""The parameter of cubic interpolation, as ONNX GridSample fixes it."""


@serial
def _reflected(v, low, high):
    """v folded back at low and high until it lies between them, and the sign of its derivative."""
    span = high - low
    if span <= 0:
        return low, 0.0
    beyond = low - v if v < low else v - high
    turns = np.floor(beyond / span)
    rest = beyond - turns * span
    if (turns % 2 == 0) == (v < low):
        return low + rest, -1.0 if v < low else 1.0
    return high - rest, 1.0 if v < low else -1.0


@serial
def _pixel(i, size, padding, aligned):
    """The pixel that is read for number i of an axis, -1 for none."""
    if 0 <= i < size:
        return i
    if padding == BORDER:
        return min(max(i, 0), size - 1)
    if padding == REFLECTION:
        low = 0.0 if aligned else -0.5
        folded, _ = _reflected(np.float64(i), low, size - 1 - low)
        return min(max(np.int64(folded), 0), size - 1)
    return -1


@serial
def _place(v, size, fixed, mode, padding, aligned, normalized, kind):
    """(first pixel, how far beyond the pixel from which taps are weighted, derivative by v) of a value on an axis."""
    position, slope = np.float64(v) + fixed, 1.0
    if normalized:
        # Rounded after every operation, as runtimes do, so that ties between pixels fall the same way.
        scaled = kind(np.float64(v + kind(1)) * (size - aligned))
        position = np.float64(kind(np.float64(scaled) - (1 - aligned))) * 0.5
        slope = 0.5 * (size - aligned)
    if mode == NEAREST:
        position, slope = np.rint(position), 0.0
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
        if np.isnan(position) or padding == REFLECTION:
            return np.int64(0), np.nan, 0.0
        if padding == BORDER:
            position, slope = (size - 1.0 if position > 0 else 0.0), 0.0
        else:
            return np.int64(-10), 0.0, 0.0
    left = np.floor(position)
    return np.int64(left) - (1 if mode == CUBIC else 0), position - left, slope


@serial
def _weight(mode, k, t):
    """The weight of tap k of a position that lies t beyond a pixel. Cubic: Keys, "Cubic convolution interpolation for
    digital image processing", 1981, equation 15.
    """
    if mode == NEAREST:
        return 1.0 + 0 * t
    if mode == LINEAR:
        return t if k else 1 - t
    d = abs(k - 1 - t)
    if d <= 1:
        return ((KEYS + 2) * d - (KEYS + 3)) * d * d + 1
    return ((KEYS * d - 5 * KEYS) * d + 8 * KEYS) * d - 4 * KEYS


@serial
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


@serial
def _axis(number, values, at, form, size, point, tap, window, strides):
    """_place of axis `number` of a sample; an axis that is not sampled has one pixel."""
    rank, mode, padding, aligned, normalized = form
    if number < 3 - rank:
        return np.int64(0), 0.0, 0.0
    place = at + (number - 3 + rank) * strides[3]
    fixed = point[number] * window[3 + number] + tap[number] * window[6 + number] - window[9 + number]
    return _place(values[place], size[number], fixed, mode, padding, aligned, normalized, values.dtype.type)


@serial
def _tap_of(s, window):
    """The place in the window of sample s of a point."""
    number = s % (window[0] * window[1] * window[2])
    return number // (window[1] * window[2]), number // window[2] % window[1], number % window[2]


@serial
def _taps_line(line, values, mask, places, weights, form, size, out, sets, window, strides, mask_strides):
    rank, mode, padding, aligned, _ = form
    mode_d, mode_h = mode if rank > 2 else NEAREST, mode if rank > 1 else NEAREST
    h, d, image = line % out[2], line // out[2] % out[1], line // out[2] // out[1]
    t = line * out[3] * sets << (mode_d + mode_h + mode)
    for w in range(out[3]):
        for s in range(sets):
            at = strides[0] + image * strides[1] + s * strides[2]
            at += d * strides[4] + h * strides[5] + w * strides[6]
            tap, point = _tap_of(s, window), (d, h, w)
            first_d, t_d, _ = _axis(0, values, at, form, size, point, tap, window, strides)
            first_h, t_h, _ = _axis(1, values, at, form, size, point, tap, window, strides)
            first_w, t_w, _ = _axis(2, values, at, form, size, point, tap, window, strides)
            factor = 1.0
            if mask.size:
                at_mask = image * mask_strides[0] + s * mask_strides[1] + d * mask_strides[2]
                factor = np.float64(mask[at_mask + h * mask_strides[3] + w * mask_strides[4]])
            for k_d in range(1 << mode_d):
                at_d = _pixel(first_d + k_d, size[0], padding, aligned)
                weight_d = factor * _weight(mode_d, k_d, t_d)
                for k_h in range(1 << mode_h):
                    at_h = _pixel(first_h + k_h, size[1], padding, aligned)
                    weight_h = weight_d * _weight(mode_h, k_h, t_h)
                    for k_w in range(1 << mode):
                        at_w = _pixel(first_w + k_w, size[2], padding, aligned)
                        inside = at_d >= 0 and at_h >= 0 and at_w >= 0
                        places[t] = ((image * size[0] + at_d) * size[1] + at_h) * size[2] + at_w if inside else -1
                        weights[t] = weight_h * _weight(mode, k_w, t_w)
                        t += 1


@kernel
def sampling_taps(values, mask, places, weights, form, size, out, sets, window, strides, mask_strides):
    """places, weights (out..., sets, taps): the pixel that each tap reads, counted over all images of `size` (d, h, w),
    or -1 where it reads nothing, and its weight, times the sample's factor in `mask` (which may be empty).
    """
    for index in prange(out[0] * out[1] * out[2]):
        line = np.int64(index)
        _taps_line(line, values, mask, places, weights, form, size, out, sets, window, strides, mask_strides)


@serial
def _grad_line(line, values, mask, products, dvalues, dmask, form, size, out, sets, window, strides, mask_strides):
    rank, mode, _, _, _ = form
    mode_d, mode_h = mode if rank > 2 else NEAREST, mode if rank > 1 else NEAREST
    h, d, image = line % out[2], line // out[2] % out[1], line // out[2] // out[1]
    t = line * out[3] * sets << (mode_d + mode_h + mode)
    for w in range(out[3]):
        for s in range(sets):
            at = strides[0] + image * strides[1] + s * strides[2]
            at += d * strides[4] + h * strides[5] + w * strides[6]
            tap, point = _tap_of(s, window), (d, h, w)
            _, t_d, slope_d = _axis(0, values, at, form, size, point, tap, window, strides)
            _, t_h, slope_h = _axis(1, values, at, form, size, point, tap, window, strides)
            _, t_w, slope_w = _axis(2, values, at, form, size, point, tap, window, strides)
            by_d = by_h = by_w = total = 0.0
            for k_d in range(1 << mode_d):
                weight_d, change_d = _weight(mode_d, k_d, t_d), _weight_slope(mode_d, k_d, t_d)
                for k_h in range(1 << mode_h):
                    weight_h, change_h = _weight(mode_h, k_h, t_h), _weight_slope(mode_h, k_h, t_h)
                    for k_w in range(1 << mode):
                        weight_w, change_w = _weight(mode, k_w, t_w), _weight_slope(mode, k_w, t_w)
                        product = np.float64(products[t])
                        by_d += product * change_d * weight_h * weight_w
                        by_h += product * weight_d * change_h * weight_w
                        by_w += product * weight_d * weight_h * change_w
                        total += product * weight_d * weight_h * weight_w
                        t += 1
            factor = 1.0
            if mask.size:
                at_mask = image * mask_strides[0] + s * mask_strides[1] + d * mask_strides[2]
                at_mask += h * mask_strides[3] + w * mask_strides[4]
                factor = np.float64(mask[at_mask])
                dmask[at_mask] = total
            at += (rank - 1) * strides[3]
            dvalues[at] = factor * slope_w * by_w
            if rank > 1:
                dvalues[at - strides[3]] = factor * slope_h * by_h
            if rank > 2:
                dvalues[at - 2 * strides[3]] = factor * slope_d * by_d


@kernel
def sampling_grad(values, mask, products, dvalues, dmask, form, size, out, sets, window, strides, mask_strides):
    """The gradients by values and mask (which lie as these do), from products (out..., sets, taps): what each tap reads
    times the gradient of what its sample gives.
    """
    for index in prange(out[0] * out[1] * out[2]):
        line = np.int64(index)
        _grad_line(line, values, mask, products, dvalues, dmask, form, size, out, sets, window, strides, mask_strides)
