"""Normalization where what is brought together lies in columns: x is (outer, rows, columns), and `width` neighbouring
columns make a group; a statistic for each of them in each outer part. That is channels last.

What is computed of an element depends on its column alone, by tables that lie as (kinds of factor, outer, columns).
`dims` is (outer, rows, columns, width); `settings` as in norm_lines.py.
"""

from __future__ import annotations

import numpy as np

from nbcnn.kernels.cuda._cuda import BLOCK, cuda, device, kernel, launch, spread, types
from nbcnn.kernels.cuda.block import sum_lanes, threads_for
from nbcnn.kernels.cuda.columns import (
    blocks_of,
    column_of,
    column_threads,
    column_totals,
    merge_shape,
    part_of,
    streamed,
    stripe_of,
)
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.moments import column_moments
from nbcnn.kernels.cuda.norm_lines import inverse_of, slopes
from nbcnn.kernels.cuda.row_parts import parts_of
from nbcnn.kernels.opcodes import DEVIATION

__all__ = [
    "norm_columns_apply",
    "norm_columns_grad",
    "norm_columns_moments",
    "norm_columns_sums",
    "norm_columns_tables",
]

CENTER, SLOPE, SHIFT, GAIN = 0, 1, 2, 3
"""The tables: y = (x - CENTER) * SLOPE + SHIFT; of a gradient, plus dy * GAIN."""


def norm_columns_moments(x, mean, var, partials, dims):
    """mean, var (outer, columns): mean and population variance of each column.

    partials: scratch in float64, 2 * columns for each part of the rows (row_parts.py) of each outer part.
    """
    column_moments(x, mean, var, partials, dims[:3])


@device
def _group(size, width):
    """The group of a thread, its first column (of `size`), and the thread's number of columns, blockDim.y apart."""
    group = cuda.blockIdx.x * cuda.blockDim.z + cuda.threadIdx.z
    return group, group * width, width if group * width < size else 0


@kernel
def _tables(kind, first, second, scale, bias, mean, inverse, tables, dims, settings):
    shared = cuda.shared.array(BLOCK, types.float64)
    columns, width = dims[2], dims[3]
    size = dims[0] * columns
    group, start, end = _group(size, width)
    center, total = 0.0, 0.0
    if kind == DEVIATION:
        for i in range(start + cuda.threadIdx.y, start + end, cuda.blockDim.y):
            center += np.float64(first[i])
        center = sum_lanes(shared, center) / np.float64(width)
        for i in range(start + cuda.threadIdx.y, start + end, cuda.blockDim.y):
            distance = np.float64(first[i]) - center
            total += np.float64(second[i]) + distance * distance
        total = sum_lanes(shared, total) / np.float64(width) * settings[0]
    else:
        for i in range(start + cuda.threadIdx.y, start + end, cuda.blockDim.y):
            total += np.float64(second[i])
        total = sum_lanes(shared, total)
    factor = inverse_of(kind, total, settings)
    if cuda.threadIdx.y == 0 and end > 0:
        mean[group], inverse[group] = center, factor
    for i in range(start + cuda.threadIdx.y, start + end, cuda.blockDim.y):
        c = remainder(i, columns)
        tables[CENTER * size + i] = center
        tables[SLOPE * size + i] = factor * np.float64(scale[c]) if scale.size > 0 else factor
        tables[SHIFT * size + i] = np.float64(bias[c]) if bias.size > 0 else 0.0


def _launch_groups(code, dims, *args):
    threads = threads_for(1, dims[3])
    launch(code, -(-dims[0] * (dims[2] // dims[3]) // threads[2]), threads, *args)


def norm_columns_tables(kind, first, second, scale, bias, mean, inverse, tables, dims, settings):
    """mean, inverse (outer, groups), and tables (3, outer, columns), from statistics of columns (outer, columns): their
    means and variances for DEVIATION, and the sums in `second` for the other kinds. scale, bias (columns) or empty.
    """
    _launch_groups(_tables, dims, kind, first, second, scale, bias, mean, inverse, tables, dims, settings)


@kernel
def _apply(x, dy, tables, y, dims, height):
    c, image, count, at, step = part_of(dims, height)
    if count == 0:
        return
    size, place, two = dims[0] * dims[2], image * dims[2] + c, step + step
    center, slope, shift = tables[place], tables[SLOPE * size + place], tables[SHIFT * size + place]
    gain = tables[GAIN * size + place] if dy.size > 0 else slope
    for _ in range(count >> 2):
        at1, at2, at3 = at + step, at + two, at + two + step
        p, q, r, s = x[at], x[at1], x[at2], x[at3]
        p, q = (p - center) * slope + shift, (q - center) * slope + shift
        r, s = (r - center) * slope + shift, (s - center) * slope + shift
        if dy.size > 0:
            p, q, r, s = p + dy[at] * gain, q + dy[at1] * gain, r + dy[at2] * gain, s + dy[at3] * gain
        y[at], y[at1], y[at2], y[at3] = p, q, r, s
        at += two + two
    for _ in range(count & 3):
        p = (x[at] - center) * slope + shift
        if dy.size > 0:
            p += dy[at] * gain
        y[at] = p
        at += step


def norm_columns_apply(x, dy, tables, y, dims):
    """y = (x - center) * slope + shift, and plus dy * gain where dy is not empty, by the column's tables; y may be x or
    dy.
    """
    height, blocks, threads = streamed(dims)
    launch(_apply, blocks, threads, x, dy, tables, y, dims, height)


# --- gradients --------------------------------------------------------------------------------------------------------


@kernel
def _part_sums(dy, x, mean, partials, dims, parts):
    shared = cuda.shared.array(BLOCK, types.float64)
    columns, width = dims[2], dims[3]
    c, part, image, count, at, step = stripe_of(dims, parts)
    plain, product, two = 0.0, 0.0, step + step
    if count > 0:
        center = mean[divide(image * columns + c, width)]
        for _ in range(count >> 2):
            at1, at2, at3 = at + step, at + two, at + two + step
            e, f, g, h = dy[at], dy[at1], dy[at2], dy[at3]
            p, q, r, s = x[at] - center, x[at1] - center, x[at2] - center, x[at3] - center
            plain += np.float64((e + f) + (g + h))
            product += np.float64((e * p + f * q) + (g * r + h * s))
            at += two + two
        for _ in range(count & 3):
            plain += np.float64(dy[at])
            product += np.float64(dy[at] * (x[at] - center))
            at += step
    plain, product = sum_lanes(shared, plain), sum_lanes(shared, product)
    if cuda.threadIdx.y == 0 and c < columns:
        place = (image * parts + part) * 2 * columns + c
        partials[place] = plain
        partials[place + columns] = product


@kernel
def _merge_sums(mean, tables, sums, partials, dims, parts):
    shared = cuda.shared.array(BLOCK, types.float64)
    outer, columns, width = dims[0], dims[2], dims[3]
    image, c = column_of(columns)
    plain, product = column_totals(shared, partials, image, c, parts, columns)
    if cuda.threadIdx.y == 0 and c < columns:
        place = image * columns + c
        sums[place] = plain
        sums[outer * columns + place] = product
        tables[CENTER * outer * columns + place] = mean[divide(place, width)]


def norm_columns_sums(dy, x, mean, tables, sums, partials, dims):
    """sums (2, outer, columns): of each column, the sums of dy and of dy * (x - mean). tables: (4, outer, columns), of
    which CENTER is set, from mean (outer, groups).

    partials: as for norm_columns_moments.
    """
    parts, threads = parts_of(*dims[:3]), column_threads(dims[2])
    launch(_part_sums, blocks_of(dims, parts, threads), threads, dy, x, mean, partials, dims, parts)
    blocks, threads = merge_shape(dims)
    launch(_merge_sums, blocks, threads, mean, tables, sums, partials, dims, parts)


@kernel
def _parameters(sums, inverse, dscale, dbias, dims):
    size, columns, width = dims[0] * dims[2], dims[2], dims[3]
    for c in range(cuda.grid(1), columns, cuda.gridsize(1)):
        scales, biases = 0.0, 0.0
        for i in range(c, size, columns):
            scales += np.float64(sums[size + i]) * np.float64(inverse[divide(i, width)])
            biases += np.float64(sums[i])
        if dscale.size > 0:
            dscale[c] = scales
        if dbias.size > 0:
            dbias[c] = biases


@kernel
def _grad_tables(kind, sums, scale, inverse, tables, dims, settings):
    shared = cuda.shared.array(BLOCK, types.float64)
    columns, width = dims[2], dims[3]
    size = dims[0] * columns
    group, start, end = _group(size, width)
    plain, product = 0.0, 0.0
    for i in range(start + cuda.threadIdx.y, start + end, cuda.blockDim.y):
        gain = np.float64(scale[remainder(i, columns)]) if scale.size > 0 else 1.0
        plain += gain * np.float64(sums[i])
        product += gain * np.float64(sums[size + i])
    factor = np.float64(inverse[group]) if end > 0 else 0.0
    slope, shift = slopes(kind, sum_lanes(shared, plain), sum_lanes(shared, product), factor, settings)
    for i in range(start + cuda.threadIdx.y, start + end, cuda.blockDim.y):
        tables[SLOPE * size + i] = slope
        tables[SHIFT * size + i] = shift
        tables[GAIN * size + i] = factor * np.float64(scale[remainder(i, columns)]) if scale.size > 0 else factor


def norm_columns_grad(kind, sums, scale, inverse, tables, dscale, dbias, dims, settings):
    """dscale, dbias (columns, or empty), and the rest of the tables (4, outer, columns) of the gradient by x, from what
    norm_columns_sums left.
    """
    if dscale.size + dbias.size > 0:
        spread(_parameters, dims[2], sums, inverse, dscale, dbias, dims)
    _launch_groups(_grad_tables, dims, kind, sums, scale, inverse, tables, dims, settings)
