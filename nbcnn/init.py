"""Initial values of weights.

Every function takes a shape in ONNX order and a seed (or a np.random.Generator, which it moves on), and returns a
float32 array. A weight of shape (M, C/group, k...) feeds each output from fan_in = C/group * k... inputs and each input
into fan_out = M * k... outputs; a fully connected weight is (out, in), as Gemm has it with transB=1.

    glorot_uniform, glorot_normal   variance 2 / (fan_in + fan_out): X. Glorot, Y. Bengio, Understanding the difficulty
                                    of training deep feedforward neural networks, AISTATS 2010, equation 12
    he_uniform, he_normal           variance 2 / fan_in: K. He et al., Delving deep into rectifiers, ICCV 2015,
                                    equation 10
    uniform_fan_in                  uniform between -1/sqrt(n) and 1/sqrt(n), n = fan_in: variance 1 / (3 fan_in)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod, sqrt

import numpy as np

from nbcnn.errors import InputError

__all__ = [
    "INITIALIZERS",
    "Initializer",
    "Seed",
    "fans",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "initializer",
    "ones",
    "uniform_fan_in",
    "zeros",
]

Seed = int | np.random.Generator
Initializer = Callable[[Sequence[int], Seed], np.ndarray]
"""(shape, seed) -> float32 array."""


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight; raises InputError below two dimensions, where neither has a meaning."""
    if len(shape) < 2:
        raise InputError(f"a weight of shape {tuple(shape)} has no fan-in: two dimensions or more are needed")
    window = prod(shape[2:])
    return shape[1] * window, shape[0] * window


def uniform(shape: Sequence[int], seed: Seed, bound: float) -> np.ndarray:
    """Uniform in [-bound, bound)."""
    array = np.random.default_rng(seed).random(tuple(shape), dtype=np.float32)
    array -= np.float32(0.5)
    array *= np.float32(2 * bound)
    return array


def normal(shape: Sequence[int], seed: Seed, deviation: float) -> np.ndarray:
    array = np.random.default_rng(seed).standard_normal(tuple(shape), dtype=np.float32)
    array *= np.float32(deviation)
    return array


def glorot_uniform(shape: Sequence[int], seed: Seed = 0) -> np.ndarray:
    """Uniform within sqrt(6 / (fan_in + fan_out))."""
    return uniform(shape, seed, sqrt(6 / sum(fans(shape))))


def glorot_normal(shape: Sequence[int], seed: Seed = 0) -> np.ndarray:
    """Normal with standard deviation sqrt(2 / (fan_in + fan_out))."""
    return normal(shape, seed, sqrt(2 / sum(fans(shape))))


def he_uniform(shape: Sequence[int], seed: Seed = 0) -> np.ndarray:
    """Uniform within sqrt(6 / fan_in)."""
    return uniform(shape, seed, sqrt(6 / fans(shape)[0]))


def he_normal(shape: Sequence[int], seed: Seed = 0) -> np.ndarray:
    """Normal with standard deviation sqrt(2 / fan_in)."""
    return normal(shape, seed, sqrt(2 / fans(shape)[0]))


def uniform_fan_in(shape: Sequence[int], seed: Seed = 0) -> np.ndarray:
    """Uniform within 1 / sqrt(fan_in)."""
    return uniform(shape, seed, 1 / sqrt(fans(shape)[0]))


def zeros(shape: Sequence[int], seed: Seed = 0) -> np.ndarray:
    """Zeros; the seed plays no part."""
    return np.zeros(tuple(shape), np.float32)


def ones(shape: Sequence[int], seed: Seed = 0) -> np.ndarray:
    """Ones; the seed plays no part."""
    return np.ones(tuple(shape), np.float32)


INITIALIZERS: dict[str, Initializer] = {
    f.__name__: f for f in (glorot_uniform, glorot_normal, he_uniform, he_normal, uniform_fan_in, zeros, ones)
}


def initializer(init: str | Initializer) -> Initializer:
    """The initializer of a name (or the function itself); raises InputError for a name that is none."""
    if callable(init):
        return init
    if init not in INITIALIZERS:
        raise InputError(f"no initialization is called {init!r}: use one of {', '.join(INITIALIZERS)}")
    return INITIALIZERS[init]
