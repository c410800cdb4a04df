"""Operators element by element, chains of them, and the gradients of single ones.

The forward kernel interprets a little program, four elements at a time: what a step leaves for others lies in shared
memory, in places of the thread's own, so that a chain reads its tensors once and writes its result once, and no chain
has to be compiled. All threads are at the same step, so that a jump costs little, and memory remains the limit.
"""

from __future__ import annotations

import math

from nbcnn.kernels.cuda._cuda import BLOCK, WAVES, cuda, device, kernel, launch, spread
from nbcnn.kernels.cuda.memory import WIDTH, get, read, write
from nbcnn.kernels.cuda.real import ceil, exp, expm1, floor, log, log1p, normal_cdf, rint, sqrt, tanh
from nbcnn.kernels.opcodes import (
    ABS,
    ADD,
    AFFINE,
    CEIL,
    CLAMP,
    CLIP,
    COPY,
    DIV,
    ELU,
    ERF,
    EXP,
    FILL,
    FLOOR,
    GATE,
    GELU,
    GELU_TANH,
    HARD_SIGMOID,
    HARD_SWISH,
    LEAKY_RELU,
    LOG,
    MAX,
    MIN,
    MISH,
    MUL,
    NEG,
    PAIR,
    ROUND,
    SIGMOID,
    SIGN,
    SLOT,
    SOFTPLUS,
    SQRT,
    SUB,
    SWISH,
    SWISH_SLOPE,
    TANH,
    TILE,
    WITHIN,
    X,
    Y,
    Z,
)

__all__ = ["elementwise", "elementwise_grad"]

SHARED = 48 * 1024
"""Bytes of shared memory that any block may have."""
GELU_SLOPE, GELU_BEND = math.sqrt(8 / math.pi), 0.044715 * math.sqrt(8 / math.pi)
ERF_SLOPE = 2 / math.sqrt(math.pi)


@device
def _gate(x, two, highest):
    """tanh(softplus(x)), which is 1 from `highest` on."""
    # tanh(log(w)) is (w w - 1) / (w w + 1); with w = 1 + exp(x) nothing cancels in this form.
    v = exp(highest if x > highest else x)
    v *= v + two
    return v / (v + two)


@device
def _apply(code, x, y, a, b):
    """y = f(x) for four elements."""
    kind = x.dtype.type
    zero, one = kind(0), kind(1)
    if code == CLIP:
        for i in range(WIDTH):
            v = a if x[i] < a else x[i]
            y[i] = b if v > b else v
    elif code == LEAKY_RELU:
        for i in range(WIDTH):
            y[i] = x[i] if x[i] > zero else a * x[i]
    elif code == ELU:
        for i in range(WIDTH):
            v = x[i]
            y[i] = b * v if v > zero else a * expm1(v)
    elif code == SIGMOID:
        for i in range(WIDTH):
            y[i] = one / (one + exp(-x[i]))
    elif code == HARD_SIGMOID:
        for i in range(WIDTH):
            v = a * x[i] + b
            v = zero if v < zero else v
            y[i] = one if v > one else v
    elif code == TANH:
        for i in range(WIDTH):
            y[i] = tanh(x[i])
    elif code == SOFTPLUS:
        for i in range(WIDTH):
            y[i] = (zero if x[i] < zero else x[i]) + log1p(exp(-abs(x[i])))
    elif code == SIGN:
        for i in range(WIDTH):
            v = one if x[i] > zero else x[i]
            y[i] = -one if v < zero else v
    elif code == ABS:
        for i in range(WIDTH):
            y[i] = abs(x[i])
    elif code == NEG:
        for i in range(WIDTH):
            y[i] = -x[i]
    elif code == EXP:
        for i in range(WIDTH):
            y[i] = exp(x[i])
    elif code == LOG:
        for i in range(WIDTH):
            y[i] = log(x[i])
    elif code == SQRT:
        for i in range(WIDTH):
            y[i] = sqrt(x[i])
    elif code == HARD_SWISH:
        sixth, half = one / kind(6), kind(0.5)
        for i in range(WIDTH):
            v = x[i] * sixth + half
            v = zero if v < zero else v
            y[i] = x[i] * (one if v > one else v)
    elif code == ERF:
        for i in range(WIDTH):
            y[i] = math.erf(x[i])
    elif code == GATE:
        for i in range(WIDTH):
            y[i] = _gate(x[i], kind(2), kind(40))
    elif code == GELU:
        for i in range(WIDTH):
            share = normal_cdf(x[i])
            y[i] = zero if share == zero else x[i] * share
    elif code == GELU_TANH:
        slope, bend = kind(GELU_SLOPE), kind(GELU_BEND)
        for i in range(WIDTH):
            # (1 + tanh(u)) / 2 is 1 / (1 + exp(-2 u)), in which nothing cancels.
            v = exp(-x[i] * (x[i] * x[i] * bend + slope))
            y[i] = zero if math.isinf(v) else x[i] / (one + v)
    elif code == SWISH:
        for i in range(WIDTH):
            y[i] = x[i] / (one + exp(-a * x[i]))
    elif code == MISH:
        for i in range(WIDTH):
            y[i] = x[i] * _gate(x[i], kind(2), kind(40))
    elif code == FLOOR:
        for i in range(WIDTH):
            y[i] = floor(x[i])
    elif code == CEIL:
        for i in range(WIDTH):
            y[i] = ceil(x[i])
    elif code == ROUND:
        for i in range(WIDTH):
            y[i] = rint(x[i])
    elif code == AFFINE:
        for i in range(WIDTH):
            y[i] = a * x[i] + b
    elif code == FILL:
        for i in range(WIDTH):
            y[i] = a
    elif code == COPY:
        for i in range(WIDTH):
            y[i] = x[i]


@device
def _apply_pair(code, u, v, y, a, b):
    """y = u op v for four elements."""
    zero = y.dtype.type(0)
    if code == ADD:
        for i in range(WIDTH):
            y[i] = u[i] + v[i]
    elif code == SUB:
        for i in range(WIDTH):
            y[i] = u[i] - v[i]
    elif code == MUL:
        for i in range(WIDTH):
            y[i] = u[i] * v[i]
    elif code == DIV:
        for i in range(WIDTH):
            y[i] = u[i] / v[i]
    elif code == MAX:
        for i in range(WIDTH):
            y[i] = u[i] if u[i] >= v[i] or math.isnan(u[i]) else v[i]
    elif code == MIN:
        for i in range(WIDTH):
            y[i] = u[i] if u[i] <= v[i] or math.isnan(u[i]) else v[i]
    elif code == WITHIN:
        for i in range(WIDTH):
            y[i] = v[i] if u[i] >= a and u[i] <= b else zero
    elif code == SWISH_SLOPE:
        one = y.dtype.type(1)
        for i in range(WIDTH):
            s = one / (one + exp(-a * u[i]))
            y[i] = v[i] * s * (one + a * u[i] * (one - s))


@device
def _slot(which, k):
    """Where the thread's element k of a slot lies: neighbouring threads' are neighbours, so that no banks collide."""
    return ((which - SLOT) * WIDTH + k) * cuda.blockDim.x + cuda.threadIdx.x


@device
def _operand(which, x, z, slots, at, left, u):
    """u = what a step reads."""
    if which == X:
        read(x, at, left, u)
    elif which == Z:
        read(z, at, left, u)
    else:
        for k in range(WIDTH):
            u[k] = slots[_slot(which, k)]


@kernel
def _elementwise(program, constants, x, z, y):
    slots = cuda.shared.array(0, x.dtype)
    u = cuda.local.array(WIDTH, x.dtype)
    v = cuda.local.array(WIDTH, x.dtype)
    w = cuda.local.array(WIDTH, x.dtype)
    at = cuda.grid(1) * WIDTH
    while at < x.size:
        left = x.size - at
        for step in range(program.size // 4):
            code, target = get(program, 4 * step), get(program, 4 * step + 3)
            a, b = get(constants, 2 * step), get(constants, 2 * step + 1)
            _operand(get(program, 4 * step + 1), x, z, slots, at, left, u)
            if code >= PAIR:
                _operand(get(program, 4 * step + 2), x, z, slots, at, left, v)
                _apply_pair(code - PAIR, u, v, w, a, b)
            else:
                _apply(code, u, w, a, b)
            if target == Y:
                write(y, at, left, w)
            else:
                for k in range(WIDTH):
                    slots[_slot(target, k)] = w[k]
        at += cuda.gridsize(1) * WIDTH


def elementwise(program, constants, x, z, y, tiles):
    """y = f(x, z), element by element.

    program, constants: four integers and two numbers for each step, see opcodes.py. x, z, y: of one size; z is not read
    where no step names it. y may be x or z. tiles: of TILE elements for each slot, which tells how many there are.
    """
    each = -(-tiles.size // TILE) * WIDTH * x.dtype.itemsize
    threads = BLOCK
    while each * threads > SHARED and threads > 1:
        threads //= 2
    blocks = min(-(-x.size // (WIDTH * threads)), WAVES)
    launch(_elementwise, blocks, threads, program, constants, x, z, y, shared=each * threads)


# --- gradients ------------------------------------------------------------------------------------------------------


@device
def _apply_grad(code, v, dy, dx, a, b):
    """dx = dy f' for four elements; v is what `elementwise_grad` says."""
    kind = v.dtype.type
    zero, one, two = kind(0), kind(1), kind(2)
    if code == CLAMP:
        for i in range(WIDTH):
            dx[i] = dy[i] if v[i] > a and v[i] < b else zero
    elif code == CLIP:
        for i in range(WIDTH):
            dx[i] = dy[i] if v[i] >= a and v[i] <= b else zero
    elif code == LEAKY_RELU:
        for i in range(WIDTH):
            dx[i] = dy[i] if v[i] > zero else a * dy[i]
    elif code == ELU:
        for i in range(WIDTH):
            dx[i] = dy[i] * (b if v[i] > zero else v[i] + a)
    elif code == SIGMOID:
        for i in range(WIDTH):
            dx[i] = dy[i] * v[i] * (one - v[i])
    elif code == HARD_SIGMOID:
        for i in range(WIDTH):
            dx[i] = dy[i] * a if v[i] > zero and v[i] < one else zero
    elif code == TANH:
        for i in range(WIDTH):
            dx[i] = dy[i] * (one - v[i] * v[i])
    elif code == SOFTPLUS:
        for i in range(WIDTH):
            dx[i] = dy[i] / (one + exp(-v[i]))
    elif code == SIGN:
        for i in range(WIDTH):
            dx[i] = zero
    elif code == ABS:
        for i in range(WIDTH):
            d = dy[i] if v[i] > zero else -dy[i]
            dx[i] = zero if v[i] == zero else d
    elif code == EXP:
        for i in range(WIDTH):
            dx[i] = dy[i] * v[i]
    elif code == LOG:
        for i in range(WIDTH):
            dx[i] = dy[i] / v[i]
    elif code == SQRT:
        for i in range(WIDTH):
            dx[i] = dy[i] / (two * v[i])
    elif code == ERF:
        slope = kind(ERF_SLOPE)
        for i in range(WIDTH):
            dx[i] = dy[i] * slope * exp(-v[i] * v[i])
    elif code == HARD_SWISH:
        three, half = kind(3), kind(0.5)
        for i in range(WIDTH):
            slope = v[i] / three + half
            slope = zero if v[i] < -three else slope
            dx[i] = dy[i] if v[i] > three else dy[i] * slope


@kernel
def _elementwise_grad(code, v, dy, dx, a, b):
    kept = cuda.local.array(WIDTH, v.dtype)
    d = cuda.local.array(WIDTH, v.dtype)
    result = cuda.local.array(WIDTH, v.dtype)
    at = cuda.grid(1) * WIDTH
    while at < v.size:
        left = v.size - at
        read(v, at, left, kept)
        read(dy, at, left, d)
        _apply_grad(code, kept, d, result, a, b)
        write(dx, at, left, result)
        at += cuda.gridsize(1) * WIDTH


def elementwise_grad(code, v, dy, dx, a, b, tiles):
    """dx = dy f'(x), element by element; dx may be dy or v.

    v is f's output y for CLAMP, LEAKY_RELU, ELU, SIGMOID, HARD_SIGMOID, TANH, EXP and SQRT, and its input x for the
    rest. At a kink the derivative is PyTorch's: 0 for CLAMP at its bounds and ABS at 0, 1 for CLIP at its bounds, a for
    LEAKY_RELU at 0.
    """
    spread(_elementwise_grad, -(-v.size // WIDTH), code, v, dy, dx, a, b)
