"""Functions of one real number, in the type of the number: CUDA's own, accurate to a few units in the last place.

The simulator has NumPy's, because Python's raise errors where arithmetic has infinity and NaN.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbcnn.kernels.cuda._cuda import SIMULATED, device, intrinsic, ir, types

__all__ = [
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "ceil",
    "cos",
    "cosh",
    "exp",
    "expm1",
    "floor",
    "fmod",
    "hypot",
    "log",
    "log1p",
    "normal_cdf",
    "rint",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
]

_library: Any = np if SIMULATED else math
exp, expm1, log, log1p = _library.exp, _library.expm1, _library.log, _library.log1p
sin, cos, tan, sinh, cosh, tanh = (getattr(_library, n) for n in ("sin", "cos", "tan", "sinh", "cosh", "tanh"))
fmod, hypot, sqrt = _library.fmod, _library.hypot, _library.sqrt
_arc = "arc" if SIMULATED else "a"
asin, acos, atan, asinh, acosh, atanh = (
    getattr(_library, _arc + n) for n in ("sin", "cos", "tan", "sinh", "cosh", "tanh")
)

if SIMULATED:
    ceil, floor, rint = np.ceil, np.floor, np.rint

    @device
    def normal_cdf(x):
        """The share of the normal distribution that lies below x."""
        return x.dtype.type(0.5 * math.erfc(-x * np.sqrt(0.5)))

else:

    def _libdevice(name: str) -> Any:
        """A function of CUDA's that Python's math lacks, or has with an integer result."""

        @intrinsic
        def function(typingctx, x):
            symbol = f"__nv_{name}f" if x == types.float32 else f"__nv_{name}"

            def codegen(context, builder, signature, args):
                kind = ir.FunctionType(args[0].type, [args[0].type])
                found = builder.module.globals.get(symbol) or ir.Function(builder.module, kind, symbol)
                return builder.call(found, args)

            return x(x), codegen

        return function

    ceil, floor, rint, normal_cdf = (_libdevice(name) for name in ("ceil", "floor", "rint", "normcdf"))
