"""The derivative of an element-wise program, as another one: x, dy -> dy f'(x), by the chain rule from the last step to
the first (reverse accumulation). What the derivatives need of the way there is computed again, which costs less than to
keep it in memory.

At a kink the derivative is PyTorch's; Clip from zero on is taken for Relu, which has none there.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, pi, sqrt

from nbcnn.kernels import opcodes as op
from nbcnn.ops.program import TENSORS, Number, Program, operands

__all__ = ["CUBIC", "derivative"]

SMALLEST = 1e-45
"""The smallest number of float32 above zero."""
BELOW_ONE = 1 - 2.0**-24
"""The largest of float32 below one."""

CUBIC = 0.044715
"""Of Gelu by tanh: Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016, section 2."""

Rule = Callable[[Program, int, int, int, list[Number]], int]
"""program, u, y = f(u), the gradient g by y, the step's constants -> the gradient by u."""


def derivative(program: Program) -> Program:
    """program: of one tensor, X. The result's tensors are X and, as Z, the gradient of the program's result."""
    found = Program(list(program.steps), list(program.constants))
    grads = {program.last: op.Z}

    def hand_back(operand: int, grad: int) -> None:
        have = grads.get(operand)
        grads[operand] = grad if have is None else found.pair(op.ADD, have, grad)

    for index in reversed(range(len(program.steps))):
        y = index + len(TENSORS)
        if y not in grads:
            continue
        step, g, numbers = program.steps[index], grads[y], program.constants_of(y)
        if step[0] >= op.PAIR:
            first, second = operands(step)
            for operand, grad in zip((first, second), _of_pair(found, step, y, g, numbers), strict=True):
                if grad is not None:
                    hand_back(operand, grad)
        elif step[0] in RULES:
            hand_back(step[1], RULES[step[0]](found, step[1], y, g, numbers))
    if op.X not in grads:
        found.step(op.FILL, op.X)
    elif grads[op.X] != found.last:
        found.step(op.COPY, grads[op.X])
    return found.pruned()


def _of_pair(
    p: Program, step: tuple[int, int, int], y: int, g: int, numbers: list[Number]
) -> tuple[int | None, int | None]:
    """The gradients by both operands of y = u op v."""
    code, u, v = step
    code -= op.PAIR
    if code == op.ADD:
        return g, g
    if code == op.SUB:
        return g, p.step(op.NEG, g)
    if code == op.MUL:
        return p.pair(op.MUL, g, v), p.pair(op.MUL, g, u)
    if code == op.DIV:
        over = p.pair(op.DIV, g, v)
        return over, p.step(op.NEG, p.pair(op.MUL, over, y))
    if code in (op.MAX, op.MIN):  # the first of two that are equal gets it
        bounds = (0.0, inf) if code == op.MAX else (-inf, 0.0)
        passed = p.pair(op.WITHIN, p.pair(op.SUB, u, v), g, *bounds)
        return passed, p.pair(op.SUB, g, passed)
    assert code == op.WITHIN, code
    return None, p.pair(op.WITHIN, u, g, *numbers)


def _clip(p: Program, u: int, y: int, g: int, numbers: list[Number]) -> int:
    low, high = numbers
    return p.pair(op.WITHIN, u, g, SMALLEST if low == 0 else low, high)


def _leaky_relu(p: Program, u: int, y: int, g: int, numbers: list[Number]) -> int:
    slope = numbers[0]
    assert isinstance(slope, float)
    return p.pair(op.ADD, g, p.step(op.AFFINE, p.pair(op.WITHIN, u, g, -inf, 0.0), a=slope - 1))


def _elu(p: Program, u: int, y: int, g: int, numbers: list[Number]) -> int:
    """a exp(u) = y + a where u is not positive, b elsewhere."""
    a, b = numbers
    assert isinstance(a, float) and isinstance(b, float)
    left = p.step(op.AFFINE, p.pair(op.WITHIN, u, y, -inf, 0.0), a=1.0, b=a)
    whole = p.pair(op.MUL, g, left)
    if a == b:
        return whole
    return p.pair(op.ADD, whole, p.step(op.AFFINE, p.pair(op.WITHIN, u, g, SMALLEST, inf), a=b - a))


def _sigmoid(p: Program, u: int, y: int, g: int, numbers: list[Number]) -> int:
    return p.pair(op.MUL, g, p.pair(op.MUL, y, p.step(op.AFFINE, y, a=-1.0, b=1.0)))


def _hard_sigmoid(p: Program, u: int, y: int, g: int, numbers: list[Number]) -> int:
    return p.step(op.AFFINE, p.pair(op.WITHIN, y, g, SMALLEST, BELOW_ONE), a=numbers[0])


def _tanh(p: Program, u: int, y: int, g: int, numbers: list[Number]) -> int:
    return p.pair(op.MUL, g, p.step(op.AFFINE, p.pair(op.MUL, y, y), a=-1.0, b=1.0))


def _softplus(p: Program, u: int, y: int, g: int, numbers: list[Number]) -> int:
    return p.pair(op.MUL, g, p.step(op.SIGMOID, u))


def _hard_swish(p: Program, u: int, y: int, g: int, numbers: list[Number]) -> int:
    gate = p.pair(op.MUL, g, p.step(op.HARD_SIGMOID, u, a=1 / 6, b=0.5))
    slope = p.pair(op.WITHIN, u, p.pair(op.MUL, g, u), -3.0, 3.0)
    return p.pair(op.ADD, gate, p.step(op.AFFINE, slope, a=1 / 6))


def _bell(p: Program, u: int, scale: float, factor: float) -> int:
    """factor exp(-scale u u)."""
    square = p.step(op.AFFINE, p.pair(op.MUL, u, u), a=-scale)
    return p.step(op.AFFINE, p.step(op.EXP, square), a=factor)


def _erf(p: Program, u: int, y: int, g: int, numbers: list[Number]) -> int:
    return p.pair(op.MUL, g, _bell(p, u, 1.0, 2 / sqrt(pi)))


def _gate(p: Program, u: int, y: int, g: int, numbers: list[Number]) -> int:
    """The derivative of tanh at softplus(u), times that of softplus."""
    return _softplus(p, u, y, _tanh(p, u, y, g, numbers), numbers)


def _mish(p: Program, u: int, y: int, g: int, numbers: list[Number]) -> int:
    """Of u gate(u)."""
    gate = p.step(op.GATE, u)
    return p.pair(op.ADD, p.pair(op.MUL, g, gate), _gate(p, u, gate, p.pair(op.MUL, g, u), numbers))


def _gelu(p: Program, u: int, y: int, g: int, numbers: list[Number]) -> int:
    """Of u P(u), P the normal distribution: P(u) + u P'(u)."""
    part = p.step(op.AFFINE, p.step(op.ERF, p.step(op.AFFINE, u, a=sqrt(0.5))), a=0.5, b=0.5)
    rest = p.pair(op.MUL, u, _bell(p, u, 0.5, 1 / sqrt(2 * pi)))
    return p.pair(op.MUL, g, p.pair(op.ADD, part, rest))


def _gelu_tanh(p: Program, u: int, y: int, g: int, numbers: list[Number]) -> int:
    """Of u s(v), s the sigmoid and v twice what tanh is taken of: s + y (1 - s) v'."""
    slope, square = sqrt(8 / pi), p.pair(op.MUL, u, u)
    s = p.step(op.SIGMOID, p.pair(op.MUL, u, p.step(op.AFFINE, square, a=slope * CUBIC, b=slope)))
    rest = p.pair(op.MUL, p.step(op.AFFINE, s, a=-1.0, b=1.0), p.step(op.AFFINE, square, a=3 * slope * CUBIC, b=slope))
    return p.pair(op.MUL, g, p.pair(op.ADD, s, p.pair(op.MUL, y, rest)))


RULES: dict[int, Rule] = {
    op.ABS: lambda p, u, y, g, c: p.pair(op.MUL, g, p.step(op.SIGN, u)),
    op.AFFINE: lambda p, u, y, g, c: p.step(op.AFFINE, g, a=c[0]),
    op.CLIP: _clip,
    op.COPY: lambda p, u, y, g, c: g,
    op.ELU: _elu,
    op.ERF: _erf,
    op.EXP: lambda p, u, y, g, c: p.pair(op.MUL, g, y),
    op.GATE: _gate,
    op.GELU: _gelu,
    op.GELU_TANH: _gelu_tanh,
    op.HARD_SIGMOID: _hard_sigmoid,
    op.HARD_SWISH: _hard_swish,
    op.LEAKY_RELU: _leaky_relu,
    op.LOG: lambda p, u, y, g, c: p.pair(op.DIV, g, u),
    op.MISH: _mish,
    op.NEG: lambda p, u, y, g, c: p.step(op.NEG, g),
    op.SIGMOID: _sigmoid,
    op.SOFTPLUS: _softplus,
    op.SQRT: lambda p, u, y, g, c: p.pair(op.DIV, g, p.step(op.AFFINE, y, a=2.0)),
    op.SWISH: lambda p, u, y, g, c: p.pair(op.SWISH_SLOPE, u, g, a=c[0]),
    op.TANH: _tanh,
}
"""By code. What is not here, and has one operand, is flat: SIGN, FLOOR, CEIL, ROUND, FILL."""
