"""Floats to integers and back on a GPU, and work on quantized bytes, as the standard says bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import Case

RNG = np.random.default_rng(7)
KINDS = [np.uint8, np.int8, np.uint16, np.int16]


def numbers(shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    """Numbers among which there are many halves, and some out of range."""
    return (RNG.integers(-700, 700, shape) / 4).astype(dtype)


def rounded(steps: np.ndarray, zero: np.ndarray | int, kind: type) -> np.ndarray:
    info = np.iinfo(kind)
    return np.clip(np.rint(steps) + zero, info.min, info.max).astype(kind)


@pytest.mark.parametrize("shape", [(1,), (2, 3), (7, 19)])
@pytest.mark.parametrize("kind", KINDS)
def test_one_scale(shape: tuple[int, ...], kind: type) -> None:
    x, scale, zero, info = numbers(shape), np.float32(0.5), np.array(3, kind), np.iinfo(kind)
    q = RNG.integers(info.min, info.max + 1, shape).astype(kind)
    (y,) = Case("QuantizeLinear", [x, np.asarray(scale), zero], opset=21, device="cuda").run()
    (z,) = Case("DequantizeLinear", [q, np.asarray(scale), zero], opset=21, device="cuda").run()
    np.testing.assert_array_equal(y, rounded(x / scale, 3, kind))
    np.testing.assert_array_equal(z, (q.astype(np.float32) - 3) * scale)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_scale_for_each_channel(axis: int, dtype: type) -> None:
    x = numbers((3, 5, 7), dtype)
    scale, zero = RNG.uniform(0.1, 1, x.shape[axis]).astype(dtype), RNG.integers(-20, 20, x.shape[axis]).astype(np.int8)
    over = [-1 if i == axis else 1 for i in range(3)]
    q, attrs = RNG.integers(-128, 128, x.shape).astype(np.int8), {"axis": axis}
    (y,) = Case("QuantizeLinear", [x, scale, zero], attrs, opset=19, dtype=dtype, device="cuda").run()
    (z,) = Case("DequantizeLinear", [q, scale, zero], attrs, opset=19, dtype=dtype, device="cuda").run()
    scale, zero = scale.reshape(over), zero.reshape(over)
    np.testing.assert_array_equal(y, rounded(x / scale, zero, np.int8))
    np.testing.assert_array_equal(z, (q - zero.astype(dtype)) * scale)


@pytest.mark.parametrize(("shape", "axis", "block"), [((4, 6), 0, 2), ((4, 6), 1, 3), ((2, 6, 5), 1, 2)])
def test_a_scale_for_each_block(shape: tuple[int, ...], axis: int, block: int) -> None:
    blocks = tuple(-(-n // block) if i == axis else n for i, n in enumerate(shape))
    x, scale = numbers(shape), RNG.uniform(0.1, 1, blocks).astype(np.float32)
    zero, attrs = RNG.integers(0, 4, blocks).astype(np.uint8), {"axis": axis, "block_size": block}
    spread, shift = (np.repeat(a, block, axis) for a in (scale, zero))
    (y,) = Case("QuantizeLinear", [x, scale, zero], attrs, opset=21, device="cuda").run()
    np.testing.assert_array_equal(y, rounded(x / spread, shift, np.uint8))


@pytest.mark.parametrize("shift", [0, 300, -300])
def test_dynamic(shift: int) -> None:
    x = numbers((2, 3, 5, 7)) + np.float32(shift)
    y, scale, zero = Case("DynamicQuantizeLinear", [x], outputs=3, device="cuda").run()
    least, greatest = x.min(initial=0), x.max(initial=0)
    wanted = (greatest - least) / np.float32(255)
    assert scale == wanted and zero == np.rint(np.clip(-least / wanted, 0, 255))
    np.testing.assert_array_equal(y, rounded(x / wanted, np.rint(-least / wanted), np.uint8))


def test_all_zeros_and_numbers_that_are_none() -> None:
    y, scale, zero = Case("DynamicQuantizeLinear", [np.zeros(5, np.float32)], outputs=3, device="cuda").run()
    assert not y.any() and scale == np.float32(1) / np.float32(255) and zero == 0
    x = np.array([np.nan, np.inf, -np.inf, 1e30], np.float32)
    (y,) = Case("QuantizeLinear", [x, np.asarray(np.float32(1)), np.array(5, np.uint8)], device="cuda").run()
    np.testing.assert_array_equal(y, [0, 255, 0, 255])


def call(name: str, *args: Any) -> list[np.ndarray]:
    """Launch a kernel of quantized bytes; its arrays afterwards."""
    from nbcnn.kernels.cuda import quantized
    from nbcnn.kernels.cuda.runtime import download, upload

    there = [upload(a.reshape(-1)) if isinstance(a, np.ndarray) else a for a in args]
    getattr(quantized, name)(*there)
    return [download(a) for a, given in zip(there, args, strict=True) if isinstance(given, np.ndarray)]


def scales(*values: float) -> list[np.ndarray]:
    return [np.array([v], np.float32) for v in values]


def test_sums_of_bytes() -> None:
    """Scales whose quotients are exact in any order."""
    a, b = (RNG.integers(0, 256, 131).astype(np.uint8) for _ in range(2))
    for low, zero in ((-7.0, 7), (0.0, 100)):
        args = a, b, np.zeros_like(a), *scales(0.5, 0.25, 1), (100, 120, zero), low, 255.0 - zero
        wanted = np.clip(np.rint((a - 100.0) * 0.5 + (b - 120.0) * 0.25), low, 255 - zero) + zero
        np.testing.assert_array_equal(call("quantized_add", *args)[2], wanted)


@pytest.mark.parametrize("shape", [(1, 49, 33), (2, 5, 40), (3, 1, 1)], ids=str)
def test_means_of_bytes(shape: tuple[int, int, int]) -> None:
    x = RNG.integers(0, 256, shape).astype(np.uint8)
    y, sums = np.zeros((shape[0], shape[2]), np.uint8), np.zeros((shape[0], shape[2]), np.int32)
    found = call("quantized_mean", x, y, sums, *scales(0.3, 0.2), shape, (100, 7), -7.0, 248.0)[1]
    by = np.float32(0.3) / (np.float32(0.2) * np.float32(shape[1]))
    totals = (x.astype(np.int64) - 100).sum(1).astype(np.float32)
    np.testing.assert_array_equal(found.reshape(y.shape), np.clip(np.rint(totals * by), -7, 248) + 7)


def test_a_table_from_quantization_to_quantization() -> None:
    table = call("requantize_table", *scales(0.3, 0.2), np.zeros(256, np.uint8), (100, 7), 0.0, 248.0)[2]
    x = RNG.integers(0, 256, 131).astype(np.uint8)
    found = call("look_up", x, np.zeros_like(x), table)[1]
    steps = (np.arange(256) - 100).astype(np.float32) * np.float32(0.3) / np.float32(0.2)
    wanted = np.clip(np.rint(steps), 0, 248) + 7
    np.testing.assert_array_equal(table, wanted)
    np.testing.assert_array_equal(found, wanted[x])
