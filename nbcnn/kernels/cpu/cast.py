"""Rounding of floats to those that a narrower type has, without leaving the type that they are held in."""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic

from nbcnn.kernels.cpu.jit import kernel, serial

__all__ = ["round_floats"]

BLOCK = 4096


def _integer(value):
    """The integer type as wide as a float."""
    return ir.IntType(64 if isinstance(value.type, ir.DoubleType) else 32)


@intrinsic
def _keep(typingctx, x, drop):
    """_keep(x, drop): x, not negative, with its last `drop` bits rounded away, halves to the even neighbour.

    A carry out of the mantissa goes into the exponent, which is right.
    """

    def codegen(context, builder, signature, args):
        kind = _integer(args[0])
        count = args[1] if kind.width == 64 else builder.trunc(args[1], kind)
        bits = builder.bitcast(args[0], kind)
        one = kind(1)
        odd = builder.and_(builder.lshr(bits, count), one)
        almost_half = builder.sub(builder.shl(one, builder.sub(count, one)), one)
        mask = builder.shl(kind(-1), count)
        return builder.bitcast(builder.and_(builder.add(bits, builder.add(almost_half, odd)), mask), args[0].type)

    return x(x, types.int64), codegen


@intrinsic
def _steps(typingctx, x, anchor):
    """_steps(x, anchor): how many of the steps in which floats near `anchor` lie x is worth, rounded; a sum that
    fastmath cannot take apart.
    """

    def codegen(context, builder, signature, args):
        kind = _integer(args[0])
        total = builder.bitcast(builder.fadd(*args), kind)
        return builder.sitofp(builder.sub(total, builder.bitcast(args[1], kind)), args[0].type)

    return x(x, x), codegen


@serial
def _round(x, y, drop, smallest, spacing, anchor, largest):
    infinity = x.dtype.type(np.inf)
    for i in range(x.size):
        v = abs(x[i])
        normal = _keep(v, drop)
        subnormal = _steps(v, anchor) * spacing
        r = subnormal if v < smallest else normal
        r = infinity if r > largest else r
        y[i] = x[i] if math.isnan(x[i]) else math.copysign(r, x[i])


@kernel
def round_floats(x, y, drop, smallest, spacing, anchor, largest):
    """y = x rounded to the nearest number of a type whose mantissa has `drop` bits less; y may be x.

    smallest: its smallest normal number, below which they lie `spacing` apart, as numbers of x's type do from `anchor`
    on. largest: beyond it, y is infinite.
    """
    for index in prange((x.size + BLOCK - 1) // BLOCK):
        block = np.int64(index)
        first, last = block * BLOCK, min((block + 1) * BLOCK, x.size)
        _round(x[first:last], y[first:last], drop, smallest, spacing, anchor, largest)
