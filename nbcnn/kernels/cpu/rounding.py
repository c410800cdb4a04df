"""Arithmetic that must be exact: a division that stays one, and rounding half to even.

The other kernels allow the compiler to multiply by a reciprocal instead, which now and then is an integer off.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbcnn.kernels.cpu.simd import emit_call

__all__ = ["STRICT", "divide", "nearest"]

STRICT = ("nsz",)
"""Flags of an instruction that is to be exact: Numba gives its own to those that have none."""


@intrinsic
def divide(typingctx, a, b):
    """divide(a, b): a / b, correctly rounded."""

    def codegen(context, builder, signature, args):
        return builder.fdiv(args[0], args[1], flags=STRICT)

    return a(a, a), codegen


@intrinsic
def nearest(typingctx, value):
    """nearest(value): the nearest int32, the even one of two; the value must be in its range."""

    def codegen(context, builder, signature, args):
        whole = emit_call(builder, f"llvm.rint.f{value.bitwidth}", args[0].type, [args[0]])
        return builder.fptosi(whole, ir.IntType(32))

    return types.int32(value), codegen
