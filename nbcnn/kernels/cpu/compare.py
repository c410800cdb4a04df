"""Comparisons of SIMD registers, lane by lane; they say what a NaN does."""

from llvmlite import ir
from numba.extending import intrinsic

__all__ = ["between", "choose_equal", "larger", "max_lanes", "maximum"]


def emit_larger(builder, a, b):
    """b where it is larger, else a, in one instruction; what becomes of NaN is not known."""
    return builder.select(builder.fcmp_ordered(">", b, a), b, a)


def emit_maximum(builder, a, b):
    """b where it is larger, which is one instruction that keeps a NaN of a, then b where it is NaN."""
    larger = builder.select(builder.fcmp_ordered(">", b, a), b, a)
    return builder.select(builder.fcmp_unordered("uno", b, b), b, larger)


@intrinsic
def maximum(typingctx, a, b):
    """maximum(a, b): the larger lane; where one is NaN, NaN."""

    def codegen(context, builder, signature, args):
        return emit_maximum(builder, *args)

    return a(a, a), codegen


@intrinsic
def larger(typingctx, a, b):
    """larger(a, b): the larger lane, where neither is NaN."""

    def codegen(context, builder, signature, args):
        return emit_larger(builder, *args)

    return a(a, a), codegen


@intrinsic
def max_lanes(typingctx, vec):
    """max_lanes(vec): the largest lane, by halves; what becomes of NaN is not known."""

    def codegen(context, builder, signature, args):
        value, half, i32 = args[0], vec.count // 2, ir.IntType(32)
        while half:
            places = ir.Constant(ir.VectorType(i32, 2 * half), [(i + half) % (2 * half) for i in range(2 * half)])
            other = builder.shuffle_vector(value, value, places)
            value = emit_larger(builder, value, other)
            lower = ir.Constant(ir.VectorType(i32, half), list(range(half)))
            value, half = builder.shuffle_vector(value, value, lower), half // 2
        return builder.extract_element(value, i32(0))

    return vec.element(vec), codegen


@intrinsic
def choose_equal(typingctx, x, y, yes, no):
    """choose_equal(x, y, yes, no): lanes of `yes` where x equals y or is NaN, else of `no`."""

    def codegen(context, builder, signature, args):
        equal = builder.fcmp_ordered("==", args[0], args[1])
        nan = builder.fcmp_unordered("uno", args[0], args[0])
        return builder.select(builder.or_(equal, nan), args[2], args[3])

    return x(x, x, x, x), codegen


@intrinsic
def between(typingctx, x, low, high, yes):
    """between(x, low, high, yes): lanes of `yes` where low < x < high (two registers), else zero."""

    def codegen(context, builder, signature, args):
        above = builder.fcmp_ordered(">", args[0], args[1])
        below = builder.fcmp_ordered("<", args[0], args[2])
        return builder.select(builder.and_(above, below), args[3], ir.Constant(args[3].type, [0.0] * x.count))

    return x(x, x, x, x), codegen
