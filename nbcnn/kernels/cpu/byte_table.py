"""A table of 256 bytes in four registers, and what it says of a register of bytes: VPERMI2B, of AVX-512 VBMI, finds 64
bytes in half of the table at once.
"""

from __future__ import annotations

from llvmlite import ir
from numba.extending import intrinsic

from nbcnn.kernels.cpu import simd
from nbcnn.kernels.cpu.jit import serial
from nbcnn.kernels.cpu.simd import emit_call
from nbcnn.kernels.cpu.width import BYTE_TABLES

__all__ = ["look_up_bytes"]


@intrinsic
def _find(typingctx, x, a, b, c, d):
    """_find(x, a, b, c, d): what a table in the registers a, b, c and d says of the bytes of x."""

    def codegen(context, builder, signature, args):
        x, a, b, c, d = args
        name = "llvm.x86.avx512.vpermi2var.qi.512"
        low, high = (emit_call(builder, name, x.type, [first, x, second]) for first, second in ((a, b), (c, d)))
        upper = builder.icmp_signed("<", x, ir.Constant(x.type, None))  # the highest bit, which the halves do not read
        return builder.select(upper, high, low)

    return x(x, x, x, x, x), codegen


@serial
def _in_registers(x, y, table):
    """As look_up_bytes, for whole registers; how many bytes those hold."""
    lanes = simd.lanes(table)
    a, b, c, d = (
        simd.load(table, 0),
        simd.load(table, lanes),
        simd.load(table, 2 * lanes),
        simd.load(table, 3 * lanes),
    )
    whole = y.size // lanes * lanes
    for i in range(0, whole, lanes):
        simd.store(y, i, _find(simd.load(x, i), a, b, c, d))
    return whole


@serial
def _nowhere(x, y, table):
    return 0


_at_once = _in_registers if BYTE_TABLES else _nowhere
"""Chosen here, so that what a processor lacks is not compiled."""


@serial
def look_up_bytes(x, y, table):
    """y = table[x], bytes."""
    for i in range(_at_once(x, y, table), y.size):
        y[i] = table[x[i]]
