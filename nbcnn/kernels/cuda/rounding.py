"""Rounding half to even."""

from __future__ import annotations

import numpy as np

from nbcnn.kernels.cuda._cuda import SIMULATED, device, intrinsic, ir, types

__all__ = ["nearest"]

if SIMULATED:

    @device
    def nearest(value):
        """The nearest int32, the even one of two; for a number beyond its range the last one, for NaN 0."""
        return 0 if np.isnan(value) else int(np.clip(np.rint(float(value)), -(2**31), 2**31 - 1))

else:

    @intrinsic
    def nearest(typingctx, value):
        """The nearest int32, the even one of two; for a number beyond its range the last one, for NaN 0."""

        def codegen(context, builder, signature, args):
            kind = args[0].type
            name = f"llvm.nvvm.{'f' if isinstance(kind, ir.FloatType) else 'd'}2i.rn"
            word = ir.IntType(32)
            function = builder.module.declare_intrinsic(name, fnty=ir.FunctionType(word, [kind]))
            return builder.call(function, [args[0]])

        return types.int32(value), codegen
