"""Arithmetic with indices in 32 bits, which a GPU divides three times as fast as 64."""

from __future__ import annotations

from typing import Any

from nbcnn.kernels.cuda._cuda import SIMULATED, device, intrinsic, ir, types

__all__ = ["divide", "remainder", "within"]

if SIMULATED:

    @device
    def divide(a, b):
        """a // b of integers from 0 to 2**32 - 1."""
        return a // b

    @device
    def remainder(a, b):
        """a % b of integers from 0 to 2**32 - 1."""
        return a % b

    @device
    def within(at, move, count):
        """Whether 0 <= at + move < count; all between -2**31 and 2**31 - 1, and so is the sum."""
        return 0 <= at + move < count

else:

    def _in_32_bits(builder: Any, operation: str, args: Any) -> Any:
        word = ir.IntType(32)
        a, b = (builder.trunc(v, word) if v.type.width > word.width else v for v in args)
        return builder.zext(getattr(builder, operation)(a, b), ir.IntType(64))

    @intrinsic
    def divide(typingctx, a, b):
        """a // b of integers from 0 to 2**32 - 1."""
        return types.int64(a, b), lambda context, builder, _, args: _in_32_bits(builder, "udiv", args)

    @intrinsic
    def remainder(typingctx, a, b):
        """a % b of integers from 0 to 2**32 - 1."""
        return types.int64(a, b), lambda context, builder, _, args: _in_32_bits(builder, "urem", args)

    @intrinsic
    def within(typingctx, at, move, count):
        """Whether 0 <= at + move < count; all between -2**31 and 2**31 - 1, and so is the sum."""

        def codegen(context, builder, signature, args):
            word = ir.IntType(32)
            at, move, count = (builder.trunc(v, word) if v.type.width > word.width else v for v in args)
            return builder.icmp_unsigned("<", builder.add(at, move), count)

        return types.boolean(at, move, count), codegen
