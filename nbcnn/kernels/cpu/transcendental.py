"""exp, expm1 and tanh of one number, written so that LLVM can vectorize a loop over them.

In float32 they are polynomials after S. Moshier's Cephes library (single precision: expf, tanhf; errors of about 1 and
2 units in the last place); the C library's functions, one call a number, are several times slower. In float64, where
speed does not matter here, they are the C library's. NaN stays NaN, overflow gives infinity, underflow zero.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload, register_jitable

__all__ = ["exp", "expm1", "tanh"]

LOG2_E = np.float32(1.44269504088896341)
LN2_HIGH = np.float32(0.693359375)
LN2_LOW = np.float32(-2.12194440e-4)
EXP_LOWEST, EXP_HIGHEST = np.float32(-87.0), np.float32(88.7228)
"""Between these the result is a normal number of float32; below (1.6e-38) it becomes zero, above infinity."""
HALF_LN2 = np.float32(0.34657359)
INFINITY = np.float32(np.inf)
EXP_COEFFICIENTS = tuple(
    np.float32(c)
    for c in (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
)
TANH_COEFFICIENTS = tuple(
    np.float32(c) for c in (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
)
TANH_SMALL = np.float32(0.625)
ZERO, HALF, ONE, TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)


@intrinsic
def _fma(typingctx, a, b, c):
    """_fma(a, b, c): a * b + c with one rounding, which fastmath does not take apart (the range reduction rests on
    that).
    """

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(args[0].type, [args[0].type] * 3)
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.fma.f32"), args)

    return types.float32(types.float32, types.float32, types.float32), codegen


@intrinsic
def _scale(typingctx, x, n):
    """_scale(x, n): x times 2 to the power of an int32, by adding to the exponent's bits; the result must be a normal
    number.
    """

    def codegen(context, builder, signature, args):
        i32 = ir.IntType(32)
        bits = builder.add(builder.bitcast(args[0], i32), builder.shl(args[1], i32(23)))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(types.float32, types.int32), codegen


def exp(x):
    """e to the power of x; in kernels only."""
    raise NotImplementedError


def expm1(x):
    """e to the power of x, less one, exact near zero; in kernels only."""
    raise NotImplementedError


def tanh(x):
    """Hyperbolic tangent; in kernels only."""
    raise NotImplementedError


@register_jitable
def _near_one(r):
    """exp(r) - 1 for a size of r below ln(2) / 2."""
    c = EXP_COEFFICIENTS
    p = _fma(_fma(_fma(_fma(_fma(c[0], r, c[1]), r, c[2]), r, c[3]), r, c[4]), r, c[5])
    return _fma(p * r, r, r)


def _exp_float32(x):
    z = EXP_LOWEST if x < EXP_LOWEST else x
    z = EXP_HIGHEST if z > EXP_HIGHEST else z
    n = np.floor(_fma(z, LOG2_E, HALF))
    r = _fma(n, -LN2_LOW, _fma(n, -LN2_HIGH, z))
    y = _scale(_near_one(r) + ONE, np.int32(n))
    y = ZERO if x < EXP_LOWEST else y
    y = INFINITY if x > EXP_HIGHEST else y
    return x if math.isnan(x) else y


def _exp_float64(x):
    return math.exp(x)


@overload(exp, inline="never")
def _exp(x):
    return _exp_float32 if x == types.float32 else _exp_float64


def _tanh_float32(x):
    size = abs(x)
    square = x * x
    c = TANH_COEFFICIENTS
    p = _fma(_fma(_fma(_fma(c[0], square, c[1]), square, c[2]), square, c[3]), square, c[4])
    small = _fma(p * square, x, x)
    large = ONE - TWO / (exp(TWO * size) + ONE)
    large = -large if x < 0 else large
    return small if size < TANH_SMALL else large


def _tanh_float64(x):
    return math.tanh(x)


@overload(tanh, inline="never")
def _tanh(x):
    return _tanh_float32 if x == types.float32 else _tanh_float64


def _expm1_float32(x):
    # Both forms are computed and one is chosen: a branch would keep a loop from being vectorized.
    near, far = _near_one(x), exp(x) - ONE
    return near if abs(x) < HALF_LN2 else far


def _expm1_float64(x):
    return math.expm1(x)


@overload(expm1, inline="never")
def _expm1(x):
    return _expm1_float32 if x == types.float32 else _expm1_float64
