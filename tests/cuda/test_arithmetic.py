"""Operators that broadcast on a GPU against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from harness import Case

from nbcnn.devices import find_device
from nbcnn.kernels import opcodes

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
RNG = np.random.default_rng(1)
DTYPES = [np.float32, np.float64]
TOLERANCE = {np.float32: 3e-6, np.float64: 1e-13}
ORACLE = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Pow": "pow_", "Max": "max_", "Min": "min_"}
SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((5,), (5,)),
    ((2, 3, 4, 17), (2, 3, 4, 17)),
    ((2, 5, 3, 4), (5, 1, 1)),
    ((2, 3, 5, 4), ()),
    ((1,), (2, 3, 1, 5)),
    ((3, 1, 5), (1, 4, 1)),
    ((9, 16), (16,)),
    ((2, 1, 3, 1, 2, 1), (1, 2, 1, 3, 1, 2)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("op", ORACLE)
def test_two_operands(op: str, shapes: tuple[tuple[int, ...], tuple[int, ...]], dtype: Any) -> None:
    a, b = (np.asarray(RNG.standard_normal(shape)) for shape in shapes)
    if op == "Pow":
        a = abs(a) + 0.2
    if op == "Div":
        b = np.sign(b) * (abs(b) + 0.3)
    a, b = np.asarray(a, dtype), np.asarray(b, dtype)
    wanted = getattr(reference, ORACLE[op])(a, b)
    (y,) = Case(op, [a, b], dtype=dtype, device="cuda").run()
    np.testing.assert_allclose(y, wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ORACLE)
def test_gradients(op: str, dtype: Any) -> None:
    """Of operands of one shape: sums over what is repeated are another family's."""
    a, b, dy = RNG.standard_normal((3, 3, 37)).astype(dtype)
    a, b = (abs(a) + dtype(0.2), b) if op == "Pow" else (a, np.sign(b) * (abs(b) + dtype(0.3)))
    name = ORACLE[op].rstrip("_")
    _, grads = Case(op, [a, b], dtype=dtype, device="cuda").run_training([dy], wanted=(0, 1))
    for grad, wanted in zip(grads, getattr(reference, f"{name}_backward")(dy, a, b), strict=True):
        np.testing.assert_allclose(grad, wanted, rtol=3 * TOLERANCE[dtype], atol=3 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_prelu(dtype: Any) -> None:
    x, dy = RNG.standard_normal((2, 2, 5, 3, 4)).astype(dtype)
    slope = RNG.standard_normal((2, 5, 3, 4)).astype(dtype)
    (y,), (dx, ds) = Case("PRelu", [x, slope], dtype=dtype, device="cuda").run_training([dy], wanted=(0, 1))
    np.testing.assert_allclose(y, reference.prelu(x, slope), rtol=1e-6)
    for grad, wanted in zip((dx, ds), reference.prelu_backward(dy, x, slope), strict=True):
        np.testing.assert_allclose(grad, wanted, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ["Max", "Min"])
def test_nan_and_infinity(op: str, dtype: Any) -> None:
    values = np.array([0, 1, -1, np.inf, -np.inf, np.nan], dtype)
    a, b = np.repeat(values, 6), np.tile(values, 6)
    (y,) = Case(op, [a, b], dtype=dtype, device="cuda").run()
    np.testing.assert_array_equal(y, (np.maximum if op == "Max" else np.minimum)(a, b))


@pytest.mark.parametrize("dtype", DTYPES)
def test_mod_of_floats(dtype: Any) -> None:
    a, b = (RNG.standard_normal((2, 61)) * 9).astype(dtype)
    (y,) = Case("Mod", [a, b], {"fmod": 1}, dtype=dtype, device="cuda").run()
    np.testing.assert_allclose(y, np.fmod(a, b), rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("code", [opcodes.SUB + opcodes.REVERSED, opcodes.DIV + opcodes.REVERSED, opcodes.MOD])
def test_codes_that_only_the_kernel_has(code: int, dtype: Any) -> None:
    """And the clamp, which keeps NaN."""
    from nbcnn.kernels.cuda.arithmetic import arithmetic

    gpu = find_device("cuda")
    a, b = (RNG.standard_normal((7, 5)) * 3).astype(dtype), RNG.standard_normal(5).astype(dtype)
    a[1, 1] = np.nan
    rule: Any = {opcodes.MOD: np.mod}.get(code, lambda a, b: b - a if code == opcodes.SUB + opcodes.REVERSED else b / a)
    x, z = gpu.put(a.reshape(-1).copy()), gpu.put(b)
    arithmetic(code, x, z, x, (1, 1, 1, 1, 7, 5), (0, 0, 0, 0, 5, 1), (0, 0, 0, 0, 0, 1), dtype(-1), dtype(1.5))
    np.testing.assert_allclose(gpu.read(x).reshape(7, 5), rule(a, b).clip(-1, 1.5), rtol=1e-5)
