"""Normalization where what is brought together lies in columns: x is (outer, rows, columns), and `width` neighbouring
columns make a group; a statistic for each of them in each outer part. That is channels last.

What is computed of an element depends on its column alone, by tables that lie as (kinds of factor, outer, columns).
Sums over rows are made as in moments.py, in tiles of whole rows. `dims` is (outer, rows, columns, width); `settings`
as in norm_lines.py.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from nbcnn.kernels.cpu import moments, simd
from nbcnn.kernels.cpu.jit import inlined, kernel, serial, small_kernel
from nbcnn.kernels.cpu.norm_lines import inverse_of, slopes
from nbcnn.kernels.cpu.part import part
from nbcnn.kernels.cpu.row_tiles import whole_rows
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

tile_of_rows = serial(whole_rows)


@serial
def _partials_of(picture, partials, dims):
    """The partial sums of one outer part: two rows, whole registers wide, for each block of rows."""
    rows = tile_of_rows(dims[2])[0]
    size = (dims[1] + rows - 1) // rows * 2 * moments.pitch(dims[2])
    return part(partials, picture * size, (picture + 1) * size)


@serial
def _picture(picture, x, dims):
    size = dims[1] * dims[2]
    return part(x, picture * size, (picture + 1) * size)


@kernel
def norm_columns_moments(x, mean, var, partials, dims):
    """mean, var (outer, columns): mean and population variance of each column.

    partials: scratch, 2 * pitch_of(columns) for each block of rows (whole_rows) of each outer part.
    """
    outer, rows, columns, _width = dims
    tile = tile_of_rows(columns)
    tiles = moments.tiles_of((rows, columns), tile)
    for index in prange(outer * tiles):
        task = np.int64(index)
        picture = task // tiles
        values, sums = _picture(picture, x, dims), _partials_of(picture, partials, dims)
        moments.tile_moments(task % tiles, values, sums, (rows, columns), tile)
    for index in prange(outer * columns):
        task = np.int64(index)
        picture, c = task // columns, task % columns
        sums, start, end = _partials_of(picture, partials, dims), picture * columns, (picture + 1) * columns
        moments.merge_moments(c, sums, part(mean, start, end), part(var, start, end), (rows, columns), tile)


@serial
def _group_statistics(kind, first, second, start, width, settings):
    """Center and inverse of a group of columns: from their means and variances, or from their sums."""
    center, total = 0.0, 0.0
    if kind != DEVIATION:
        for i in range(start, start + width):
            total += np.float64(second[i])
        return center, inverse_of(kind, total, settings)
    for i in range(start, start + width):
        center += np.float64(first[i])
    center /= width
    for i in range(start, start + width):
        distance = np.float64(first[i]) - center
        total += np.float64(second[i]) + distance * distance
    return center, inverse_of(kind, total / width * settings[0], settings)


@small_kernel
def norm_columns_tables(kind, first, second, scale, bias, mean, inverse, tables, dims, settings):
    """mean, inverse (outer, groups), and tables (3, outer, columns), from statistics of columns (outer, columns): their
    means and variances for DEVIATION, and the sums in `second` for the other kinds. scale, bias (columns) or empty.
    """
    outer, _rows, columns, width = dims
    size = outer * columns
    for start in range(0, size, width):
        center, factor = _group_statistics(kind, first, second, start, width, settings)
        mean[start // width] = center
        inverse[start // width] = factor
        for i in range(start, start + width):
            c = i % columns
            tables[CENTER * size + i] = center
            tables[SLOPE * size + i] = factor * scale[c] if scale.size > 0 else factor
            tables[SHIFT * size + i] = bias[c] if bias.size > 0 else 0.0


@serial
def _apply_tile(task, x, dy, tables, y, dims, size):
    """Rows and columns of one tile of one picture; `tables` begin at the picture's own columns."""
    row0, row1, first, count, _block = moments.tile_of(task, (dims[1], dims[2]), tile_of_rows(dims[2]))
    for row in range(row0, row1):
        at = row * dims[2] + first
        for c in range(0, count, simd.lanes(x)):
            left, column = count - c, first + c
            center = simd.load_first(tables, CENTER * size + column, left)
            value = simd.sub(simd.load_first(x, at + c, left), center)
            slope = simd.load_first(tables, SLOPE * size + column, left)
            value = simd.fma(value, slope, simd.load_first(tables, SHIFT * size + column, left))
            if dy.size > 0:
                gain = simd.load_first(tables, GAIN * size + column, left)
                value = simd.fma(simd.load_first(dy, at + c, left), gain, value)
            simd.store_first(y, at + c, value, left)


@kernel
def norm_columns_apply(x, dy, tables, y, dims):
    """y = (x - center) * slope + shift, and plus dy * gain where dy is not empty, by the column's tables; y may be x or
    dy.
    """
    outer, rows, columns, _width = dims
    tiles = moments.tiles_of((rows, columns), tile_of_rows(columns))
    for index in prange(outer * tiles):
        task = np.int64(index)
        picture = task // tiles
        values, out = _picture(picture, x, dims), _picture(picture, y, dims)
        grads = _picture(picture, dy, dims) if dy.size > 0 else dy
        factors = part(tables, picture * columns, tables.size)
        _apply_tile(task % tiles, values, grads, factors, out, dims, outer * columns)


# --- gradients --------------------------------------------------------------------------------------------------------


@inlined
def _four_products(dy, x, center, at, step, left):
    """The sums of dy and of dy * (x - center) over four registers that lie `step` apart."""
    a, b = simd.load_first(dy, at, left), simd.load_first(dy, at + step, left)
    c, d = simd.load_first(dy, at + 2 * step, left), simd.load_first(dy, at + 3 * step, left)
    p = simd.mul(a, simd.sub(simd.load_first(x, at, left), center))
    q = simd.mul(b, simd.sub(simd.load_first(x, at + step, left), center))
    p = simd.fma(c, simd.sub(simd.load_first(x, at + 2 * step, left), center), p)
    q = simd.fma(d, simd.sub(simd.load_first(x, at + 3 * step, left), center), q)
    return simd.add(simd.add(a, b), simd.add(c, d)), simd.add(p, q)


@serial
def _rows_products(dy, x, center, first, at, partials, plain, product, count, step):
    """Eight rows."""
    for c in range(0, count, simd.lanes(x)):
        left = count - c
        middle = simd.load_first(center, first + c, left)
        a, p = _four_products(dy, x, middle, at + c, step, left)
        b, q = _four_products(dy, x, middle, at + c + 4 * step, step, left)
        simd.store(partials, plain + c, simd.add(simd.load(partials, plain + c), simd.add(a, b)))
        simd.store(partials, product + c, simd.add(simd.load(partials, product + c), simd.add(p, q)))


@serial
def _row_products(dy, x, center, first, at, partials, plain, product, count):
    for c in range(0, count, simd.lanes(x)):
        left = count - c
        grad = simd.load_first(dy, at + c, left)
        distance = simd.sub(simd.load_first(x, at + c, left), simd.load_first(center, first + c, left))
        simd.store(partials, plain + c, simd.add(simd.load(partials, plain + c), grad))
        simd.store(partials, product + c, simd.fma(grad, distance, simd.load(partials, product + c)))


@serial
def _tile_sums(task, dy, x, center, partials, dims):
    """Of a tile, for each column: the sums of dy and of dy * (x - center)."""
    row0, row1, first, count, block = moments.tile_of(task, (dims[1], dims[2]), tile_of_rows(dims[2]))
    plain = block * 2 * moments.pitch(dims[2]) + first
    product = plain + moments.pitch(dims[2])
    padded = moments.pitch(count)
    partials[plain : plain + padded] = 0
    partials[product : product + padded] = 0
    whole = row1 - (row1 - row0) % 8
    for row in range(row0, whole, 8):
        at = row * dims[2] + first
        _rows_products(dy, x, center, first, at, partials, plain, product, count, dims[2])
    for row in range(whole, row1):
        _row_products(dy, x, center, first, row * dims[2] + first, partials, plain, product, count)


@serial
def _merge(picture, c, partials, sums, dims):
    """sums (2, outer, columns): those over all rows of dy and of dy * (x - center)."""
    width, columns = moments.pitch(dims[2]), dims[2]
    plain, product = 0.0, 0.0
    rows = tile_of_rows(columns)[0]
    for row in range(0, dims[1], rows):
        at = row // rows * 2 * width + c
        plain += np.float64(partials[at])
        product += np.float64(partials[at + width])
    sums[picture * columns + c] = plain
    sums[(dims[0] + picture) * columns + c] = product


@kernel
def norm_columns_sums(dy, x, mean, tables, sums, partials, dims):
    """sums (2, outer, columns): of each column, the sums of dy and of dy * (x - mean). tables: (4, outer, columns), of
    which CENTER is set, from mean (outer, groups).

    partials: as for norm_columns_moments.
    """
    outer, rows, columns, width = dims
    for i in range(outer * columns):
        tables[CENTER * outer * columns + i] = mean[i // width]
    tiles = moments.tiles_of((rows, columns), tile_of_rows(columns))
    for index in prange(outer * tiles):
        task = np.int64(index)
        picture = task // tiles
        grads, values = _picture(picture, dy, dims), _picture(picture, x, dims)
        parts = _partials_of(picture, partials, dims)
        center = part(tables, picture * columns, (picture + 1) * columns)
        _tile_sums(task % tiles, grads, values, center, parts, dims)
    for index in prange(outer * columns):
        task = np.int64(index)
        _merge(task // columns, task % columns, _partials_of(task // columns, partials, dims), sums, dims)


@small_kernel
def norm_columns_grad(kind, sums, scale, inverse, tables, dscale, dbias, dims, settings):
    """dscale, dbias (columns, or empty), and the rest of the tables (4, outer, columns) of the gradient by x, from what
    norm_columns_sums left.
    """
    outer, _rows, columns, width = dims
    size = outer * columns
    for c in range(dscale.size):
        total = 0.0
        for i in range(c, size, columns):
            total += np.float64(sums[size + i]) * np.float64(inverse[i // width])
        dscale[c] = total
    for c in range(dbias.size):
        total = 0.0
        for i in range(c, size, columns):
            total += np.float64(sums[i])
        dbias[c] = total
    for start in range(0, size, width):
        plain, product, factor = 0.0, 0.0, inverse[start // width]
        for i in range(start, start + width):
            gain = np.float64(scale[i % columns]) if scale.size > 0 else 1.0
            plain += gain * np.float64(sums[i])
            product += gain * np.float64(sums[size + i])
        slope, shift = slopes(kind, plain, product, factor, settings)
        for i in range(start, start + width):
            tables[SLOPE * size + i] = slope
            tables[SHIFT * size + i] = shift
            tables[GAIN * size + i] = factor * scale[i % columns] if scale.size > 0 else factor
