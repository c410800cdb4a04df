"""Register tiles of a few pixels, one register of channels each, for what treats every channel alone: depthwise
convolution, pooling.

A tile is a tuple of registers, as in tile.py: made once by `zeros(array, rows, 1)` there, its type carries its size.
`starts` says where its pixels lie. As in simd.py, nothing checks bounds.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbcnn.kernels.cpu.compare import emit_larger, emit_maximum
from nbcnn.kernels.cpu.simd import (
    emit_clamp,
    emit_fma,
    emit_load,
    emit_masked_load,
    emit_masked_store,
    pointer_to,
    splat,
    vec_of,
)

__all__ = [
    "PIXELS",
    "add",
    "any_nan",
    "clamp",
    "fill",
    "fma",
    "larger",
    "load",
    "load_first",
    "maximum",
    "starts",
    "store",
    "store_first",
]

PIXELS = 7
"""Pixels of a tile. Lines of 7, 14, 28, 56 and 112 pixels have two pixels less that touch no padding, and need just as
many tiles for them. A sum takes one product every 4 cycles: 7 of them keep the multipliers busy.
"""


@intrinsic
def starts(typingctx, tile, pitch):
    """starts(tile, pitch): where each pixel lies, `pitch` elements apart."""
    kind = types.UniTuple(types.int64, tile.count)

    def codegen(context, builder, signature, args):
        return context.make_tuple(builder, kind, [builder.mul(args[1], args[1].type(r)) for r in range(tile.count)])

    return kind(tile, types.int64), codegen


@intrinsic
def fill(typingctx, tile, vec):
    """fill(tile, vec): every pixel the same register."""

    def codegen(context, builder, signature, args):
        return context.make_tuple(builder, tile, [args[1]] * tile.count)

    return tile(tile, vec), codegen


@intrinsic
def load(typingctx, array, starts, index):
    """load(array, starts, index): a whole register from array[starts[r] + index] on for each pixel r."""
    tile = types.UniTuple(vec_of(array), starts.count)

    def codegen(context, builder, signature, args):
        at = [builder.add(start, args[2]) for start in cgutils.unpack_tuple(builder, args[1], starts.count)]
        pointers = [pointer_to(context, builder, signature.args[0], args[0], i) for i in at]
        return context.make_tuple(builder, tile, [emit_load(builder, p, array.dtype.bitwidth // 8) for p in pointers])

    return tile(array, starts, types.int64), codegen


@intrinsic
def load_first(typingctx, array, starts, index, count, length):
    """load_first(array, starts, index, count, length): as load, with zero from pixel `count` and from lane `length` on,
    where nothing is read.
    """
    tile = types.UniTuple(vec_of(array), starts.count)

    def codegen(context, builder, signature, args):
        kind, (data, firsts, index, count, length) = signature.args[0], args
        regs = [
            emit_masked_load(context, builder, kind, data, builder.add(start, index), _lanes(builder, r, count, length))
            for r, start in enumerate(cgutils.unpack_tuple(builder, firsts, starts.count))
        ]
        return context.make_tuple(builder, tile, regs)

    return tile(array, starts, types.int64, types.int64, types.int64), codegen


def _lanes(builder, pixel: int, count, length):
    """`length` for the pixels below `count`, none for the others."""
    return builder.select(builder.icmp_signed(">", count, count.type(pixel)), length, length.type(0))


@intrinsic
def store(typingctx, array, starts, index, tile):
    """store(array, starts, index, tile): the inverse of load."""

    def codegen(context, builder, signature, args):
        values = cgutils.unpack_tuple(builder, args[3], tile.count)
        for start, value in zip(cgutils.unpack_tuple(builder, args[1], tile.count), values, strict=True):
            pointer = pointer_to(context, builder, signature.args[0], args[0], builder.add(start, args[2]))
            builder.store(value, pointer).align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, starts, types.int64, tile), codegen


@intrinsic
def store_first(typingctx, array, starts, index, tile, count, length):
    """store_first(array, starts, index, tile, count, length): only lanes below `length` of pixels below `count` are
    written.
    """

    def codegen(context, builder, signature, args):
        kind, (data, firsts, index, values, count, length) = signature.args[0], args
        values = cgutils.unpack_tuple(builder, values, tile.count)
        for r, start in enumerate(cgutils.unpack_tuple(builder, firsts, tile.count)):
            at = builder.add(start, index)
            emit_masked_store(context, builder, kind, data, at, values[r], _lanes(builder, r, count, length))
        return context.get_dummy_value()

    return types.void(array, starts, types.int64, tile, types.int64, types.int64), codegen


def _each(name: str, emit):
    """An intrinsic of two tiles, pixel by pixel."""

    def typing(typingctx, tile, other):
        def codegen(context, builder, signature, args):
            left, right = (cgutils.unpack_tuple(builder, a, tile.count) for a in args)
            return context.make_tuple(builder, tile, [emit(builder, a, b) for a, b in zip(left, right, strict=True)])

        return tile(tile, tile), codegen

    typing.__name__ = typing.__qualname__ = name
    return intrinsic(typing)


add = _each("add", lambda builder, a, b: builder.fadd(a, b))
maximum = _each("maximum", emit_maximum)
larger = _each("larger", emit_larger)
"""The maximum in a third of the instructions, where no lane is NaN."""


@intrinsic
def any_nan(typingctx, tile):
    """any_nan(tile): whether any lane of any pixel is NaN."""

    def codegen(context, builder, signature, args):
        values = cgutils.unpack_tuple(builder, args[0], tile.count)
        pairs = zip(values[::2], values[1::2] + values[-1:], strict=False)
        found = None
        for a, b in pairs:  # one comparison looks at two registers
            mask = builder.fcmp_unordered("uno", a, b)
            found = mask if found is None else builder.or_(found, mask)
        bits = ir.IntType(tile.dtype.count)
        return builder.icmp_unsigned("!=", builder.bitcast(found, bits), bits(0))

    return types.boolean(tile), codegen


@intrinsic
def fma(typingctx, tile, other, vec):
    """fma(tile, other, vec): tile[r] += other[r] * vec."""

    def codegen(context, builder, signature, args):
        sums, factors = (cgutils.unpack_tuple(builder, a, tile.count) for a in args[:2])
        found = [emit_fma(builder, vec, f, args[2], s) for s, f in zip(sums, factors, strict=True)]
        return context.make_tuple(builder, tile, found)

    return tile(tile, tile, vec), codegen


@intrinsic
def clamp(typingctx, tile, low, high):
    """clamp(tile, low, high): each lane held between two scalars; NaN stays NaN."""

    def codegen(context, builder, signature, args):
        floor, ceiling = (splat(builder, a, tile.dtype.count) for a in args[1:])
        values = cgutils.unpack_tuple(builder, args[0], tile.count)
        return context.make_tuple(builder, tile, [emit_clamp(builder, v, floor, ceiling) for v in values])

    return tile(tile, tile.dtype.element, tile.dtype.element), codegen
