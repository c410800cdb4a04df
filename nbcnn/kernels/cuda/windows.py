"""Where pooling windows lie, and how a thread walks through one. `size`, `form` and `table` are those of
kernels/cpu/pool.py; `steps` are the elements between the taps of a window along d, h and w.
"""

from __future__ import annotations

from nbcnn.kernels.cuda._cuda import device
from nbcnn.kernels.cuda.index import divide, remainder
from nbcnn.kernels.cuda.memory import get

__all__ = ["entries", "next_tap", "pixels_of", "place_of", "steps_of", "window_of"]


@device
def place_of(pixel, form):
    """Image, d, h and w of a pixel of the output."""
    line, volume = divide(pixel, form[2]), divide(pixel, form[2] * form[1])
    return divide(volume, form[0]), remainder(volume, form[0]), remainder(line, form[1]), remainder(pixel, form[2])


@device
def window_of(position, size, form, table):
    """The first pixel inside the picture of a window, and how many taps are inside along d, h and w."""
    image, d, h, w = position
    row_h, row_w = form[0] + h, form[0] + form[1] + w
    top = (image * size[1] + get(table, 4 * d)) * size[2] + get(table, 4 * row_h)
    return (
        top * size[3] + get(table, 4 * row_w),
        get(table, 4 * d + 1),
        get(table, 4 * row_h + 1),
        get(table, 4 * row_w + 1),
    )


@device
def entries(position, form, table, entry):
    """An entry of the table's three rows of a window."""
    _, d, h, w = position
    row_h, row_w = form[0] + h, form[0] + form[1] + w
    return (
        get(table, 4 * d + entry),
        get(table, 4 * row_h + entry),
        get(table, 4 * row_w + entry),
    )


@device
def next_tap(column, at, taps_w, steps):
    """From one tap of a plane to the next: its column and place."""
    last = column + 1 == taps_w
    return 0 if last else column + 1, at + steps[2] + (steps[1] - taps_w * steps[2] if last else 0)


def pixels_of(size, form):
    """Pixels of the output."""
    return size[0] * form[0] * form[1] * form[2]


def steps_of(size, form):
    """`steps`."""
    _, _, in_h, in_w, channels = size
    return form[3] * in_h * in_w * channels, form[4] * in_w * channels, form[5] * channels
