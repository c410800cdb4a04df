"""Arrays of float32 that are kept in 16 bits, as float16 or bfloat16.

Device code reads and writes such an array as one of float32: its `dtype` is float32, an element is widened when it is
loaded, and rounded to the nearest (halves to even) when it is stored. So every kernel works on them as it is, sums in
float32, and memory moves half as much. Kernels on tensor cores, which multiply the 16 bits as they are, ask for their
`words`.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from ml_dtypes import bfloat16

from nbcnn.kernels.cuda._cuda import SIMULATED, Narrow, intrinsic, ir, types

__all__ = ["KINDS", "HalfArray", "is_half", "kind_of"]

KINDS = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(bfloat16)}
FLOAT = np.dtype(np.float32)


class HalfArray(Narrow):
    """A flat array of the device. bits: its memory, as uint16. kind: "float16" or "bfloat16"."""

    dtype = FLOAT
    ndim = 1

    def __init__(self, bits: Any, kind: str) -> None:
        self.bits, self.kind = bits, kind
        self.size, self.shape = bits.size, (bits.size,)

    @property
    def nbytes(self) -> int:
        return 2 * self.size

    @property
    def kept(self) -> np.dtype:
        """What the bits mean."""
        return KINDS[self.kind]

    def words(self) -> Any:
        """Pairs of neighbours, each as one float32 that means nothing: what copies and tensor cores take."""
        return self.bits.view(FLOAT)

    def reshape(self, *shape: Any) -> HalfArray:
        """Itself: kernels take flat arrays."""
        assert math.prod(np.atleast_1d(shape[0])) in (-1, self.size), shape
        return self

    @property
    def __cuda_array_interface__(self) -> Any:
        return self.bits.__cuda_array_interface__

    def numba_type(self) -> Any:
        return HALF_TYPES[self.kind]

    # --- what the simulator's device code does

    def __getitem__(self, at: Any) -> np.float32:
        return np.float32(np.uint16(self.bits[int(at)]).view(self.kept))

    def __setitem__(self, at: Any, value: Any) -> None:
        with np.errstate(over="ignore"):
            self.bits[int(at)] = np.float32(value).astype(self.kept).view(np.uint16)


def kind_of(array: Any) -> str | None:
    """What an array of the device is kept in, if that is 16 bits."""
    return array.kind if isinstance(array, HalfArray) else None


def is_half(array: Any) -> bool:
    return isinstance(array, HalfArray)


if SIMULATED:
    HALF_TYPES: dict[str, Any] = {}
else:
    from numba.cuda.extending import models, overload, overload_attribute, register_model

    BITS = types.Array(types.uint16, 1, "C")
    SHORT, WORD = ir.IntType(16), ir.IntType(32)

    class HalfType(types.Type):
        """What a HalfArray is to device code."""

        def __init__(self, kind: str) -> None:
            self.kind = kind
            super().__init__(name=f"HalfArray({kind})")

    @register_model(HalfType)
    class HalfModel(models.StructModel):
        def __init__(self, manager: Any, kind: Any) -> None:
            super().__init__(manager, kind, [("bits", BITS)])

    HALF_TYPES = {kind: HalfType(kind) for kind in KINDS}

    def widen(builder: Any, kind: Any, bits: Any) -> Any:
        """The float32 of 16 bits."""
        if kind.kind == "float16":
            return builder.fpext(builder.bitcast(bits, ir.HalfType()), ir.FloatType())
        return builder.bitcast(builder.shl(builder.zext(bits, WORD), WORD(16)), ir.FloatType())

    def narrow(builder: Any, kind: Any, value: Any) -> Any:
        """The 16 bits of a float32."""
        if kind.kind == "float16":
            return builder.bitcast(builder.fptrunc(value, ir.HalfType()), SHORT)
        asm = ir.InlineAsm(ir.FunctionType(SHORT, [ir.FloatType()]), "cvt.rn.bf16.f32 $0, $1;", "=h,f")
        return builder.call(asm, [value])

    def bits_pointer(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
        """Pointer to the bits of array[at]; nothing is checked."""
        bits = context.make_helper(builder, kind, array).bits
        return builder.gep(context.make_array(BITS)(context, builder, bits).data, [at])

    @intrinsic
    def _load(typingctx, array, at):
        def codegen(context, builder, signature, args):
            return widen(builder, array, builder.load(bits_pointer(context, builder, array, *args)))

        return types.float32(array, types.int64), codegen

    @intrinsic
    def _store(typingctx, array, at, value):
        def codegen(context, builder, signature, args):
            place = bits_pointer(context, builder, array, *args[:2])
            builder.store(narrow(builder, array, args[2]), place)
            return context.get_dummy_value()

        return types.void(array, types.int64, types.float32), codegen

    @intrinsic
    def _size(typingctx, array):
        def codegen(context, builder, signature, args):
            bits = context.make_helper(builder, array, args[0]).bits
            return context.make_array(BITS)(context, builder, bits).nitems

        return types.intp(array), codegen

    @intrinsic
    def _dtype(typingctx, array):
        def codegen(context, builder, signature, args):
            return context.get_dummy_value()

        return types.DType(types.float32)(array), codegen

    @overload(operator.getitem)
    def _get_item(array, at):
        if isinstance(array, HalfType) and isinstance(at, types.Integer):
            return lambda array, at: _load(array, at)  # noqa: PLW0108 (Numba compiles it)
        return None

    @overload(operator.setitem)
    def _set_item(array, at, value):
        if isinstance(array, HalfType) and isinstance(at, types.Integer):
            return lambda array, at, value: _store(array, at, value)  # noqa: PLW0108
        return None

    @overload_attribute(HalfType, "size")
    def _get_size(array):
        return lambda array: _size(array)  # noqa: PLW0108

    @overload_attribute(HalfType, "dtype")
    def _get_dtype(array):
        return lambda array: _dtype(array)  # noqa: PLW0108
