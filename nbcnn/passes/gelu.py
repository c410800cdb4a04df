"""Recognize Gelu in the steps of a chain, however an exporter spelled it, so that it becomes one step: faster, and
exact where 1 + erf(x) or 1 + tanh(x) loses its digits.

Rule: a step's result is followed as p(x) + q(x) F, where p and q are polynomials up to the third degree in some earlier
result x, and F is erf(x / sqrt(2)) or tanh(sqrt(2 / pi) (x + 0.044715 x ** 3)). Where p = q = x / 2, it is Gelu of x.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt

import numpy as np

from nbcnn.kernels import opcodes as op
from nbcnn.ops.derivative import CUBIC
from nbcnn.ops.program import TENSORS, Program

__all__ = ["recognize_gelu"]

Polynomial = tuple[float, ...]
"""Coefficients, from the constant on."""
DEGREE = 3
HALF_X = (0.0, 0.5)
INNER: dict[int, Polynomial] = {op.ERF: (0.0, sqrt(0.5)), op.TANH: (0.0, sqrt(2 / pi), 0.0, sqrt(2 / pi) * CUBIC)}
"""What F is taken of."""
WHOLE = {op.ERF: op.GELU, op.TANH: op.GELU_TANH}
TOLERANCE = {np.dtype(np.float32): 2e-6, np.dtype(np.float64): 1e-12}
"""How far coefficients may be off: exporters write them with the digits of the type."""


@dataclass(frozen=True)
class _Form:
    """p + q F; function: the code of F, 0 where q is nothing."""

    p: Polynomial
    q: Polynomial = ()
    function: int = 0

    def plus(self, other: _Form, sign: float = 1.0) -> _Form | None:
        if self.function and other.function not in (0, self.function):
            return None
        q = _sum(self.q, _product(other.q, (sign,)))
        return _Form(_sum(self.p, _product(other.p, (sign,))), q, self.function or other.function)

    def times(self, other: _Form) -> _Form | None:
        if self.function and other.function:
            return None
        cross = _sum(_product(self.p, other.q), _product(other.p, self.q))
        found = _Form(_product(self.p, other.p), cross, self.function or other.function)
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


def recognize_gelu(program: Program, dtype: np.dtype) -> Program:
    """The program with its Gelus as single steps, pruned."""
    forms: dict[int, dict[int, _Form]] = {register: {register: X} for register in TENSORS}
    found = Program(list(program.steps), list(program.constants))
    for index in range(len(program.steps)):
        result = index + len(TENSORS)
        forms[result] = _forms_of(program, result, forms, TOLERANCE[dtype])
        for base, form in forms[result].items():
            if form.function and _near(form.p, HALF_X, TOLERANCE[dtype]) and _near(form.q, HALF_X, TOLERANCE[dtype]):
                found.steps[index] = (WHOLE[form.function], base, 0)
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
        elif code in INNER and not form.function and _near(form.p, INNER[code], tolerance):
            found[base] = _Form((), (1.0,), code)
        elif code >= op.PAIR and base in forms[second]:
            other = forms[second][base]
            if code == op.PAIR + op.MUL:
                found[base] = form.times(other)
            elif code in (op.PAIR + op.ADD, op.PAIR + op.SUB):
                found[base] = form.plus(other, 1.0 if code == op.PAIR + op.ADD else -1.0)
    return {base: form for base, form in found.items() if form is not None}


def _near(found: Polynomial, wanted: Polynomial, tolerance: float) -> bool:
    return all(abs(c) <= tolerance * max(map(abs, wanted)) for c in _sum(found, _product(wanted, (-1.0,))))
