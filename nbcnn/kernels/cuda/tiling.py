"""How products are cut into tiles, and tiles into parts of the depth. Plain arithmetic: nothing here needs a GPU.

Results depend on the parts, so they depend on shapes alone, not on the GPU at hand.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

__all__ = [
    "DEPTH",
    "FLAT_FLOATS",
    "FLOATS",
    "THREADS",
    "Tiling",
    "choose",
    "is_flat",
    "scratch_size",
    "stages",
    "steps_of",
    "tiles",
]

THREADS = 128
"""Threads of a block: four warps."""
DEPTH = 16
"""Elements of the depth in a step."""
FLOATS = 12288
"""Shared memory of a block, in float32: the 48 KiB that every kernel may have. Several blocks fit a multiprocessor."""
FLAT_FLOATS = 9216
"""The same where a table of pixels needs some of it."""

MULTIPROCESSORS = 132
"""Of an H100."""
PRODUCTS = 640
"""Multiplications and additions that a multiprocessor does in a clock with mma.sync, in TF32."""
BLOCK_CLOCKS = 1500
"""What a block costs beside its steps: memory's latency, the addresses of its pixels, storing its sums."""
LAUNCH_CLOCKS = 4000
"""What one more kernel costs."""
BYTES = 2000
"""Bytes that memory moves in a clock."""
ALONE = 0.6
"""How fast tensor cores run with one block on a multiprocessor, when nothing hides the waits of its four warps."""
LEAST_STEPS = 4
"""Steps of the shortest part of the depth."""
MOST_PARTS = 32


SHAPES = (((4, 2), 1.0), ((4, 1), 0.85), ((2, 1), 0.7))
"""Tiles, in 32 rows and 64 columns, and how fast they are: small ones read more for each product."""
FLAT_SHAPES = SHAPES[1:]
"""Those that leave room for a table of pixels."""


class Tiling(NamedTuple):
    """rows, columns: of a tile, in 32 rows and 64 columns. parts: of the depth."""

    rows: int
    columns: int
    parts: int


def is_flat(run: int, pitch: int) -> bool:
    """Whether runs of so many channels, pixels so far apart, must be copied element by element."""
    return run % 4 > 0 or pitch % 4 > 0


def steps_of(run: int, taps: int, flat: bool) -> int:
    """Steps of the depth."""
    return -(-run * taps // DEPTH) if flat else -(-run // DEPTH) * taps


def stages(rows: int, columns: int, flat: bool) -> int:
    """Steps that shared memory holds."""
    return (FLAT_FLOATS if flat else FLOATS) // ((32 * rows + 64 * columns) * DEPTH)


def tiles(rows: int, columns: int, pixels: int, channels: int) -> int:
    """How many tiles cover a product of one group."""
    return -(-pixels // (32 * rows)) * -(-channels // (64 * columns))


@cache
def choose(pixels: int, channels: int, groups: int, steps: int, flat: bool) -> Tiling:
    """The tiling of a product, (pixels, depth) by (depth, channels) for each group, that should take least time."""
    choices = [
        (Tiling(*shape, parts), speed)
        for shape, speed in (FLAT_SHAPES if flat else SHAPES)
        for parts in range(1, max(1, min(MOST_PARTS, steps // LEAST_STEPS)) + 1)
    ]
    return min(choices, key=lambda choice: _clocks(choice[0], choice[1], pixels, channels, groups, steps))[0]


def _clocks(tiling: Tiling, speed: float, pixels: int, channels: int, groups: int, steps: int) -> float:
    """Clocks of a multiprocessor that the product should take."""
    rows, columns, parts = tiling
    in_turn = -(-tiles(rows, columns, pixels, channels) * groups * parts // MULTIPROCESSORS)
    rate = PRODUCTS * speed * (ALONE if in_turn == 1 else 1)
    step = 32 * rows * 64 * columns * DEPTH / rate
    clocks = in_turn * -(-steps // parts) * step + BLOCK_CLOCKS * -(-in_turn // 2)
    if parts > 1:
        clocks += LAUNCH_CLOCKS + 4 * pixels * channels * groups * (2 * parts + 1) / BYTES
    return clocks


def scratch_size(pixels: int, channels: int, groups: int, run: int, pitch: int, taps: int) -> int:
    """Elements of scratch memory that conv_gather and conv_pointwise use for float32; for 16 bits, run and pitch count
    pairs.
    """
    flat = is_flat(run, pitch)
    parts = choose(pixels, channels, groups, steps_of(run, taps, flat), flat).parts
    return parts * pixels * channels * groups if parts > 1 else 0
