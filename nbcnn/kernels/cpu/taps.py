"""Which tap of a window holds its maximum: kept beside the maximum for the gradient, in a byte where a window has no
more than 256 taps.

A tile is a tuple of registers, as in tile.py; taps are one of integers. Nothing checks bounds.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbcnn.kernels.cpu.simd import VecType, emit_first_mask, pointer_to, splat

__all__ = ["add_chosen", "add_chosen_first", "fill", "first_larger", "store", "store_first"]


def _integers(tile):
    """The type of a tile of integers as wide as the elements of `tile`: one mask serves both."""
    vec = tile.dtype
    return types.UniTuple(VecType(types.Integer.from_bitwidth(vec.element.bitwidth), vec.count), tile.count)


@intrinsic
def fill(typingctx, tile, number):
    """fill(tile, number): taps for a tile, all with this number."""
    kind = _integers(tile)

    def codegen(context, builder, signature, args):
        value = builder.trunc(args[1], context.get_value_type(kind.dtype).element)
        return context.make_tuple(builder, kind, [splat(builder, value, kind.dtype.count)] * kind.count)

    return kind(tile, types.int64), codegen


@intrinsic
def first_larger(typingctx, best, taps, found, number):
    """first_larger(best, taps, found, number): the pair (best, taps), but `found` and `number` in the lanes where
    `found` is larger, or is NaN and `best` is not.
    """
    kind = types.Tuple((best, taps))

    def codegen(context, builder, signature, args):
        values, numbers = [], []
        new = splat(builder, builder.trunc(args[3], context.get_value_type(taps.dtype).element), taps.dtype.count)
        regs = (cgutils.unpack_tuple(builder, a, best.count) for a in args[:3])
        for a, tap, b in zip(*regs, strict=True):
            known = builder.fcmp_ordered("ord", a, a)
            takes = builder.and_(builder.fcmp_unordered(">", b, a), known)
            values.append(builder.select(takes, b, a))
            numbers.append(builder.select(takes, new, tap))
        pair = context.make_tuple(builder, best, values), context.make_tuple(builder, taps, numbers)
        return context.make_tuple(builder, kind, pair)

    return kind(best, taps, best, types.int64), codegen


class _Masked:
    """Registers of integers in an array of narrower ones, from args[1] on of args[0]; the lanes below `length`."""

    def __init__(self, context, builder, signature, args, lanes: int) -> None:
        self.builder, self.lanes, self.array = builder, lanes, signature.args[0]
        self.kind = ir.VectorType(context.get_value_type(self.array.dtype), lanes)
        self.align = ir.IntType(32)(self.array.dtype.bitwidth // 8)
        self.name = f"v{lanes}i{self.array.dtype.bitwidth}.p0"
        self.context, self.args = context, args

    def pointer(self, i: int):
        at = self.builder.add(self.args[1], ir.IntType(64)(i * self.lanes))
        pointer = pointer_to(self.context, self.builder, self.array, self.args[0], at, vector=False)
        return self.builder.bitcast(pointer, self.kind.as_pointer())

    def mask(self, i: int, length):
        return emit_first_mask(self.builder, self.builder.sub(length, ir.IntType(64)(i * self.lanes)), self.lanes)

    def call(self, name: str, result, args):
        function = ir.FunctionType(result, [a.type for a in args])
        module = self.builder.module
        return self.builder.call(cgutils.get_or_insert_function(module, function, f"{name}.{self.name}"), args)

    def load(self, i: int, length=None):
        if length is None:
            value = self.builder.load(self.pointer(i))
            value.align = self.align.constant
            return value
        blank = ir.Constant(self.kind, [0] * self.lanes)
        args = [self.pointer(i), self.align, self.mask(i, length), blank]
        return self.call("llvm.masked.load", self.kind, args)

    def store(self, i: int, value, length=None) -> None:
        value = self.builder.trunc(value, self.kind)
        if length is None:
            self.builder.store(value, self.pointer(i)).align = self.align.constant
            return
        self.call("llvm.masked.store", ir.VoidType(), [value, self.pointer(i), self.align, self.mask(i, length)])


def _emit_store(context, builder, signature, args, length=None):
    taps = signature.args[2]
    place = _Masked(context, builder, signature, args, taps.dtype.count)
    for i, value in enumerate(cgutils.unpack_tuple(builder, args[2], taps.count)):
        place.store(i, value, length)
    return context.get_dummy_value()


@intrinsic
def store(typingctx, array, index, taps):
    """store(array, index, taps): neighbouring registers, from array[index] on."""

    def codegen(context, builder, signature, args):
        return _emit_store(context, builder, signature, args)

    return types.void(array, types.int64, taps), codegen


@intrinsic
def store_first(typingctx, array, index, taps, length):
    """store_first(array, index, taps, length): only those below `length` are written."""

    def codegen(context, builder, signature, args):
        return _emit_store(context, builder, signature, args, args[3])

    return types.void(array, types.int64, taps, types.int64), codegen


def _emit_add_chosen(context, builder, signature, args, length=None):
    tile = signature.args[2]
    lanes = tile.dtype.count
    place = _Masked(context, builder, signature, args, lanes)
    number = splat(builder, builder.trunc(args[4], place.kind.element), lanes)
    sums, values = (cgutils.unpack_tuple(builder, a, tile.count) for a in args[2:4])
    found = []
    for i, (total, value) in enumerate(zip(sums, values, strict=True)):
        chosen = builder.icmp_unsigned("==", place.load(i, length), number)
        found.append(builder.select(chosen, builder.fadd(total, value), total))
    return context.make_tuple(builder, tile, found)


@intrinsic
def add_chosen(typingctx, array, index, total, tile, number):
    """add_chosen(array, index, total, tile, number): total + tile where array's tap is `number`, else total."""

    def codegen(context, builder, signature, args):
        return _emit_add_chosen(context, builder, signature, args)

    return total(array, types.int64, total, total, types.int64), codegen


@intrinsic
def add_chosen_first(typingctx, array, index, total, tile, number, length):
    """As add_chosen; taps from `length` on are not read."""

    def codegen(context, builder, signature, args):
        return _emit_add_chosen(context, builder, signature, args, args[5])

    return total(array, types.int64, total, total, types.int64, types.int64), codegen
