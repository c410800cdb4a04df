"""Register tiles: a tuple of SIMD vectors, rows by vectors, row by row, that stays in registers across a loop.

A kernel makes its tile once with `zeros` and hands it on, together with one row of it. Their types carry the size of
the tile, so that one source serves every size. As in simd.py, nothing checks bounds.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbcnn.kernels.cpu.simd import (
    VecType,
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
    "finish",
    "finish_onto",
    "fma",
    "halves",
    "lanes",
    "pitched",
    "row",
    "row_first",
    "spill",
    "spill_first",
    "starts",
    "zeros",
]


@intrinsic(prefer_literal=True)
def zeros(typingctx, array, rows, vecs):
    """zeros(array, rows, vecs): rows * vecs registers of zeros (rows and vecs are literals)."""
    kind = types.UniTuple(vec_of(array), rows.literal_value * vecs.literal_value)

    def codegen(context, builder, signature, args):
        vector = context.get_value_type(kind.dtype)
        zero = ir.Constant(vector, [0.0] * kind.dtype.count)
        return context.make_tuple(builder, kind, [zero] * kind.count)

    return kind(array, rows, vecs), codegen


@intrinsic(prefer_literal=True)
def halves(typingctx, array, rows, vecs):
    """halves(array, rows, vecs): as zeros, of registers of half the width."""
    whole = vec_of(array)
    kind = types.UniTuple(VecType(whole.element, whole.count // 2), rows.literal_value * vecs.literal_value)

    def codegen(context, builder, signature, args):
        zero = ir.Constant(context.get_value_type(kind.dtype), [0.0] * kind.dtype.count)
        return context.make_tuple(builder, kind, [zero] * kind.count)

    return kind(array, rows, vecs), codegen


@intrinsic
def row(typingctx, row, array, index):
    """row(row, array, index): as many neighbouring registers as `row` has, from array[index] on."""

    def codegen(context, builder, signature, args):
        regs = []
        for i in range(row.count):
            at = builder.add(args[2], ir.IntType(64)(i * row.dtype.count))
            pointer = pointer_to(context, builder, signature.args[1], args[1], at, kind=row.dtype)
            regs.append(emit_load(builder, pointer, array.dtype.bitwidth // 8))
        return context.make_tuple(builder, row, regs)

    return row(row, array, types.int64), codegen


@intrinsic
def lanes(typingctx, tile):
    """lanes(tile): the number of elements in one of its registers, a compile-time constant."""

    def codegen(context, builder, signature, args):
        return ir.IntType(64)(tile.dtype.count)

    return types.int64(tile), codegen


@intrinsic
def row_first(typingctx, row, array, index, length):
    """row_first(row, array, index, length): as row, but zero from element `length` on, where nothing is
    read.
    """

    def codegen(context, builder, signature, args):
        regs = []
        for i in range(row.count):
            start = ir.IntType(64)(i * row.dtype.count)
            at, left = builder.add(args[2], start), builder.sub(args[3], start)
            regs.append(emit_masked_load(context, builder, signature.args[1], args[1], at, left, row.dtype))
        return context.make_tuple(builder, row, regs)

    return row(row, array, types.int64, types.int64), codegen


@intrinsic
def starts(typingctx, tile, row, table, index):
    """starts(tile, row, table, index): one integer of `table` for each row of the tile, from table[index] on."""
    kind = types.UniTuple(types.int64, tile.count // row.count)

    def codegen(context, builder, signature, args):
        at = [builder.add(args[3], ir.IntType(64)(i)) for i in range(kind.count)]
        table_type = signature.args[2]
        starts = [builder.load(pointer_to(context, builder, table_type, args[2], i, vector=False)) for i in at]
        return context.make_tuple(builder, kind, starts)

    return kind(tile, row, table, types.int64), codegen


@intrinsic
def pitched(typingctx, tile, row, start, pitch):
    """pitched(tile, row, start, pitch): starts of rows that lie `pitch` elements apart, the first at `start`."""
    kind = types.UniTuple(types.int64, tile.count // row.count)

    def codegen(context, builder, signature, args):
        at = [builder.add(args[2], builder.mul(args[3], ir.IntType(64)(i))) for i in range(kind.count)]
        return context.make_tuple(builder, kind, at)

    return kind(tile, row, types.int64, types.int64), codegen


@intrinsic
def fma(typingctx, tile, x, starts, offset, b):
    """fma(tile, x, starts, offset, b): tile[r, v] += x[starts[r] + offset] * b[v], the inner step of a product.

    starts: one index into x for each row; b: a tuple of registers; tile: rows * vecs registers.
    """
    vec = tile.dtype

    def codegen(context, builder, signature, args):
        acc = cgutils.unpack_tuple(builder, args[0], tile.count)
        rows = cgutils.unpack_tuple(builder, args[2], starts.count)
        regs = cgutils.unpack_tuple(builder, args[4], b.count)
        out = []
        for r, start in enumerate(rows):
            at = builder.add(start, args[3])
            pointer = pointer_to(context, builder, signature.args[1], args[1], at, vector=False)
            value = splat(builder, emit_load(builder, pointer, x.dtype.bitwidth // 8), vec.count)
            out += [emit_fma(builder, vec, value, reg, acc[r * b.count + v]) for v, reg in enumerate(regs)]
        return context.make_tuple(builder, tile, out)

    return tile(tile, x, starts, types.int64, b), codegen


@intrinsic
def spill(typingctx, tile, array, index):
    """spill(tile, array, index): write the whole tile to memory, row by row."""

    def codegen(context, builder, signature, args):
        for i, reg in enumerate(cgutils.unpack_tuple(builder, args[0], tile.count)):
            at = builder.add(args[2], ir.IntType(64)(i * tile.dtype.count))
            pointer = pointer_to(context, builder, signature.args[1], args[1], at, kind=tile.dtype)
            builder.store(reg, pointer).align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(tile, array, types.int64), codegen


@intrinsic
def spill_first(typingctx, tile, array, index, length):
    """spill_first(tile, array, index, length): as spill, but only elements below `length` are written."""

    def codegen(context, builder, signature, args):
        for i, reg in enumerate(cgutils.unpack_tuple(builder, args[0], tile.count)):
            start = ir.IntType(64)(i * tile.dtype.count)
            at, left = builder.add(args[2], start), builder.sub(args[3], start)
            emit_masked_store(context, builder, signature.args[1], args[1], at, reg, left)
        return context.get_dummy_value()

    return types.void(tile, array, types.int64, types.int64), codegen


def _emit_finish(context, builder, signature, args, onto: bool):
    """Store a tile, row by row, with what is added to it: a row, and what lies at the same place of another array."""
    tile, row, y, _starts, _column, _added = signature.args[:6]
    base, below = (signature.args[6], args[6]) if onto else (None, None)
    itemsize, lanes = y.dtype.bitwidth // 8, row.dtype.count
    low, high = (splat(builder, bound, lanes) for bound in args[-2:])
    regs = cgutils.unpack_tuple(builder, args[0], tile.count)
    added = cgutils.unpack_tuple(builder, args[5], row.count)
    for r, start in enumerate(cgutils.unpack_tuple(builder, args[3], tile.count // row.count)):
        at = builder.add(start, args[4])
        for v in range(row.count):
            place = builder.add(at, ir.IntType(64)(v * lanes))
            value = builder.fadd(regs[r * row.count + v], added[v])
            if onto:
                lower = pointer_to(context, builder, base, below, place, kind=row.dtype)
                value = builder.fadd(value, emit_load(builder, lower, itemsize))
            value = emit_clamp(builder, value, low, high)
            builder.store(value, pointer_to(context, builder, y, args[2], place, kind=row.dtype)).align = itemsize
    return context.get_dummy_value()


@intrinsic
def finish(typingctx, tile, row, y, starts, column, added, low, high):
    """finish(tile, row, y, starts, column, added, low, high): y[starts[r] + column...] = clamp(tile[r] + added), whole
    rows of the tile. added: a tuple of registers, one row.
    """

    def codegen(context, builder, signature, args):
        return _emit_finish(context, builder, signature, args, onto=False)

    return types.void(tile, row, y, starts, types.int64, added, y.dtype, y.dtype), codegen


@intrinsic
def finish_onto(typingctx, tile, row, y, starts, column, added, base, low, high):
    """As finish, and base[starts[r] + column...] is added too; base may be y."""

    def codegen(context, builder, signature, args):
        return _emit_finish(context, builder, signature, args, onto=True)

    return types.void(tile, row, y, starts, types.int64, added, base, y.dtype, y.dtype), codegen
