"""Register tiles of 32-bit sums of products of bytes, and how they are stored as quantized integers.

A tile is a tuple of registers, as in tile.py. A step multiplies four neighbouring unsigned bytes of x by four signed
bytes of w for each lane: one VPDPBUSD where the processor has it (AVX-512 VNNI, AVX-VNNI), else two products of 16-bit
pairs, which LLVM turns into PMADDWD or what the processor has. Both are exact; sums wrap beyond 32 bits.

Nothing here checks bounds.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbcnn.kernels.cpu.rounding import STRICT
from nbcnn.kernels.cpu.simd import VecType, emit_call, emit_clamp, emit_first_mask, emit_load, pointer_to, splat, vec_of
from nbcnn.kernels.cpu.width import BYTE_PRODUCTS

__all__ = [
    "begin",
    "blank",
    "factors",
    "multiply",
    "products",
    "quad",
    "quad_first",
    "spill",
    "store",
    "store_first",
    "weights",
]

QUAD = 4
"""Bytes that a lane multiplies at once."""
ROUNDER = 12582912.0
"""1.5 * 2**23: a float32 that is added to it (of less than 2**22) is rounded, half to even, and lies in the lowest
bits of the sum.
"""


@intrinsic(prefer_literal=True)
def blank(typingctx, sums, rows, vecs):
    """blank(sums, rows, vecs): rows * vecs registers of zeros, of the type of `sums` (rows and vecs are literals)."""
    kind = types.UniTuple(vec_of(sums), rows.literal_value * vecs.literal_value)

    def codegen(context, builder, signature, args):
        zero = ir.Constant(context.get_value_type(kind.dtype), None)
        return context.make_tuple(builder, kind, [zero] * kind.count)

    return kind(sums, rows, vecs), codegen


@intrinsic
def begin(typingctx, tile, row, offsets, column):
    """begin(tile, row, offsets, column): a tile, each of whose rows is offsets[column...]."""

    def codegen(context, builder, signature, args):
        regs = []
        for v in range(row.count):
            at = builder.add(args[3], ir.IntType(64)(v * row.dtype.count))
            regs.append(emit_load(builder, pointer_to(context, builder, signature.args[2], args[2], at), 4))
        return context.make_tuple(builder, tile, regs * (tile.count // row.count))

    return tile(tile, row, offsets, types.int64), codegen


def _byte_pointer(context, builder, array_type, array, index, kind):
    data = cgutils.create_struct_proxy(array_type)(context, builder, value=array).data
    return builder.bitcast(builder.gep(data, [index]), kind.as_pointer())


@intrinsic
def weights(typingctx, row, w, index):
    """weights(row, w, index): as many neighbouring registers as `row` has, four bytes of w in each lane."""

    def codegen(context, builder, signature, args):
        kind, regs = context.get_value_type(row.dtype), []
        for v in range(row.count):
            at = builder.add(args[2], ir.IntType(64)(v * row.dtype.count * QUAD))
            regs.append(emit_load(builder, _byte_pointer(context, builder, signature.args[1], args[1], at, kind), 1))
        return context.make_tuple(builder, row, regs)

    return row(row, w, types.int64), codegen


def _emit_pairs(builder, acc, x, w):
    """acc + the products of two pairs of 16-bit integers in each lane."""
    count = acc.type.count
    wide = ir.VectorType(ir.IntType(32), 2 * count)
    product = builder.mul(builder.sext(x, wide), builder.sext(w, wide))
    undefined, i32 = ir.Constant(wide, ir.Undefined), ir.IntType(32)
    for first in (0, 1):
        lanes = ir.Constant(ir.VectorType(i32, count), [2 * i + first for i in range(count)])
        acc = builder.add(acc, builder.shuffle_vector(product, undefined, lanes))
    return acc


def _emit_halves(builder, value, signed: bool):
    """The even and the odd bytes of each lane, as pairs of 16-bit integers."""
    kind = ir.VectorType(ir.IntType(16), 2 * value.type.count)
    eight = ir.Constant(kind, [8] * kind.count)
    value = builder.bitcast(value, kind)
    shift = builder.ashr if signed else builder.lshr
    return shift(builder.shl(value, eight), eight), shift(value, eight)


def _emit_products(builder, acc, x, w, halves):
    """acc + x (unsigned bytes) * w (signed bytes), four in each lane; halves: those of w."""
    if BYTE_PRODUCTS:
        bits = acc.type.count * 32
        return emit_call(builder, f"llvm.x86.avx512.vpdpbusd.{bits}", acc.type, [acc, x, w])
    for a, b in zip(_emit_halves(builder, x, signed=False), halves, strict=True):
        acc = _emit_pairs(builder, acc, a, b)
    return acc


@intrinsic
def multiply(typingctx, tile, x, starts, offset, row):
    """multiply(tile, x, starts, offset, row): tile[r, v] += four bytes at x[starts[r] + offset] times row[v]."""
    kind = ir.IntType(32)

    def codegen(context, builder, signature, args):
        acc = cgutils.unpack_tuple(builder, args[0], tile.count)
        regs = cgutils.unpack_tuple(builder, args[4], row.count)
        halves = [None if BYTE_PRODUCTS else _emit_halves(builder, reg, signed=True) for reg in regs]
        out = []
        for r, start in enumerate(cgutils.unpack_tuple(builder, args[2], starts.count)):
            at = builder.add(start, args[3])
            four = emit_load(builder, _byte_pointer(context, builder, signature.args[1], args[1], at, kind), 1)
            value = splat(builder, four, tile.dtype.count)
            for v, reg in enumerate(regs):
                out.append(_emit_products(builder, acc[r * row.count + v], value, reg, halves[v]))
        return context.make_tuple(builder, tile, out)

    return tile(tile, x, starts, types.int64, row), codegen


@intrinsic
def products(typingctx, tile, columns, starts, offset, row):
    """products(tile, columns, starts, offset, row): tile[r] += the bytes at columns[starts[r] + offset] (int32)
    times those of row[0], four in each lane.
    """

    def codegen(context, builder, signature, args):
        acc = cgutils.unpack_tuple(builder, args[0], tile.count)
        (reg,) = cgutils.unpack_tuple(builder, args[4], 1)
        halves = None if BYTE_PRODUCTS else _emit_halves(builder, reg, signed=True)
        out = []
        for r, start in enumerate(cgutils.unpack_tuple(builder, args[2], starts.count)):
            at = builder.add(start, args[3])
            value = emit_load(builder, pointer_to(context, builder, signature.args[1], args[1], at), 4)
            out.append(_emit_products(builder, acc[r], value, reg, halves))
        return context.make_tuple(builder, tile, out)

    return tile(tile, columns, starts, types.int64, row), codegen


def _emit_shuffle(builder, a, b, order):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order))


def _emit_quad(builder, lines, kind):
    """Four registers of bytes as one of 32-bit lanes, the first in the lowest byte."""
    count = kind.count
    both, all_four = range(2 * count), [line * count + i for i in range(count) for line in range(4)]
    upper, lower = (_emit_shuffle(builder, lines[i], lines[i + 1], [*both]) for i in (0, 2))
    return builder.bitcast(_emit_shuffle(builder, upper, lower, all_four), kind)


@intrinsic
def quad(typingctx, x, starts, columns):
    """quad(x, starts, columns): bytes at four places of x, side by side in the lanes of a register as `columns` has."""
    vec = vec_of(columns)

    def codegen(context, builder, signature, args):
        bytes_ = ir.VectorType(ir.IntType(8), vec.count)
        at = cgutils.unpack_tuple(builder, args[1], starts.count)
        pointers = [_byte_pointer(context, builder, signature.args[0], args[0], i, bytes_) for i in at]
        return _emit_quad(builder, [emit_load(builder, p, 1) for p in pointers], context.get_value_type(vec))

    return vec(x, starts, columns), codegen


@intrinsic
def quad_first(typingctx, x, starts, columns, length):
    """quad_first(x, starts, columns, length): as quad, but lanes from `length` on are not read."""
    vec = vec_of(columns)

    def codegen(context, builder, signature, args):
        bytes_ = ir.VectorType(ir.IntType(8), vec.count)
        mask, lines = emit_first_mask(builder, args[3], vec.count), []
        for i in cgutils.unpack_tuple(builder, args[1], starts.count):
            pointer = _byte_pointer(context, builder, signature.args[0], args[0], i, bytes_)
            given = [pointer, ir.IntType(32)(1), mask, ir.Constant(bytes_, None)]
            lines.append(emit_call(builder, f"llvm.masked.load.v{vec.count}i8.p0", bytes_, given))
        return _emit_quad(builder, lines, context.get_value_type(vec))

    return vec(x, starts, columns, types.int64), codegen


def _floats(row):
    return types.UniTuple(VecType(types.float32, row.dtype.count), row.count)


@intrinsic
def factors(typingctx, row, scales, column):
    """factors(row, scales, column): scales[column...] (float32), as many registers as `row` has."""
    kind = _floats(row)

    def codegen(context, builder, signature, args):
        vector, regs = context.get_value_type(kind.dtype), []
        for v in range(row.count):
            at = builder.add(args[2], ir.IntType(64)(v * row.dtype.count))
            regs.append(emit_load(builder, _byte_pointer(context, builder, signature.args[1], args[1], at, vector), 4))
        return context.make_tuple(builder, kind, regs)

    return kind(row, scales, types.int64), codegen


def emit_quantized(builder, real, zero, low, high, element):
    """Scaled floats, held between two registers of bounds, as `element`: rounded and shifted if it is a byte."""
    real = emit_clamp(builder, real, low, high)
    if isinstance(element, types.Float):
        return real
    rounder = ir.Constant(real.type, [ROUNDER] * real.type.count)
    shifted = builder.fadd(real, rounder, flags=STRICT)
    whole = builder.add(builder.bitcast(shifted, zero.type), zero)
    return builder.trunc(whole, ir.VectorType(ir.IntType(8), real.type.count))


def _emit_result(builder, sums, factor, element, zero, low, high):
    """Sums as `element`: int32 as they are, others scaled first."""
    if element == types.int32:
        return sums
    real = builder.fmul(builder.sitofp(sums, factor.type), factor, flags=STRICT)
    return emit_quantized(builder, real, zero, low, high, element)


def _emit_bounds(builder, args, count: int):
    """zero, low and high, the last three arguments, as registers."""
    return [splat(builder, a, count) for a in args[-3:]]


@intrinsic
def store(typingctx, tile, row, y, starts, column, factors, zero, low, high):
    """store(tile, row, y, starts, column, factors, zero, low, high): y[starts[r] + column...] = the sums, whole rows.

    Where y is of int32: as they are. Where it is of float32: times the factors, held between low and high. Where it is
    of bytes: this rounded half to even, plus zero.
    """

    def codegen(context, builder, signature, args):
        count = row.dtype.count
        bounds = _emit_bounds(builder, args, count)
        regs, scales = (cgutils.unpack_tuple(builder, args[i], n) for i, n in ((0, tile.count), (5, row.count)))
        for r, start in enumerate(cgutils.unpack_tuple(builder, args[3], starts.count)):
            for v in range(row.count):
                value = _emit_result(builder, regs[r * row.count + v], scales[v], y.dtype, *bounds)
                at = builder.add(builder.add(start, args[4]), ir.IntType(64)(v * count))
                pointer = _byte_pointer(context, builder, signature.args[2], args[2], at, value.type)
                builder.store(value, pointer).align = y.dtype.bitwidth // 8
        return context.get_dummy_value()

    kinds = (tile, row, y, starts, types.int64, factors, types.int32, types.float32, types.float32)
    return types.void(*kinds), codegen


@intrinsic
def store_first(typingctx, sums, spot, y, place, scales, column, length, zero, low, high):
    """store_first(sums, spot, y, place, scales, column, length, zero, low, high): as `store`, one register that was
    spilled to sums[spot...], of which only lanes below `length` are written.
    """
    vec = vec_of(sums)

    def codegen(context, builder, signature, args):
        bounds = _emit_bounds(builder, args, vec.count)
        value = emit_load(builder, pointer_to(context, builder, signature.args[0], args[0], args[1]), 4)
        kind = ir.VectorType(ir.FloatType(), vec.count)
        factor = emit_load(builder, _byte_pointer(context, builder, signature.args[4], args[4], args[5], kind), 4)
        value = _emit_result(builder, value, factor, y.dtype, *bounds)
        pointer = _byte_pointer(context, builder, signature.args[2], args[2], args[3], value.type)
        emit_store_first(builder, value, pointer, args[6], y.dtype)
        return context.get_dummy_value()

    kinds = (sums, types.int64, y, types.int64, scales, types.int64, types.int64)
    return types.void(*kinds, types.int32, types.float32, types.float32), codegen


def emit_store_first(builder, value, pointer, length, element):
    """Store the lanes below `length`."""
    count = value.type.count
    mask = emit_first_mask(builder, length, count)
    letter = "f" if isinstance(element, types.Float) else "i"
    name = f"llvm.masked.store.v{count}{letter}{element.bitwidth}.p0"
    emit_call(builder, name, ir.VoidType(), [value, pointer, ir.IntType(32)(element.bitwidth // 8), mask])


@intrinsic
def spill(typingctx, tile, sums, index):
    """spill(tile, sums, index): write the whole tile to memory, row by row."""

    def codegen(context, builder, signature, args):
        for i, reg in enumerate(cgutils.unpack_tuple(builder, args[0], tile.count)):
            at = builder.add(args[2], ir.IntType(64)(i * tile.dtype.count))
            builder.store(reg, pointer_to(context, builder, signature.args[1], args[1], at)).align = 4
        return context.get_dummy_value()

    return types.void(tile, sums, types.int64), codegen
