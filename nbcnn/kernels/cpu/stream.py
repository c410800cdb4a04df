"""Stores past the caches, for results that are larger than these: the lines that are written are not read first, and
nobody would have found them in a cache.

Such stores are not ordered with others. What other threads read of them is what they read after the end of a parallel
loop, where every thread counts itself out with an atomic operation, which lets them pass first.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbcnn.kernels.cpu.simd import pointer_to
from nbcnn.kernels.cpu.width import WIDTH_BYTES

__all__ = ["LARGE", "pays", "spill"]

LARGE = 1 << 26
"""Bytes of an array that is not expected in a cache when it is read next: twice the third level of Zen 4."""


@intrinsic
def pays(typingctx, array, step):
    """pays(array, step): whether to store past the caches what begins at multiples of `step` elements of this array,
    all of which is written: it is large, and that is where registers begin.
    """

    def codegen(context, builder, signature, args):
        kind = cgutils.create_struct_proxy(signature.args[0])(context, builder, value=args[0])
        i64 = ir.IntType(64)
        size = i64(array.dtype.bitwidth // 8)
        ends = builder.or_(builder.ptrtoint(kind.data, i64), builder.mul(args[1], size))
        aligned = builder.icmp_unsigned("==", builder.and_(ends, i64(WIDTH_BYTES - 1)), i64(0))
        return builder.and_(aligned, builder.icmp_signed(">=", builder.mul(kind.nitems, size), i64(LARGE)))

    return types.boolean(array, types.int64), codegen


@intrinsic
def spill(typingctx, tile, array, index):
    """spill(tile, array, index): as spill of tile.py, past the caches; for an index where registers begin."""

    def codegen(context, builder, signature, args):
        hint = builder.module.add_metadata([ir.IntType(32)(1)])
        for i, reg in enumerate(cgutils.unpack_tuple(builder, args[0], tile.count)):
            at = builder.add(args[2], ir.IntType(64)(i * tile.dtype.count))
            written = builder.store(reg, pointer_to(context, builder, signature.args[1], args[1], at, kind=tile.dtype))
            written.align = WIDTH_BYTES
            written.set_metadata("nontemporal", hint)
        return context.get_dummy_value()

    return types.void(tile, array, types.int64), codegen
