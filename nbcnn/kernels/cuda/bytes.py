"""Four bytes in a word: how the kernels of 8-bit integers read them, and what they multiply at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbcnn.kernels.cuda._cuda import SIMULATED, device, intrinsic, ir, types

__all__ = ["QUAD", "products", "set_word", "word"]

QUAD = 4
"""Bytes of a word."""

if SIMULATED:

    @device
    def word(x, i):
        """The four bytes x[i], ... x[i + 3], the first one lowest, as int32; i is a multiple of four."""
        return int.from_bytes([int(x[i + k]) & 255 for k in range(QUAD)], "little", signed=True)

    @device
    def set_word(y, i, value):
        """The four bytes y[i], ... = value (int32); i is a multiple of four."""
        for k in range(QUAD):
            y[i + k] = np.uint8(value >> 8 * k & 255).astype(y.dtype)

    @device
    def products(total, x, quad, weights):
        """total (int32) + the products of four bytes, signed if those of x are, and four signed weights."""
        sign = 128 if x.dtype == np.int8 else 0
        for k in range(QUAD):
            byte, factor = (int(v) >> 8 * k & 255 for v in (quad, weights))
            total += ((byte ^ sign) - sign) * ((factor ^ 128) - 128)
        return np.int32(total)

else:

    def _place(context: Any, builder: Any, kind: Any, array: Any, i: Any) -> Any:
        pointer = builder.gep(context.make_array(kind)(context, builder, array).data, [i])
        return builder.bitcast(pointer, ir.IntType(32).as_pointer())

    @intrinsic
    def word(typingctx, x, i):
        """The four bytes x[i], ... x[i + 3], the first one lowest, as int32; i is a multiple of four."""

        def codegen(context, builder, signature, args):
            return builder.load(_place(context, builder, x, *args), align=QUAD)

        return types.int32(x, types.int64), codegen

    @intrinsic
    def set_word(typingctx, y, i, value):
        """The four bytes y[i], ... = value (int32); i is a multiple of four."""

        def codegen(context, builder, signature, args):
            builder.store(args[2], _place(context, builder, y, *args[:2]), align=QUAD)
            return context.get_dummy_value()

        return types.void(y, types.int64, types.int32), codegen

    @intrinsic
    def products(typingctx, total, x, quad, weights):
        """total (int32) + the products of four bytes, signed if those of x are, and four signed weights."""
        word_type = ir.IntType(32)
        kind = ir.FunctionType(word_type, [word_type] * 3)
        code = f"dp4a.{'s32' if x.dtype.signed else 'u32'}.s32 $0, $1, $2, $3;"

        def codegen(context, builder, signature, args):
            return builder.call(ir.InlineAsm(kind, code, "=r,r,r,r"), [args[2], args[3], args[0]])

        return types.int32(types.int32, x, types.int32, types.int32), codegen
