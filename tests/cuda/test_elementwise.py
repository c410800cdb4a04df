"""Element-wise operators, chains and gradients on a GPU against the oracle; PyTorch where that has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reference
import torch
from harness import Case
from torch.nn import functional

from nbcnn.devices import find_device
from nbcnn.kernels import opcodes

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the simulator computes infinities with NumPy
RNG = np.random.default_rng(0)
TOLERANCE = {np.float32: 4e-6, np.float64: 1e-13}
DTYPES = [np.float32, np.float64]
SHAPE = (2, 3, 5, 11)
UNARY: list[tuple[str, str, dict[str, Any]]] = [
    ("Relu", "relu", {}),
    ("LeakyRelu", "leaky_relu", {"alpha": 0.3}),
    ("Elu", "elu", {"alpha": 0.7}),
    ("Selu", "selu", {}),
    ("Sigmoid", "sigmoid", {}),
    ("HardSigmoid", "hard_sigmoid", {"alpha": 0.25, "beta": 0.4}),
    ("Tanh", "tanh", {}),
    ("Softplus", "softplus", {}),
    ("Softsign", "softsign", {}),
    ("Sign", "sign", {}),
    ("Abs", "abs_", {}),
    ("Neg", "neg", {}),
    ("Exp", "exp", {}),
    ("Erf", "erf", {}),
    ("Log", "log", {}),
    ("Sqrt", "sqrt", {}),
]
Torch = Callable[[torch.Tensor], torch.Tensor]
CHAINS: list[tuple[str, dict[str, Any], Torch]] = [
    ("Gelu", {}, functional.gelu),
    ("Gelu", {"approximate": "tanh"}, lambda x: functional.gelu(x, approximate="tanh")),
    ("Mish", {}, functional.mish),
    ("Swish", {"alpha": 1.0}, functional.silu),
    ("HardSwish", {}, functional.hardswish),
    ("Celu", {"alpha": 1.0}, functional.celu),
    ("Shrink", {"lambd": 0.5, "bias": 0.5}, functional.softshrink),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("op", "name", "attrs"), UNARY)
def test_forward_and_backward(op: str, name: str, attrs: dict[str, Any], dtype: Any) -> None:
    x, dy = (RNG.standard_normal((2, *SHAPE)) * 3).astype(dtype)
    if op in ("Log", "Sqrt"):
        x = abs(x) + dtype(0.1)
    near: dict[str, Any] = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    (y,), (dx,) = Case(op, [x], attrs, dtype=dtype, device="cuda").run_training([dy])
    np.testing.assert_allclose(y, getattr(reference, name)(x, **attrs), **near)
    np.testing.assert_allclose(dx, getattr(reference, f"{name.rstrip('_')}_backward")(dy, x, **attrs), **near)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("op", "attrs", "function"), CHAINS)
def test_chains(op: str, attrs: dict[str, Any], function: Torch, dtype: Any) -> None:
    """Programs of several steps, with slots; their gradients read two tensors."""
    x, dy = (RNG.standard_normal((2, *SHAPE)) * 3).astype(dtype)
    tensor = torch.tensor(x.astype(np.float64), requires_grad=True)
    wanted = function(tensor)
    wanted.backward(torch.tensor(dy.astype(np.float64)))
    assert tensor.grad is not None
    near: dict[str, Any] = {"rtol": 2 * TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    (y,), (dx,) = Case(op, [x], attrs, dtype=dtype, opset=24, device="cuda").run_training([dy])
    np.testing.assert_allclose(y, wanted.detach().numpy(), **near)
    np.testing.assert_allclose(dx, tensor.grad.numpy(), **near)


@pytest.mark.parametrize(
    ("op", "function"), [("Floor", np.floor), ("Ceil", np.ceil), ("Round", np.rint), ("Clip", lambda x: x.clip(-1, 2))]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_steps_and_bounds(op: str, function: Callable[..., Any], dtype: Any) -> None:
    x = np.append(np.arange(-12, 12) / 4, [-0.0, 0.5 - 2**-25, 2.0**40, -(2.0**40), np.inf, -np.inf, np.nan])
    bounds = [np.array(-1, dtype), np.array(2, dtype)] if op == "Clip" else []
    (y,) = Case(op, [x.astype(dtype), *bounds], weights=(1, 2), dtype=dtype, device="cuda").run()
    np.testing.assert_array_equal(y, function(x.astype(dtype)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("op", "name", "attrs"), UNARY)
def test_special_values(op: str, name: str, attrs: dict[str, Any], dtype: Any) -> None:
    """NaN stays NaN; infinities and huge numbers give what the limit is."""
    x = np.array([np.nan, np.inf, -np.inf, 0, 1, -1, 90, -90, 800, -800, 1e-30, -1e-5], dtype)
    if op == "Softsign":  # infinity over infinity, by its formula
        x = x[3:]
    wanted = getattr(reference, name)(x, **attrs).astype(dtype)
    (y,) = Case(op, [x], attrs, dtype=dtype, device="cuda").run()
    np.testing.assert_allclose(y, wanted, rtol=3e-6, atol=1e-37)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gelu_far_out(dtype: Any) -> None:
    x = np.array([-np.inf, -200, -30, -10, -3, 30, np.inf, np.nan], dtype)
    for attrs in ({}, {"approximate": "tanh"}):
        (y,) = Case("Gelu", [x], attrs, opset=20, dtype=dtype, device="cuda").run()
        tensor = torch.tensor(x.astype(np.float64))
        wanted = functional.gelu(tensor, approximate=attrs.get("approximate", "none")).numpy()
        wanted[0] = 0  # the limit; PyTorch multiplies infinity by zero
        np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("slots", [1, 5, 40])
@pytest.mark.parametrize("size", [1, 3, 270])
def test_any_number_of_slots_and_elements(size: int, slots: int, dtype: Any) -> None:
    """Sums of x + 1, x + 2, ...: all of them are kept before the first is read. y takes the memory of x."""
    from nbcnn.kernels.cuda.elementwise import elementwise

    first = opcodes.SLOT
    steps = [(opcodes.AFFINE, opcodes.X, 0, first + k) for k in range(slots)]
    steps += [(opcodes.PAIR + opcodes.ADD, first, first + k, first) for k in range(1, slots)]
    steps.append((opcodes.PAIR + opcodes.MUL, first, opcodes.Z, opcodes.Y))
    constants = np.zeros((len(steps), 2))
    constants[:slots] = [(1, k + 1) for k in range(slots)]
    gpu = find_device("cuda")
    x, z = RNG.integers(-9, 9, (2, size)).astype(dtype)
    program, numbers, y, other = (
        gpu.put(a) for a in (np.array(steps).reshape(-1), constants.reshape(-1).astype(dtype), x.copy(), z)
    )
    elementwise(program, numbers, y, other, y, gpu.put(np.zeros(slots * opcodes.TILE, dtype)))
    np.testing.assert_allclose(gpu.read(y), (slots * x + slots * (slots + 1) / 2) * z, rtol=1e-6)


@pytest.mark.parametrize("offset", [0, 1, 2])
@pytest.mark.parametrize("size", [1, 4, 9, 263])
def test_views_that_are_not_aligned(size: int, offset: int) -> None:
    """A user's array may begin anywhere."""
    from nbcnn.kernels.cuda.elementwise import elementwise_grad

    gpu = find_device("cuda")
    memory = RNG.standard_normal(size + 8).astype(np.float32)
    v, dy, dx = (gpu.put(memory.copy()) for _ in range(3))
    a, b = np.float32(-0.5), np.float32(0.5)
    elementwise_grad(opcodes.CLIP, v[offset : offset + size], dy[:size], dx[offset : offset + size], a, b, dx[:0])
    wanted = memory.copy()
    kept = abs(memory[offset : offset + size]) <= 0.5
    wanted[offset : offset + size] = np.where(kept, memory[:size], 0)
    np.testing.assert_array_equal(gpu.read(dx), wanted)
