"""The gradient by the weights of any element type, as float64: conv_weight_grad's device code.

A block makes a square of the gradient, over a part of the pixels, from strips of x and dy in shared memory; a thread
makes 4 by 4 elements that lie `SIDE` apart, so that threads side by side meet different banks.
"""

from __future__ import annotations

from nbcnn.kernels.cuda._cuda import SIMULATED, cuda, kernel, types
from nbcnn.kernels.cuda.grad_places import enter_pixel, meets, pixel_of, place_of, row_of, start_of

__all__ = ["PLAIN_SIZE", "PLAIN_THREADS", "plain_grad"]

SIDE = 4 if SIMULATED else 16
"""Threads along each side of a block, and pixels of a strip."""
EACH = 4
"""Elements of a thread along each side."""
PLAIN_SIZE = SIDE * EACH
"""Rows and columns of a block."""
PLAIN_THREADS = SIDE * SIDE
STEP = PLAIN_THREADS // PLAIN_SIZE
"""Pixels that the threads load at a time."""
STRIP, SUMS, TABLE = SIDE * PLAIN_SIZE, (EACH, EACH), 2 * SIDE


@kernel
def plain_grad(x, dy, parts, taps, source, outer, weights, columns, width, share, dense):
    x_strip = cuda.shared.array(STRIP, dy.dtype)
    dy_strip = cuda.shared.array(STRIP, dy.dtype)
    table = cuda.shared.array(TABLE, types.int64)
    sums = cuda.local.array(SUMS, dy.dtype)
    groups, channels, all_taps = weights
    rows, pitch, out_pitch = all_taps * source[4], source[3], outer[4]
    thread = cuda.threadIdx.x
    tx, ty = thread % SIDE, thread // SIDE
    m0, n0, group = start_of(cuda.blockIdx.x, PLAIN_SIZE, PLAIN_SIZE, rows, columns)
    begin = cuda.blockIdx.y * share
    end = min(begin + share, outer[0] * outer[1] * outer[2] * outer[3])
    column, first = thread % PLAIN_SIZE, thread // PLAIN_SIZE
    m, n = m0 + column, n0 + column
    row = (min(m, rows - 1), 0, 0, 0) if dense else row_of(min(m, rows - 1), taps, source)
    for i in range(EACH):
        for j in range(EACH):
            sums[i, j] = 0
    for pixel in range(begin, end, SIDE):
        if thread < SIDE:
            enter_pixel(table, thread, pixel + thread, end, source, outer)
        cuda.syncthreads()
        for i in range(EACH):
            k = first + i * STEP
            inside = (m < rows) & meets(table, k, row, source)
            value = x[pixel_of(table, k) * pitch + group * source[4] + row[0]] if inside else dy.dtype.type(0)
            x_strip[k * PLAIN_SIZE + column] = value
            inside = (n < channels) & (pixel + k < end)
            value = dy[(pixel + k) * out_pitch + group * channels + n] if inside else dy.dtype.type(0)
            dy_strip[k * PLAIN_SIZE + column] = value
        cuda.syncthreads()
        for k in range(SIDE):
            for i in range(EACH):
                for j in range(EACH):
                    left, right = x_strip[k * PLAIN_SIZE + ty + i * SIDE], dy_strip[k * PLAIN_SIZE + tx + j * SIDE]
                    sums[i, j] += left * right
        cuda.syncthreads()
    for i in range(EACH):
        for j in range(EACH):
            m, n = m0 + ty + i * SIDE, n0 + tx + j * SIDE
            if m < rows and n < columns:
                place = place_of(m, n, group, rows, columns, width)
                parts[cuda.blockIdx.y * groups * columns * rows + place] = sums[i, j]
