"""Dropout on a GPU: the numbers are the generator's, whose authors' test vectors hold the CPU's to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import Case

from nbcnn.devices import find_device
from nbcnn.kernels.cpu.dropout import philox


def words(size: int, seed: int, step: int, stream: int) -> np.ndarray:
    """The generator's, one for each element, by its plain Python form."""
    found: list[int] = []
    for place in range(-(-size // 4)):
        counter = place, 0, step & 0xFFFFFFFF, step >> 32
        found += map(int, philox.py_func(*map(np.uint64, (*counter, seed & 0xFFFFFFFF, (seed >> 32) ^ stream))))
    return np.array(found[:size], np.uint64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 2, 7, 64, 531])
def test_bits(size: int, dtype: Any) -> None:
    from nbcnn.kernels.cuda.dropout import dropout

    gpu = find_device("cuda")
    seed, step, stream = 2**33 + 5, 2**34 + 7, 0xDEADBEEF
    random = words(size, seed, step, stream)
    threshold = int(random[size // 2])  # that element is kept, and dropped when it is one higher
    state, x = gpu.put(np.array([seed, step])), gpu.put(np.arange(1, size + 1).astype(dtype))
    for least in (threshold, threshold + 1):
        y, mask = gpu.put(np.zeros(size, dtype)), gpu.put(np.zeros(size, np.bool_))
        dropout(x, y, mask, state, stream, least, dtype(2))
        np.testing.assert_array_equal(gpu.read(mask), random >= least)
        np.testing.assert_array_equal(gpu.read(y), 2 * np.arange(1, size + 1) * (random >= least))
    dropout(x, x, gpu.put(np.zeros(0, np.bool_)), state, stream, threshold, dtype(1))  # in place, without a mask
    np.testing.assert_array_equal(gpu.read(x), np.arange(1, size + 1) * (random >= threshold))


def test_gradient_has_the_same_mask() -> None:
    x = np.random.default_rng(6).standard_normal((3, 5, 41)).astype(np.float32)
    dy = np.random.default_rng(7).standard_normal(x.shape).astype(np.float32)
    case = Case("Dropout", [x, np.float32(0.25)], weights=(1,), outputs=2, device="cuda")
    (y, mask), (dx,) = case.run_training([dy])
    assert 0.6 < mask.mean() < 0.9
    np.testing.assert_allclose(y, x * mask / np.float32(0.75), rtol=1e-6)
    np.testing.assert_allclose(dx, dy * mask / np.float32(0.75), rtol=1e-6)
