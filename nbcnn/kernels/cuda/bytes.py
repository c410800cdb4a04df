"""Four bytes in a word: how the kernels of 8-bit integers read them, and what they multiply at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbcnn.kernels.cuda._cuda import SIMULATED, device, intrinsic, ir, types

__all__ = ["QUAD", "four_words", "products", "set_word", "turned", "word"]

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
    def four_words(x, i):
        """Four words from x[i] on; i is a multiple of 16."""
        return word(x, i), word(x, i + 4), word(x, i + 8), word(x, i + 12)

    @device
    def turned(a, b, c, d):
        """Four words as a matrix of bytes, turned: word k of the result has byte k of each."""
        rows = [[int(v) >> 8 * k & 255 for k in range(QUAD)] for v in (a, b, c, d)]
        return tuple(int.from_bytes(column, "little", signed=True) for column in zip(*rows, strict=True))

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
    def four_words(typingctx, x, i):
        """Four words from x[i] on; i is a multiple of 16."""
        found = types.UniTuple(types.int32, 4)

        def codegen(context, builder, signature, args):
            pointer = _place(context, builder, x, *args)
            vector = builder.load(builder.bitcast(pointer, ir.VectorType(ir.IntType(32), 4).as_pointer()), align=16)
            parts = [builder.extract_element(vector, ir.IntType(32)(k)) for k in range(4)]
            return context.make_tuple(builder, found, parts)

        return found(x, types.int64), codegen

    @intrinsic
    def turned(typingctx, a, b, c, d):
        """Four words as a matrix of bytes, turned: word k of the result has byte k of each."""
        word_type = ir.IntType(32)
        found = types.UniTuple(types.int32, 4)

        def codegen(context, builder, signature, args):
            kind = ir.FunctionType(word_type, [word_type] * 3)
            permute = builder.module.declare_intrinsic("llvm.nvvm.prmt", fnty=kind)

            def mixed(first: Any, second: Any, order: int) -> Any:
                return builder.call(permute, [first, second, word_type(order)])

            a, b, c, d = args
            # Each digit of an order names a byte: 0 to 3 of the first word, 4 to 7 of the second.
            low = mixed(a, b, 0x5140), mixed(c, d, 0x5140)
            high = mixed(a, b, 0x7362), mixed(c, d, 0x7362)
            parts = [mixed(*pair, order) for pair in (low, high) for order in (0x5410, 0x7632)]
            return context.make_tuple(builder, found, parts)

        return found(*[types.int32] * 4), codegen

    @intrinsic
    def products(typingctx, total, x, quad, weights):
        """total (int32) + the products of four bytes, signed if those of x are, and four signed weights."""
        word_type = ir.IntType(32)
        kind = ir.FunctionType(word_type, [word_type] * 3)
        code = f"dp4a.{'s32' if x.dtype.signed else 'u32'}.s32 $0, $1, $2, $3;"

        def codegen(context, builder, signature, args):
            return builder.call(ir.InlineAsm(kind, code, "=r,r,r,r"), [args[2], args[3], args[0]])

        return types.int32(types.int32, x, types.int32, types.int32), codegen
