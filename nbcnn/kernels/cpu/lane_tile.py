"""Register tiles whose lanes are pictures: an output channel for each row, products with one weight for all lanes.

As in tile.py, a tile is a tuple of SIMD registers, row by row, and nothing checks bounds.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbcnn.kernels.cpu.simd import (
    emit_fma,
    emit_load,
    emit_masked_load,
    emit_masked_store,
    pointer_to,
    splat,
    vec_of,
)

__all__ = [
    "add_each",
    "clamp",
    "fill",
    "fma_each",
    "fma_pairs",
    "fma_steps",
    "load_rows",
    "maximum",
    "neighbours",
    "pick",
    "square",
    "store_rows",
    "sum_rows",
    "transpose",
]

I64 = ir.IntType(64)


def _scalar(context, builder, array_type, array, index, count: int):
    """array[index] in every lane."""
    pointer = pointer_to(context, builder, array_type, array, index, vector=False)
    return splat(builder, emit_load(builder, pointer, array_type.dtype.bitwidth // 8), count)


@intrinsic
def fma_each(typingctx, tile, w, at, row):
    """fma_each(tile, w, at, row): tile[r, v] += w[at + r] * row[v], the inner step of a convolution of pictures."""
    vec = tile.dtype

    def codegen(context, builder, signature, args):
        acc = cgutils.unpack_tuple(builder, args[0], tile.count)
        regs = cgutils.unpack_tuple(builder, args[3], row.count)
        out = []
        for r in range(tile.count // row.count):
            value = _scalar(context, builder, signature.args[1], args[1], builder.add(args[2], I64(r)), vec.count)
            out += [emit_fma(builder, vec, value, reg, acc[r * row.count + v]) for v, reg in enumerate(regs)]
        return context.make_tuple(builder, tile, out)

    return tile(tile, w, types.int64, row), codegen


@intrinsic
def fma_steps(typingctx, tile, row, x, at, w, w_at):
    """fma_steps(tile, row, x, at, w, w_at): tile[s, v] += x[at + s] * w[s, v], the tile's registers of w from w[w_at]
    on.
    """
    vec = tile.dtype

    def codegen(context, builder, signature, args):
        acc = cgutils.unpack_tuple(builder, args[0], tile.count)
        out = []
        for i, total in enumerate(acc):
            step = builder.add(args[3], I64(i // row.count))
            value = _scalar(context, builder, signature.args[2], args[2], step, vec.count)
            index = builder.add(args[5], I64(i * vec.count))
            pointer = pointer_to(context, builder, signature.args[4], args[4], index)
            out.append(emit_fma(builder, vec, value, emit_load(builder, pointer, w.dtype.bitwidth // 8), total))
        return context.make_tuple(builder, tile, out)

    return tile(tile, row, x, types.int64, w, types.int64), codegen


@intrinsic
def sum_rows(typingctx, tile, row):
    """sum_rows(tile, row): all rows of the tile and `row` added up, pairwise."""

    def codegen(context, builder, signature, args):
        acc = cgutils.unpack_tuple(builder, args[0], tile.count)
        out = []
        for v, last in enumerate(cgutils.unpack_tuple(builder, args[1], row.count)):
            parts = [*acc[v :: row.count]]
            while len(parts) > 1:
                parts = [builder.fadd(*parts[i : i + 2]) for i in range(0, len(parts), 2)]
            out.append(builder.fadd(parts[0], last))
        return context.make_tuple(builder, row, out)

    return row(tile, row), codegen


@intrinsic
def pick(typingctx, tile, index):
    """pick(tile, index): one register, by a number that need not be a constant."""

    def codegen(context, builder, signature, args):
        regs = cgutils.unpack_tuple(builder, args[0], tile.count)
        found = regs[0]
        for i, reg in enumerate(regs[1:], 1):
            found = builder.select(builder.icmp_signed("==", args[1], I64(i)), reg, found)
        return found

    return tile.dtype(tile, types.int64), codegen


@intrinsic
def fma_pairs(typingctx, tile, x, starts, at, y, y_starts, y_at):
    """fma_pairs(tile, x, starts, at, y, y_starts, y_at): tile[i, j] += x[starts[i] + at] * y[y_starts[j] + y_at], all
    of them registers: the inner step of a gradient by the weights.
    """
    vec = tile.dtype
    size = x.dtype.bitwidth // 8

    def codegen(context, builder, signature, args):
        def registers(which):
            found = []
            for start in cgutils.unpack_tuple(builder, args[which + 1], signature.args[which + 1].count):
                at = builder.add(start, args[which + 2])
                found.append(
                    emit_load(builder, pointer_to(context, builder, signature.args[which], args[which], at), size)
                )
            return found

        acc = cgutils.unpack_tuple(builder, args[0], tile.count)
        rows, columns = registers(1), registers(4)
        pairs = [(i, j) for i in rows for j in columns]
        out = [emit_fma(builder, vec, i, j, sum_) for (i, j), sum_ in zip(pairs, acc, strict=True)]
        return context.make_tuple(builder, tile, out)

    return tile(tile, x, starts, types.int64, y, y_starts, types.int64), codegen


@intrinsic
def neighbours(typingctx, line, first, last, pitch):
    """neighbours(line, first, last, pitch): min(first + i, last) * pitch for as many i as the tuple `line` has."""
    kind = types.UniTuple(types.int64, line.count)

    def codegen(context, builder, signature, args):
        _, first, last, pitch = args
        found = []
        for i in range(kind.count):
            at = builder.add(first, I64(i))
            found.append(builder.mul(builder.select(builder.icmp_signed("<", at, last), at, last), pitch))
        return context.make_tuple(builder, kind, found)

    return kind(line, types.int64, types.int64, types.int64), codegen


@intrinsic
def fill(typingctx, tile, array, at):
    """fill(tile, array, at): as many neighbouring registers as `tile` has, from array[at] on."""

    def codegen(context, builder, signature, args):
        regs = []
        for i in range(tile.count):
            index = builder.add(args[2], I64(i * tile.dtype.count))
            pointer = pointer_to(context, builder, signature.args[1], args[1], index)
            regs.append(emit_load(builder, pointer, array.dtype.bitwidth // 8))
        return context.make_tuple(builder, tile, regs)

    return tile(tile, array, types.int64), codegen


@intrinsic
def maximum(typingctx, a, b):
    """maximum(a, b): the larger of each two lanes; where one is NaN, NaN."""

    def codegen(context, builder, signature, args):
        first, second = (cgutils.unpack_tuple(builder, t, a.count) for t in args)
        out = []
        for u, v in zip(first, second, strict=True):
            larger = builder.or_(builder.fcmp_ordered(">", v, u), builder.fcmp_unordered("uno", v, v))
            out.append(builder.select(larger, v, u))
        return context.make_tuple(builder, a, out)

    return a(a, a), codegen


@intrinsic
def add_each(typingctx, tile, row, array, at, rows):
    """add_each(tile, row, array, at, rows): tile[r, v] += array[at + r], for r < rows; the others add the last."""
    vec = tile.dtype

    def codegen(context, builder, signature, args):
        acc = cgutils.unpack_tuple(builder, args[0], tile.count)
        end = builder.sub(args[4], I64(1))
        out = []
        for r in range(tile.count // row.count):
            which = builder.select(builder.icmp_signed("<", I64(r), end), I64(r), end)
            value = _scalar(context, builder, signature.args[2], args[2], builder.add(args[3], which), vec.count)
            out += [builder.fadd(value, acc[r * row.count + v]) for v in range(row.count)]
        return context.make_tuple(builder, tile, out)

    return tile(tile, row, array, types.int64, types.int64), codegen


@intrinsic
def clamp(typingctx, tile, low, high):
    """clamp(tile, low, high): each lane held between two scalars; NaN stays NaN."""
    vec = tile.dtype

    def codegen(context, builder, signature, args):
        low_vec, high_vec = splat(builder, args[1], vec.count), splat(builder, args[2], vec.count)
        out = []
        for value in cgutils.unpack_tuple(builder, args[0], tile.count):
            floor = builder.select(builder.fcmp_ordered("<", value, low_vec), low_vec, value)
            out.append(builder.select(builder.fcmp_ordered(">", floor, high_vec), high_vec, floor))
        return context.make_tuple(builder, tile, out)

    return tile(tile, vec.element, vec.element), codegen


@intrinsic
def square(typingctx, array):
    """square(array): as many registers of zeros as one has lanes."""
    kind = types.UniTuple(vec_of(array), vec_of(array).count)

    def codegen(context, builder, signature, args):
        zero = ir.Constant(context.get_value_type(kind.dtype), [0.0] * kind.count)
        return context.make_tuple(builder, kind, [zero] * kind.count)

    return kind(array), codegen


@intrinsic
def load_rows(typingctx, tile, array, at, pitch, rows, length):
    """load_rows(tile, array, at, pitch, rows, length): register r from array[at + r * pitch] on; lanes from `length`
    on, and registers from `rows` on, are zero and not read.
    """

    def codegen(context, builder, signature, args):
        _, data, at, step, count, left = args
        regs = []
        for r in range(tile.count):
            index = builder.add(at, builder.mul(step, I64(r)))
            inside = builder.select(builder.icmp_signed("<", I64(r), count), left, I64(0))
            regs.append(emit_masked_load(context, builder, signature.args[1], data, index, inside))
        return context.make_tuple(builder, tile, regs)

    i64 = types.int64
    return tile(tile, array, i64, i64, i64, i64), codegen


@intrinsic
def store_rows(typingctx, tile, array, at, pitch, rows, length):
    """store_rows(tile, array, at, pitch, rows, length): what load_rows would read is written."""

    def codegen(context, builder, signature, args):
        regs, data, at, step, count, left = args
        for r, reg in enumerate(cgutils.unpack_tuple(builder, regs, tile.count)):
            index = builder.add(at, builder.mul(step, I64(r)))
            inside = builder.select(builder.icmp_signed("<", I64(r), count), left, I64(0))
            emit_masked_store(context, builder, signature.args[1], data, index, reg, inside)
        return context.get_dummy_value()

    i64 = types.int64
    return types.void(tile, array, i64, i64, i64, i64), codegen


@intrinsic
def transpose(typingctx, tile):
    """transpose(tile): a square tile (as many registers as lanes) with rows and lanes swapped."""
    size = tile.count

    def codegen(context, builder, signature, args):
        rows = cgutils.unpack_tuple(builder, args[0], size)
        # Each round swaps blocks of `half` lanes between registers that lie `half` apart (Eklundh's algorithm).
        half = size // 2
        while half:
            rows = list(rows)
            for i in range(size):
                if i & half:
                    continue
                low = [lane if not lane & half else size + lane - half for lane in range(size)]
                high = [lane + half if not lane & half else size + lane for lane in range(size)]
                a, b = rows[i], rows[i + half]
                kind = ir.VectorType(ir.IntType(32), size)
                rows[i] = builder.shuffle_vector(a, b, ir.Constant(kind, low))
                rows[i + half] = builder.shuffle_vector(a, b, ir.Constant(kind, high))
            half //= 2
        return context.make_tuple(builder, tile, rows)

    return tile(tile), codegen
