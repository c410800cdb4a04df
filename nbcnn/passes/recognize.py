"""Recognize activations in the steps of a chain, however an exporter spelled them, so that each becomes one step, which
keeps all in registers: Gelu, Swish (SiLU), Mish and HardSwish. Gelu gets exact, too, where 1 + erf(x) or 1 + tanh(x)
loses its digits.

Rule: a step's result is followed as p(x) + q(x) F(x), where p and q are polynomials up to the third degree in some
earlier result x, and F is the heart of an activation, such as erf(x / sqrt(2)) of Gelu. Where p and q are the
activation's, too (x / 2 both), it is that activation of x.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, pi, sqrt

import numpy as np

from nbcnn.kernels import opcodes as op
from nbcnn.ops.derivative import CUBIC
from nbcnn.ops.program import TENSORS, Number, Program

__all__ = ["recognize"]

Polynomial = tuple[float, ...]
"""Coefficients, from the constant on."""
DEGREE = 3
TOLERANCE = {np.dtype(np.float32): 2e-6, np.dtype(np.float64): 1e-12}
"""How far coefficients may be off: exporters write them with the digits of the type."""


@dataclass(frozen=True)
class _Activation:
    """What a function F may be the heart of: the code of p + q F, and its constant a."""

    code: int
    p: Polynomial
    q: Polynomial
    a: float = 0.0


GELU = _Activation(op.GELU, (0.0, 0.5), (0.0, 0.5))
GELU_TANH = _Activation(op.GELU_TANH, (0.0, 0.5), (0.0, 0.5))
MISH = _Activation(op.MISH, (), (0.0, 1.0))
INNER: dict[int, tuple[Polynomial, _Activation]] = {
    op.ERF: ((0.0, sqrt(0.5)), GELU),
    op.TANH: ((0.0, sqrt(2 / pi), 0.0, sqrt(2 / pi) * CUBIC), GELU_TANH),
    op.GATE: ((0.0, 1.0), MISH),
}
"""What these functions are taken of, as hearts."""


def _heart(code: int, a: Number, b: Number, inner: Polynomial, tolerance: float) -> _Activation | None:
    """What a function of `inner` is the heart of."""
    if code in INNER:
        return INNER[code][1] if _near(inner, INNER[code][0], tolerance) else None
    slope = inner[1] if len(inner) > 1 else 0.0
    if code == op.SIGMOID and slope and _near(inner, (0.0, slope), tolerance):
        return _Activation(op.SWISH, (), (0.0, 1.0), slope)
    if not isinstance(a, float) or not isinstance(b, float):
        return None
    if code == op.HARD_SIGMOID:  # a x + b between 0 and 1
        inner, a, b = _sum(_product(inner, (a,)), (b,)), 0.0, 1.0
    if code in (op.CLIP, op.HARD_SIGMOID) and a == 0 and 0 < b < inf and _near(inner, (b / 2, b / 6), tolerance):
        return _Activation(op.HARD_SWISH, (), (0.0, 1 / b))
    return None


@dataclass(frozen=True)
class _Form:
    """p + q F; heart: what F belongs to, None where q is nothing."""

    p: Polynomial
    q: Polynomial = ()
    heart: _Activation | None = None

    def plus(self, other: _Form, sign: float = 1.0) -> _Form | None:
        if self.heart and other.heart not in (None, self.heart):
            return None
        q = _sum(self.q, _product(other.q, (sign,)))
        return _Form(_sum(self.p, _product(other.p, (sign,))), q, self.heart or other.heart)

    def times(self, other: _Form) -> _Form | None:
        if self.heart and other.heart:
            return None
        cross = _sum(_product(self.p, other.q), _product(other.p, self.q))
        found = _Form(_product(self.p, other.p), cross, self.heart or other.heart)
        return None if max(len(found.p), len(found.q)) > DEGREE + 1 else found


def _sum(one: Polynomial, two: Polynomial) -> Polynomial:
    size = max(len(one), len(two))
    return tuple(a + b for a, b in zip(*(c + (0.0,) * (size - len(c)) for c in (one, two)), strict=True))


def _product(one: Polynomial, two: Polynomial) -> Polynomial:
    found = [0.0] * max(len(one) + len(two) - 1, 0)
    for i, a in enumerate(one):
        for j, b in enumerate(two):
            found[i + j] += a * b
    return tuple(found) if one and two else ()


X = _Form((0.0, 1.0))


def recognize(program: Program, dtype: np.dtype) -> Program:
    """The program with these activations as single steps, pruned."""
    forms: dict[int, dict[int, _Form]] = {register: {register: X} for register in TENSORS}
    found, tolerance = Program(list(program.steps), list(program.constants)), TOLERANCE[dtype]
    for index in range(len(program.steps)):
        result = index + len(TENSORS)
        forms[result] = _forms_of(program, result, forms, tolerance)
        for base, form in forms[result].items():
            whole = form.heart
            if whole and _near(form.p, whole.p, tolerance) and _near(form.q, whole.q, tolerance):
                found.steps[index] = (whole.code, base, 0)
                found.constants[2 * index] = whole.a
                forms[result] = {}
                break
        forms[result][result] = X
    return found.pruned()


def _forms_of(program: Program, result: int, forms: dict[int, dict[int, _Form]], tolerance: float) -> dict[int, _Form]:
    """What a result is in each earlier one that it can be followed from."""
    code, first, second = program.steps[result - len(TENSORS)]
    a, b = program.constants_of(result)
    found: dict[int, _Form | None] = {}
    for base, form in forms.get(first, {}).items():
        if code == op.AFFINE and isinstance(a, float) and isinstance(b, float):
            scaled = form.times(_Form((a,)))
            found[base] = scaled and scaled.plus(_Form((b,)))
        elif code < op.PAIR and not form.heart:
            heart = _heart(code, a, b, form.p, tolerance)
            found[base] = _Form((), (1.0,), heart) if heart else None
        elif code >= op.PAIR and base in forms[second]:
            other = forms[second][base]
            if code == op.PAIR + op.MUL:
                found[base] = form.times(other)
            elif code in (op.PAIR + op.ADD, op.PAIR + op.SUB):
                found[base] = form.plus(other, 1.0 if code == op.PAIR + op.ADD else -1.0)
    return {base: form for base, form in found.items() if form is not None}


def _near(found: Polynomial, wanted: Polynomial, tolerance: float) -> bool:
    return all(abs(c) <= tolerance * max(map(abs, wanted), default=1.0) for c in _sum(found, _product(wanted, (-1.0,))))
