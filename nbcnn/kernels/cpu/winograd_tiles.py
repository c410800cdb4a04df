"""The transforms of Winograd's algorithm as operations on memory, one register of channels at a time.

`form` is a tuple whose length n = m + 2 names the algorithm F(m, 3): as with register tiles, the type carries the size,
so that one source serves every m. A tile is n by n samples, and each of its n * n factors goes to a plane of its own.
As in simd.py, nothing checks bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbcnn.kernels.cpu.cook_toom import filter_matrix, input_matrix, output_matrix
from nbcnn.kernels.cpu.linear import sandwich
from nbcnn.kernels.cpu.simd import emit_load, emit_masked_load, pointer_to, vec_of

__all__ = [
    "FILTER",
    "filter_planes",
    "gradient_filter",
    "gradient_results",
    "input_planes",
    "results",
]

FILTER = 3
"""Taps of the filters, in each direction."""

Matrix = Callable[[int], np.ndarray]


def _i64(value: int) -> Any:
    return ir.IntType(64)(value)


def _from_picture(name: str, matrix_of: Matrix) -> Any:
    """name(form, source, table, at, channel, left, target, place, plane): transform the samples that start at
    source[table[at + k]], k row by row; `left` channels exist from `channel` on, the others read as zero. Factor k goes
    to target[place + k * plane].
    """

    def typing(typingctx, form, source, table, at, channel, left, target, place, plane):
        matrix = matrix_of(form.count)
        kind = vec_of(source)

        def codegen(context, builder, signature, args):
            _, source_value, table_value, at_value, channel_value, left_value, target_value, place_value, step = args

            def load(i, j):
                entry = builder.add(at_value, _i64(i * matrix.shape[1] + j))
                start = builder.load(pointer_to(context, builder, signature.args[2], table_value, entry, vector=False))
                index = builder.add(start, channel_value)
                return emit_masked_load(context, builder, signature.args[1], source_value, index, left_value)

            def store(i, j, value):
                index = builder.add(place_value, builder.mul(step, _i64(i * matrix.shape[0] + j)))
                pointer = pointer_to(context, builder, signature.args[6], target_value, index)
                builder.store(value, pointer).align = target.dtype.bitwidth // 8

            sandwich(builder, kind, matrix, load, store)
            return context.get_dummy_value()

        i64 = types.int64
        return types.void(form, source, table, i64, i64, i64, target, i64, i64), codegen

    typing.__name__ = typing.__qualname__ = name
    return intrinsic(typing)


def _from_planes(name: str, matrix_of: Matrix) -> Any:
    """name(form, source, at, step, target, place, plane): transform source[at + k * step], k row by row; result k goes
    to target[place + k * plane].
    """

    def typing(typingctx, form, source, at, step, target, place, plane):
        matrix = matrix_of(form.count)
        kind = vec_of(source)

        def codegen(context, builder, signature, args):
            _, source_value, at_value, step_value, target_value, place_value, plane_value = args

            def load(i, j):
                index = builder.add(at_value, builder.mul(step_value, _i64(i * matrix.shape[1] + j)))
                return emit_load(
                    builder,
                    pointer_to(context, builder, signature.args[1], source_value, index),
                    source.dtype.bitwidth // 8,
                )

            def store(i, j, value):
                index = builder.add(place_value, builder.mul(plane_value, _i64(i * matrix.shape[0] + j)))
                pointer = pointer_to(context, builder, signature.args[4], target_value, index)
                builder.store(value, pointer).align = target.dtype.bitwidth // 8

            sandwich(builder, kind, matrix, load, store)
            return context.get_dummy_value()

        i64 = types.int64
        return types.void(form, source, i64, i64, target, i64, i64), codegen

    typing.__name__ = typing.__qualname__ = name
    return intrinsic(typing)


input_planes = _from_picture("input_planes", input_matrix)
"""A tile of the input: n by n samples."""

filter_planes = _from_planes("filter_planes", lambda n: filter_matrix(n, FILTER))
"""A filter: 3 by 3 taps."""

results = _from_planes("results", lambda n: output_matrix(n, n + 1 - FILTER))
"""Products to m by m results."""

gradient_filter = _from_picture("gradient_filter", lambda n: filter_matrix(n, n + 1 - FILTER))
"""For the gradient by the weights the output's gradient is the filter: m by m taps."""

gradient_results = _from_planes("gradient_results", lambda n: output_matrix(n, FILTER))
"""Products to the gradient of a filter: 3 by 3."""
