"""Rounding of floats to those that a narrower type has, without leaving the type that they are held in."""

from __future__ import annotations

import math

import numpy as np

from nbcnn.kernels.cuda._cuda import SIMULATED, cuda, device, intrinsic, ir, kernel, spread, types
from nbcnn.kernels.cuda.memory import WIDTH, read, write

__all__ = ["round_floats"]

if SIMULATED:

    @device
    def _bits(x):
        """The bits of a float that is not negative, as an integer."""
        return int(x.view(np.int64 if x.dtype == np.float64 else np.int32))

    @device
    def _with_bits(bits, like):
        """The float of these bits, of the type of `like`."""
        return np.array(bits, np.int64 if like.dtype == np.float64 else np.int32).view(like.dtype)[()]

else:

    @intrinsic
    def _bits(typingctx, x):
        """The bits of a float that is not negative, as an integer."""

        def codegen(context, builder, signature, args):
            found = builder.bitcast(args[0], ir.IntType(x.bitwidth))
            return found if x.bitwidth == 64 else builder.zext(found, ir.IntType(64))

        return types.int64(x), codegen

    @intrinsic
    def _with_bits(typingctx, bits, like):
        """The float of these bits, of the type of `like`."""

        def codegen(context, builder, signature, args):
            found = args[0] if like.bitwidth == 64 else builder.trunc(args[0], ir.IntType(32))
            return builder.bitcast(found, args[1].type)

        return like(types.int64, like), codegen


@device
def _keep(x, drop):
    """x, not negative, with its last `drop` bits rounded away, halves to the even neighbour.

    A carry out of the mantissa goes into the exponent, which is right.
    """
    bits = _bits(x)
    odd = (bits >> drop) & 1
    return _with_bits((bits + (1 << (drop - 1)) - 1 + odd) & -(1 << drop), x)


@kernel
def _round_floats(x, y, drop, smallest, spacing, anchor, largest):
    kind = x.dtype.type
    infinity = kind(np.inf)
    v = cuda.local.array(WIDTH, x.dtype)
    at = cuda.grid(1) * WIDTH
    while at < x.size:
        read(x, at, x.size - at, v)
        for k in range(WIDTH):
            if not math.isnan(v[k]):
                size = abs(v[k])
                steps = _bits(size + anchor) - _bits(anchor)
                rounded = kind(steps) * spacing if size < smallest else _keep(size, drop)
                v[k] = math.copysign(infinity if rounded > largest else rounded, v[k])
        write(y, at, x.size - at, v)
        at += cuda.gridsize(1) * WIDTH


def round_floats(x, y, drop, smallest, spacing, anchor, largest):
    """y = x rounded to the nearest number of a type whose mantissa has `drop` bits less; y may be x.

    smallest: its smallest normal number, below which they lie `spacing` apart, as numbers of x's type do from `anchor`
    on. largest: beyond it, y is infinite.
    """
    spread(_round_floats, -(-x.size // WIDTH), x, y, drop, smallest, spacing, anchor, largest)
