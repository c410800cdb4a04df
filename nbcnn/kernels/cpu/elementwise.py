"""Operators element by element, chains of them, and the gradients of single ones.

The forward kernel runs a little program on each tile of elements, step by step: what a step leaves for others lies in
the L1 cache, so that a chain reads its tensors once and writes its result once, and no chain has to be compiled.
"""

from __future__ import annotations

import math

import numpy as np
from numba import get_thread_id, prange

from nbcnn.kernels.cpu import transcendental
from nbcnn.kernels.cpu.jit import kernel, serial
from nbcnn.kernels.cpu.part import part
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

BLOCK = 4096
"""Elements that one task is worth."""


@serial
def _apply(code, x, y, a, b):
    """y = f(x). Every branch is a loop of its own, so that each is vectorized, as far as x and y do not overlap."""
    zero, one = x.dtype.type(0), x.dtype.type(1)
    count = x.size
    if code == CLIP:
        for i in range(count):
            v = a if x[i] < a else x[i]
            y[i] = b if v > b else v
    elif code == LEAKY_RELU:
        for i in range(count):
            y[i] = x[i] if x[i] > zero else a * x[i]
    elif code == ELU:
        for i in range(count):
            v = x[i]
            negative = a * transcendental.expm1(zero if v > zero else v)
            y[i] = b * v if v > zero else negative
    elif code == SIGMOID:
        for i in range(count):
            y[i] = transcendental.sigmoid(x[i])
    elif code == HARD_SIGMOID:
        for i in range(count):
            v = a * x[i] + b
            v = zero if v < zero else v
            y[i] = one if v > one else v
    elif code == TANH:
        for i in range(count):
            y[i] = transcendental.tanh(x[i])
    elif code == SOFTPLUS:
        for i in range(count):
            y[i] = transcendental.softplus(x[i])
    elif code == SIGN:
        for i in range(count):
            v = one if x[i] > zero else x[i]
            y[i] = -one if v < zero else v
    elif code == ABS:
        for i in range(count):
            y[i] = abs(x[i])
    elif code == NEG:
        for i in range(count):
            y[i] = -x[i]
    elif code == EXP:
        for i in range(count):
            y[i] = transcendental.exp(x[i])
    elif code == LOG:
        for i in range(count):
            y[i] = transcendental.log(x[i])
    elif code == SQRT:
        for i in range(count):
            y[i] = math.sqrt(x[i])
    elif code == HARD_SWISH:
        sixth, half = one / x.dtype.type(6), one / x.dtype.type(2)
        for i in range(count):
            u = x[i]
            v = u * sixth + half
            v = zero if v < zero else v
            y[i] = u * (one if v > one else v)
    elif code == ERF:
        for i in range(count):
            y[i] = transcendental.erf(x[i])
    elif code == GATE:
        for i in range(count):
            y[i] = transcendental.gate(x[i])
    elif code == GELU:
        for i in range(count):
            y[i] = transcendental.gelu(x[i])
    elif code == GELU_TANH:
        for i in range(count):
            y[i] = transcendental.gelu_tanh(x[i])
    elif code == SWISH:
        for i in range(count):
            y[i] = x[i] * transcendental.sigmoid(a * x[i])
    elif code == MISH:
        for i in range(count):
            y[i] = x[i] * transcendental.gate(x[i])
    elif code == FLOOR:
        for i in range(count):
            y[i] = np.floor(x[i])
    elif code == CEIL:
        for i in range(count):
            y[i] = np.ceil(x[i])
    elif code == ROUND:
        for i in range(count):
            y[i] = np.rint(x[i])
    elif code == AFFINE:
        for i in range(count):
            y[i] = a * x[i] + b
    elif code == FILL:
        for i in range(count):
            y[i] = a
    elif code == COPY:
        for i in range(count):
            y[i] = x[i]


@serial
def _apply_pair(code, u, v, y, a, b):
    """y = u op v."""
    zero = y.dtype.type(0)
    if code == ADD:
        for i in range(y.size):
            y[i] = u[i] + v[i]
    elif code == SUB:
        for i in range(y.size):
            y[i] = u[i] - v[i]
    elif code == MUL:
        for i in range(y.size):
            y[i] = u[i] * v[i]
    elif code == DIV:
        for i in range(y.size):
            y[i] = u[i] / v[i]
    elif code == MAX:
        for i in range(y.size):
            y[i] = u[i] if (u[i] >= v[i]) | math.isnan(u[i]) else v[i]
    elif code == MIN:
        for i in range(y.size):
            y[i] = u[i] if (u[i] <= v[i]) | math.isnan(u[i]) else v[i]
    elif code == WITHIN:
        for i in range(y.size):
            passed = v[i]
            y[i] = passed if (u[i] >= a) & (u[i] <= b) else zero
    elif code == SWISH_SLOPE:
        one = y.dtype.type(1)
        for i in range(y.size):
            s = transcendental.sigmoid(a * u[i])
            y[i] = v[i] * s * (one + a * u[i] * (one - s))


@serial
def _operand(which, x, z, tiles, first, start, stop):
    """What a step reads: elements start..stop of a tensor, or a slot; a thread's slots begin at `first`."""
    if which == X:
        return part(x, start, stop)
    if which == Z:
        return part(z, start, stop)
    at = first + (which - SLOT) * TILE
    return part(tiles, at, at + stop - start)


@serial
def _run(program, constants, x, z, y, tiles, first, start, stop):
    """The program on elements start..stop, a tile at most."""
    for step in range(program.size // 4):
        code, target = program[4 * step], program[4 * step + 3]
        u = _operand(program[4 * step + 1], x, z, tiles, first, start, stop)
        result = part(y, start, stop) if target == Y else _operand(target, x, z, tiles, first, start, stop)
        a, b = constants[2 * step], constants[2 * step + 1]
        if code >= PAIR:
            _apply_pair(code - PAIR, u, _operand(program[4 * step + 2], x, z, tiles, first, start, stop), result, a, b)
        else:
            _apply(code, u, result, a, b)


@kernel
def elementwise(program, constants, x, z, y, tiles):
    """y = f(x, z), element by element.

    program, constants: four integers and two numbers for each step, see opcodes.py. x, z, y: of one size; z is not read
    where no step names it. y may be x or z, if the step that writes it reads slots alone. tiles: TILE elements for each
    slot, for each thread.
    """
    # What one step writes need not fit into a slot. Short tiles let one be stored while the next is computed.
    length = BLOCK if program.size == 4 else TILE
    slots = 0
    for step in range(program.size // 4):
        slots = max(slots, program[4 * step + 3] - Y)
    for index in prange((x.size + BLOCK - 1) // BLOCK):
        block = np.int64(index)
        first = get_thread_id() * slots * TILE
        for start in range(block * BLOCK, min((block + 1) * BLOCK, x.size), length):
            _run(program, constants, x, z, y, tiles, first, start, min(start + length, x.size))


# --- gradients ------------------------------------------------------------------------------------------------------


@serial
def _apply_grad(code, v, dy, dx, a, b):
    """dx = dy f'; v is what `elementwise_grad` says. dx is neither, or the loops are not vectorized.

    dy is read whether or not it is passed on: a read that depends on a condition would be a branch for each element.
    """
    zero, one, two = v.dtype.type(0), v.dtype.type(1), v.dtype.type(2)
    count = v.size
    if code == CLAMP:
        for i in range(count):
            d = dy[i]
            dx[i] = d if (v[i] > a) & (v[i] < b) else zero
    elif code == CLIP:
        for i in range(count):
            d = dy[i]
            dx[i] = d if (v[i] >= a) & (v[i] <= b) else zero
    elif code == LEAKY_RELU:
        for i in range(count):
            d = dy[i]
            dx[i] = d if v[i] > zero else a * d
    elif code == ELU:
        for i in range(count):
            u, d = v[i], dy[i]
            dx[i] = d * (b if u > zero else u + a)
    elif code == SIGMOID:
        for i in range(count):
            dx[i] = dy[i] * v[i] * (one - v[i])
    elif code == HARD_SIGMOID:
        for i in range(count):
            d = dy[i] * a
            dx[i] = d if (v[i] > zero) & (v[i] < one) else zero
    elif code == TANH:
        for i in range(count):
            dx[i] = dy[i] * (one - v[i] * v[i])
    elif code == SOFTPLUS:
        for i in range(count):
            dx[i] = dy[i] * transcendental.sigmoid(v[i])
    elif code == SIGN:
        for i in range(count):
            dx[i] = zero
    elif code == ABS:
        for i in range(count):
            u, d = v[i], dy[i]
            d = d if u > zero else -d
            dx[i] = zero if u == zero else d
    elif code == EXP:
        for i in range(count):
            dx[i] = dy[i] * v[i]
    elif code == LOG:
        for i in range(count):
            dx[i] = dy[i] / v[i]
    elif code == SQRT:
        for i in range(count):
            dx[i] = dy[i] / (two * v[i])
    elif code == ERF:
        slope = v.dtype.type(2 / math.sqrt(math.pi))
        for i in range(count):
            dx[i] = dy[i] * slope * transcendental.finite_exp(-v[i] * v[i])
    elif code == HARD_SWISH:
        three = one + two
        for i in range(count):
            u, d = v[i], dy[i]
            slope = u / three + one / two
            slope = zero if u < -three else slope
            dx[i] = d if u > three else d * slope


@serial
def _copy(x, y):
    for i in range(x.size):
        y[i] = x[i]


@kernel
def elementwise_grad(code, v, dy, dx, a, b, tiles):
    """dx = dy f'(x), element by element.

    v is f's output y for CLAMP, LEAKY_RELU, ELU, SIGMOID, HARD_SIGMOID, TANH, EXP and SQRT, and its input x for the
    rest. At a kink the derivative is PyTorch's: 0 for CLAMP at its bounds and ABS at 0, 1 for CLIP at its bounds, a for
    LEAKY_RELU at 0. tiles: where dx is dy or v, TILE elements for each thread, else empty.
    """
    length = TILE if tiles.size else BLOCK
    for index in prange((v.size + BLOCK - 1) // BLOCK):
        block = np.int64(index)
        first = get_thread_id() * TILE
        for start in range(block * BLOCK, min((block + 1) * BLOCK, v.size), length):
            stop = min(start + length, v.size)
            result = part(dx, start, stop)
            through = part(tiles, first, first + stop - start) if tiles.size else result
            _apply_grad(code, part(v, start, stop), part(dy, start, stop), through, a, b)
            if tiles.size:
                _copy(through, result)
