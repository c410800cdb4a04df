"""Batch normalization where channels come in fours, a thread of four neighbours: device code of batch_norm.py, whose
names and formulas these are. What is not summed is computed the same.

`dims` counts quads of channels: (1, rows, quads).
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from nbcnn.kernels.cuda._cuda import BLOCK, cuda, kernel, types
from nbcnn.kernels.cuda.block import sum_lanes
from nbcnn.kernels.cuda.columns import part_of, stripe_of
from nbcnn.kernels.cuda.memory import WIDTH, load_row, store_row
from nbcnn.kernels.cuda.pixels import clamp

__all__ = ["SHARE", "apply_quads", "input_grad_quads", "part_sums_quads"]

SHARE = 8
"""Rows that a thread takes where nothing is summed."""
ROWS, SUMMED = 2, 4
"""Rows that it takes at a time, and where it sums."""
FEW, MANY = (ROWS, WIDTH), (SUMMED, WIDTH)


@kernel
def apply_quads(x, scale, bias, mean, var, residual, y, dims, size, epsilon, low, high):
    gain, center = cuda.local.array(WIDTH, y.dtype), cuda.local.array(WIDTH, y.dtype)
    shift, v = cuda.local.array(WIDTH, y.dtype), cuda.local.array(FEW, y.dtype)
    added = cuda.local.array(FEW, y.dtype)
    quad, _image, count, start, apart = part_of(dims, size)
    if count == 0:
        return
    at, step, adds = np.int64(start) * WIDTH, np.int64(apart) * WIDTH, residual.size > 0
    for lane in range(WIDTH):
        c = quad * WIDTH + lane
        gain[lane], center[lane], shift[lane] = scale[c] / sqrt(var[c] + epsilon), mean[c], bias[c]
    for first in range(0, count, ROWS):
        for k in range(ROWS):
            if first + k < count:
                load_row(v, k, x, at + k * step)
                if adds:
                    load_row(added, k, residual, at + k * step)
        for k in range(ROWS):
            if first + k < count:
                for lane in range(WIDTH):
                    value = (v[k, lane] - center[lane]) * gain[lane] + shift[lane]
                    if adds:
                        value += added[k, lane]
                    v[k, lane] = clamp(value, low, high)
                store_row(y, at + k * step, v, k)
        at += ROWS * step


@kernel
def part_sums_quads(dy, x, y, scale, bias, mean, var, dscale, dbias, partials, dims, parts, epsilon, low, high):
    shared = cuda.shared.array(BLOCK, types.float64)
    plain, product = cuda.local.array(WIDTH, types.float64), cuda.local.array(WIDTH, types.float64)
    gain, center = cuda.local.array(WIDTH, x.dtype), cuda.local.array(WIDTH, x.dtype)
    offset, value = cuda.local.array(WIDTH, x.dtype), cuda.local.array(MANY, x.dtype)
    grad, deviation = cuda.local.array(MANY, x.dtype), cuda.local.array(MANY, x.dtype)
    columns, has_y = dims[2] * WIDTH, y.size > 0
    quad, part, _image, count, start, apart = stripe_of(dims, parts)
    at, step = np.int64(start) * WIDTH, np.int64(apart) * WIDTH
    for lane in range(WIDTH):
        plain[lane], product[lane] = 0.0, 0.0
        if count > 0:
            c = quad * WIDTH + lane
            gain[lane], center[lane], offset[lane] = scale[c] / sqrt(var[c] + epsilon), mean[c], bias[c]
    for first in range(0, count, SUMMED):
        for k in range(SUMMED):
            if first + k < count:
                load_row(grad, k, dy, at + k * step)
                load_row(deviation, k, x, at + k * step)
                if has_y:
                    load_row(value, k, y, at + k * step)
            else:
                for lane in range(WIDTH):
                    grad[k, lane], deviation[k, lane], value[k, lane] = 0, 0, 0
        for lane in range(WIDTH):
            for k in range(SUMMED):
                deviation[k, lane] -= center[lane]
                if not has_y:
                    value[k, lane] = deviation[k, lane] * gain[lane] + offset[lane]
                if not low < value[k, lane] < high:
                    grad[k, lane] = 0
            e, f, g, h = grad[0, lane], grad[1, lane], grad[2, lane], grad[3, lane]
            p, q, r, s = deviation[0, lane], deviation[1, lane], deviation[2, lane], deviation[3, lane]
            plain[lane] += np.float64((e + f) + (g + h))
            product[lane] += np.float64((e * p + f * q) + (g * r + h * s))
        at += SUMMED * step
    for lane in range(WIDTH):
        total, moment = sum_lanes(shared, plain[lane]), sum_lanes(shared, product[lane])
        c = quad * WIDTH + lane
        if cuda.threadIdx.y == 0 and c < columns:
            if parts == 1:
                dbias[c] = total
                dscale[c] = moment / sqrt(np.float64(var[c]) + np.float64(epsilon))
            else:
                partials[part * 2 * columns + c] = total
                partials[(part * 2 + 1) * columns + c] = moment


@kernel
def input_grad_quads(dy, x, y, scale, bias, mean, var, dscale, dbias, dx, dz, dims, size, epsilon, low, high):
    gain, center = cuda.local.array(WIDTH, x.dtype), cuda.local.array(WIDTH, x.dtype)
    slope, shift = cuda.local.array(WIDTH, x.dtype), cuda.local.array(WIDTH, x.dtype)
    forward, offset = cuda.local.array(WIDTH, x.dtype), cuda.local.array(WIDTH, x.dtype)
    grad, v, value = cuda.local.array(FEW, x.dtype), cuda.local.array(FEW, x.dtype), cuda.local.array(FEW, x.dtype)
    quad, _image, count, start, apart = part_of(dims, size)
    if count == 0:
        return
    at, step = np.int64(start) * WIDTH, np.int64(apart) * WIDTH
    has_y, keeps, rows = y.size > 0, dz.size > 0, x.dtype.type(dims[1])
    for lane in range(WIDTH):
        c = quad * WIDTH + lane
        inverse = x.dtype.type(1) / sqrt(var[c] + epsilon)
        gain[lane], center[lane], offset[lane] = scale[c] * inverse, mean[c], bias[c]
        forward[lane] = scale[c] / sqrt(var[c] + epsilon)
        slope[lane], shift[lane] = 0, 0
        if dscale.size > 0:
            shift[lane], slope[lane] = gain[lane] * dbias[c] / rows, gain[lane] * inverse * dscale[c] / rows
    for first in range(0, count, ROWS):
        for k in range(ROWS):
            if first + k < count:
                load_row(grad, k, dy, at + k * step)
                load_row(v, k, x, at + k * step)
                if has_y:
                    load_row(value, k, y, at + k * step)
        for k in range(ROWS):
            if first + k < count:
                for lane in range(WIDTH):
                    deviation = v[k, lane] - center[lane]
                    if not has_y:
                        value[k, lane] = deviation * forward[lane] + offset[lane]
                    if not low < value[k, lane] < high:
                        grad[k, lane] = 0
                    v[k, lane] = grad[k, lane] * gain[lane] - (deviation * slope[lane] + shift[lane])
                if keeps:
                    store_row(dz, at + k * step, grad, k)
                store_row(dx, at + k * step, v, k)
        at += ROWS * step
