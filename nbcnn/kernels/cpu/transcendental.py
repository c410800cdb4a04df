"""exp, expm1, sigmoid, tanh, log, softplus, erf and gelu of one number, written so that LLVM can vectorize a loop over
them.

In float32 they rest on polynomials, fitted for the smallest relative error of the result (Lawson's weighted least
squares on Chebyshev nodes; 2e-8 or less before rounding); errors are 1 to 3 units in the last place. A loop over them
is to take no longer than its memory, some 16 cycles for a register of 16 numbers, so that every instruction counts. The
C library's functions, one call a number, are several times slower. In float64, where speed does not matter here, they
are the C library's. NaN stays NaN, overflow gives infinity, underflow zero.
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload, register_jitable

__all__ = [
    "erf",
    "exp",
    "expm1",
    "finite_exp",
    "gate",
    "gelu",
    "gelu_tanh",
    "log",
    "sigmoid",
    "softplus",
    "tanh",
]

LOG2_E = np.float32(1.44269504088896341)
LN2_HIGH = np.float32(0.693359375)
LN2_LOW = np.float32(-2.12194440e-4)
EXP_LOWEST, EXP_HIGHEST = np.float32(-87.0), np.float32(88.7228)
"""Between these the result is a normal number of float32; below (1.6e-38) it becomes zero, above infinity."""
HALF_LN2 = np.float32(0.34657359)
INFINITY, NAN = np.float32(np.inf), np.float32(np.nan)
EXP_COEFFICIENTS = tuple(
    np.float32(c) for c in (1.3819825836e-3, 8.3686867729e-3, 4.1668277234e-2, 1.6666521132e-1, 4.9999994040e-1)
)
"""(exp(r) - 1 - r) / r ** 2 for a size of r up to ln(2) / 2, so that exp(r) is right."""
EXPM1_COEFFICIENTS = tuple(
    np.float32(c) for c in (1.3937862823e-3, 8.3665456623e-3, 4.1666436940e-2, 1.6666543484e-1, 5.0000000000e-1)
)
"""The same, so that exp(r) - 1 is right."""
TANH_ONE, GATE_ONE = np.float32(10), np.float32(40)
"""From here on tanh(x), and gate(x), is 1."""
LOG_COEFFICIENTS = tuple(
    np.float32(c)
    for c in (
        *(-7.6344299063e-2, 1.2761550360e-1, -1.3160195053e-1, 1.4201762467e-1),
        *(-1.6623356479e-1, 2.0001226667e-1, -2.5000821056e-1, 3.3333331710e-1),
    )
)
"""(log(1 + f) - f + f * f / 2) / f ** 3 for 1 + f between the roots of 1/2 and 2."""
SMALLEST_NORMAL, TWO_TO_23, TWENTY_THREE = np.float32(2.0**-126), np.float32(2.0**23), np.float32(23)
ATANH_COEFFICIENTS = tuple(np.float32(c) for c in (1.4003376663e-1, 1.4001514018e-1, 2.0010718703e-1, 3.3333209157e-1))
"""(atanh(s) / s - 1) / s ** 2 as a polynomial in s * s, for s from 0 to 1/3."""
ERF_NEAR_COEFFICIENTS = tuple(
    np.float32(c)
    for c in (
        *(-6.0218062540e-4, 4.9996014113e-3, -2.6771283522e-2),
        *(1.1281954914e-1, -3.7612508178e-1, 1.2837915200e-1),
    )
)
"""erf(x) / x - 1 as a polynomial in x * x, for sizes of x below ERF_NEAR."""
ERF_FAR_COEFFICIENTS = tuple(
    np.float32(c)
    for c in (
        *(2.1398592322e-4, -3.2149630843e-3, 2.2889986511e-2),
        *(-1.0526187544e-1, -6.3571829249e-1, -1.2851436721e-1),
    )
)
"""log(1 - erf(x)) / x + 1, for x from ERF_NEAR to ERF_ONE, from where on erf(x) is 1."""
ERF_NEAR, ERF_ONE = np.float32(0.92), np.float32(4)
TAIL_COEFFICIENTS = tuple(
    np.float32(c)
    for c in (
        *(-2.6420967653e-2, 1.4091053605e-1, -2.7593693137e-1, 2.0525349677e-1, -4.6738587320e-2),
        *(1.1617396772e-1, 1.1500149220e-1, 1.3613790274e-1, 1.3561910391e-1),
    )
)
"""P(-t) exp(t * t / 2) / w, P the normal distribution, as a polynomial in w = 1 / (1 + TAIL_BEND t) for t from 0 to
TAIL_END, beyond which P(-t) t is no normal number of float32.
"""
TAIL_BEND, TAIL_END = np.float32(0.34), np.float32(13.19)
ROOT_HALF = 0.5**0.5
GELU_SLOPE, GELU_BEND = math.sqrt(8 / math.pi), 0.044715 * math.sqrt(8 / math.pi)
GELU_SLOPE_32, GELU_BEND_32 = np.float32(GELU_SLOPE), np.float32(GELU_BEND)
ROOT_HALF_BITS = 0x3F3504F3
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


@intrinsic
def _exponent(typingctx, x):
    """_exponent(x): the n for which x / 2 ** n lies between the roots of 1/2 and 2; x is normal and positive."""

    def codegen(context, builder, signature, args):
        i32 = ir.IntType(32)
        offset = builder.sub(builder.bitcast(args[0], i32), i32(ROOT_HALF_BITS))
        return builder.sitofp(builder.ashr(offset, i32(23)), ir.FloatType())

    return types.float32(types.float32), codegen


@intrinsic
def _mantissa(typingctx, x):
    """_mantissa(x): x / 2 ** _exponent(x)."""

    def codegen(context, builder, signature, args):
        i32 = ir.IntType(32)
        bits = builder.bitcast(args[0], i32)
        offset = builder.and_(builder.sub(bits, i32(ROOT_HALF_BITS)), i32(-(1 << 23)))
        return builder.bitcast(builder.sub(bits, offset), ir.FloatType())

    return types.float32(types.float32), codegen


def exp(x):
    """e to the power of x; in kernels only."""
    raise NotImplementedError


def finite_exp(x):
    """exp of numbers up to 88, in fewer instructions; in kernels only."""
    raise NotImplementedError


def expm1(x):
    """e to the power of x, less one, exact near zero; in kernels only."""
    raise NotImplementedError


def sigmoid(x):
    """1 / (1 + exp(-x)); in kernels only."""
    raise NotImplementedError


def gate(x):
    """tanh(log(1 + exp(x))), by which Mish multiplies x; in kernels only."""
    raise NotImplementedError


def tanh(x):
    """Hyperbolic tangent; in kernels only."""
    raise NotImplementedError


def log(x):
    """The natural logarithm; in kernels only."""
    raise NotImplementedError


def softplus(x):
    """log(1 + exp(x)); in kernels only."""
    raise NotImplementedError


def erf(x):
    """The error function; in kernels only."""
    raise NotImplementedError


def gelu(x):
    """x times the share of the normal distribution that lies below x; in kernels only."""
    raise NotImplementedError


def gelu_tanh(x):
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x ** 3))) / 2; in kernels only."""
    raise NotImplementedError


@register_jitable
def _near_one(r):
    """exp(r) - 1 for a size of r up to ln(2) / 2."""
    c = EXPM1_COEFFICIENTS
    q = _fma(_fma(_fma(_fma(c[0], r, c[1]), r, c[2]), r, c[3]), r, c[4])
    return _fma(q * r, r, r)


@register_jitable
def _reduced(x):
    """n and r with x = n ln(2) + r, where n is whole and r as small as can be."""
    n = np.rint(x * LOG2_E)
    return n, _fma(n, -LN2_LOW, _fma(n, -LN2_HIGH, x))


@register_jitable
def _exp_between(x):
    """exp(x) for x between EXP_LOWEST and EXP_HIGHEST, and NaN for NaN, which the conversion to an integer makes a
    number that leaves its bits alone.
    """
    n, r = _reduced(x)
    c = EXP_COEFFICIENTS
    q = _fma(_fma(_fma(_fma(c[0], r, c[1]), r, c[2]), r, c[3]), r, c[4])
    return _scale(_fma(_fma(q, r, ONE), r, ONE), np.int32(n))


def _exp_float32(x):
    z = EXP_LOWEST if x < EXP_LOWEST else x
    y = _exp_between(EXP_HIGHEST if z > EXP_HIGHEST else z)
    y = ZERO if x < EXP_LOWEST else y
    return INFINITY if x > EXP_HIGHEST else y


def _exp_float64(x):
    return math.exp(x)


@overload(exp, inline="never")
def _exp(x):
    return _exp_float32 if x == types.float32 else _exp_float64


def _finite_exp_float32(x):
    y = _exp_between(EXP_LOWEST if x < EXP_LOWEST else x)
    return ZERO if x < EXP_LOWEST else y


@overload(finite_exp, inline="never")
def _finite_exp(x):
    return _finite_exp_float32 if x == types.float32 else _exp_float64


def _sigmoid_float32(x):
    z = -EXP_HIGHEST if x < -EXP_HIGHEST else x
    y = ONE / (ONE + _exp_between(-(-EXP_LOWEST if z > -EXP_LOWEST else z)))
    return ZERO if x < -EXP_HIGHEST else y


def _sigmoid_float64(x):
    return 1.0 / (1.0 + math.exp(-x))


@overload(sigmoid, inline="never")
def _sigmoid(x):
    return _sigmoid_float32 if x == types.float32 else _sigmoid_float64


def _gate_float32(x):
    # tanh(log(w)) is (w w - 1) / (w w + 1); with w = 1 + exp(x) nothing cancels in this form.
    v = finite_exp(GATE_ONE if x > GATE_ONE else x)
    v *= v + TWO
    return v / (v + TWO)


def _gate_float64(x):
    v = math.exp(40.0 if x > 40.0 else x)
    v *= v + 2.0
    return v / (v + 2.0)


@overload(gate, inline="never")
def _gate(x):
    return _gate_float32 if x == types.float32 else _gate_float64


def _tanh_float32(x):
    # e / (e + 2) with e = exp(2 x) - 1, which is exact near zero: 2 ** n (exp(r) - 1) + (2 ** n - 1).
    z = -TANH_ONE if x < -TANH_ONE else x
    z = TANH_ONE if z > TANH_ONE else z
    n, r = _reduced(z + z)
    scale = _scale(ONE, np.int32(n))
    e = _fma(_near_one(r), scale, scale - ONE)
    return e / (e + TWO)


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


def _log_float32(x):
    small = x < SMALLEST_NORMAL
    z = x * TWO_TO_23 if small else x
    c, f = LOG_COEFFICIENTS, _mantissa(z) - ONE
    n = _exponent(z) - (TWENTY_THREE if small else ZERO)
    p = _fma(_fma(_fma(_fma(c[0], f, c[1]), f, c[2]), f, c[3]), f, c[4])
    p = _fma(_fma(_fma(p, f, c[5]), f, c[6]), f, c[7])
    square = f * f
    y = _fma(n, LN2_HIGH, f + _fma(p * f, square, _fma(n, LN2_LOW, -HALF * square)))  # the small parts first
    y = NAN if x < ZERO else y
    y = -INFINITY if x == ZERO else y
    y = INFINITY if x == INFINITY else y
    return x if math.isnan(x) else y


def _log_float64(x):
    return math.log(x)


@overload(log, inline="never")
def _log(x):
    return _log_float32 if x == types.float32 else _log_float64


def _softplus_float32(x):
    # log(1 + e) is 2 atanh(e / (2 + e)).
    e, c = finite_exp(-abs(x)), ATANH_COEFFICIENTS
    s = e / (TWO + e)
    u = s * s
    p = _fma(_fma(_fma(_fma(c[0], u, c[1]), u, c[2]), u, c[3]), u, ONE)
    return _fma(s + s, p, ZERO if x < ZERO else x)


def _softplus_float64(x):
    return (0.0 if x < 0.0 else x) + math.log1p(math.exp(-abs(x)))


@overload(softplus, inline="never")
def _softplus(x):
    return _softplus_float32 if x == types.float32 else _softplus_float64


def _erf_float32(x):
    c, square = ERF_NEAR_COEFFICIENTS, x * x
    p = _fma(_fma(_fma(_fma(_fma(c[0], square, c[1]), square, c[2]), square, c[3]), square, c[4]), square, c[5])
    near = _fma(p, x, x)
    size = abs(x)
    t = ERF_ONE if size > ERF_ONE else size
    c = ERF_FAR_COEFFICIENTS
    p = _fma(_fma(_fma(_fma(_fma(c[0], t, c[1]), t, c[2]), t, c[3]), t, c[4]), t, c[5])
    far = ONE - _exp_between(_fma(p, t, -t))
    far = -far if x < ZERO else far
    return far if size >= ERF_NEAR else near


def _erf_float64(x):
    return math.erf(x)


@overload(erf, inline="never")
def _erf(x):
    return _erf_float32 if x == types.float32 else _erf_float64


def _gelu_float32(x):
    # max(x, 0) - t P(-t), where t is the size of x: nothing cancels, not even far out, where all comes from exp.
    size = abs(x)
    t = TAIL_END if size > TAIL_END else size
    c, w = TAIL_COEFFICIENTS, ONE / _fma(TAIL_BEND, t, ONE)
    p = _fma(_fma(_fma(_fma(c[0], w, c[1]), w, c[2]), w, c[3]), w, c[4])
    p = _fma(_fma(_fma(_fma(p, w, c[5]), w, c[6]), w, c[7]), w, c[8])
    n = np.rint(t * t * (-HALF * LOG2_E))
    # The square once more, not rounded before n ln(2) is taken off: what its rounding leaves out, exp would multiply.
    r = -HALF * _fma(n, TWO * LN2_LOW, _fma(t, t, n * (TWO * LN2_HIGH)))
    tail = t * w * p * _scale(_near_one(r) + ONE, np.int32(n))
    tail = ZERO if size > TAIL_END else tail
    return (x if x > ZERO else ZERO) - tail


def _gelu_float64(x):
    return 0.5 * x * math.erfc(-ROOT_HALF * x)


@overload(gelu, inline="never")
def _gelu(x):
    return _gelu_float32 if x == types.float32 else _gelu_float64


def _gelu_tanh_float32(x):
    # (1 + tanh(u)) / 2 is 1 / (1 + exp(-2 u)), in which nothing cancels.
    z = -x * _fma(x * x, GELU_BEND_32, GELU_SLOPE_32)
    t = EXP_LOWEST if z < EXP_LOWEST else z
    t = EXP_HIGHEST if t > EXP_HIGHEST else t
    y = x / (ONE + _exp_between(t))
    return ZERO if z > EXP_HIGHEST else y


def _gelu_tanh_float64(x):
    z = -x * (x * x * GELU_BEND + GELU_SLOPE)
    return 0.0 if z > 700.0 else x / (1.0 + math.exp(z))


@overload(gelu_tanh, inline="never")
def _gelu_tanh(x):
    return _gelu_tanh_float32 if x == types.float32 else _gelu_tanh_float64
