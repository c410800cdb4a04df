"""Weights of 16 bits in the order of pairs, however they get there, against that order written out in NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nbcnn.devices import HALVES, find_device
from nbcnn.kernels.cpu.tiling import panel_width
from nbcnn.ops.packing import Packing, dense, matrix

CASES = {
    "3x3": (dense(1, 5, 4, (3, 3), 4), (5, 4, 3, 3)),
    "groups": (dense(2, 36, 2, (1, 2), 4), (72, 2, 1, 2)),
    "wide": (dense(1, 34, 6, (1, 1), 4), (34, 6, 1, 1)),
    "matrix": (matrix(18, 10, False, 4), (10, 18)),
}


def in_pairs(w: np.ndarray, packing: Packing) -> np.ndarray:
    """Element (k, lane) of a panel's tap is at 2 * (k / 2 * width + lane) + k % 2."""
    width = panel_width(packing.channels, 4)
    panels, run = -(-packing.channels // width), packing.run
    found = np.zeros((packing.groups * panels, packing.taps, run // 2, width, 2), w.dtype)
    for group, channel, tap, _, k in np.ndindex(packing.dims):
        place = np.dot((group, channel, tap, 0, k), packing.order)
        found[group * panels + channel // width, tap, k // 2, channel % width, k % 2] = w.reshape(-1)[place]
    return found.reshape(-1)


@pytest.mark.parametrize("way", ["from ONNX order", "from panels"])
@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("case", CASES)
def test_order(case: str, precision: str, way: str) -> None:
    gpu = find_device("cuda", precision=precision)
    pack = gpu.load("pack_weights")
    packing, shape = CASES[case]
    w = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    panels = gpu.view(gpu.allocate(2 * packing.size), HALVES[precision])
    if way == "from ONNX order":
        pack(gpu.put(w.reshape(-1)), panels, packing.dims, packing.order)
    else:
        whole = gpu.view(gpu.allocate(4 * packing.size), np.dtype(np.float32))
        pack(gpu.put(w.reshape(-1)), whole, packing.dims, packing.order)
        narrowed = packing.narrowed(HALVES[precision])
        assert narrowed.size == packing.size
        pack(whole, panels, narrowed.dims, narrowed.order)
    np.testing.assert_array_equal(gpu.read(panels), in_pairs(w, packing).astype(HALVES[precision]).astype(np.float32))


@pytest.mark.parametrize("channels", [4, 34])
@pytest.mark.parametrize("precision", HALVES)
def test_transposed(channels: int, precision: str) -> None:
    gpu = find_device("cuda", precision=precision)
    packing = dense(1, channels, 5, (1, 2), 4)
    turned = packing.transposed()
    w = np.random.default_rng(3).standard_normal((channels, 5, 1, 2)).astype(np.float32)
    whole = gpu.view(gpu.allocate(4 * packing.size), np.dtype(np.float32))
    gpu.load("pack_weights")(gpu.put(w.reshape(-1)), whole, packing.dims, packing.order)
    panels = gpu.view(gpu.allocate(2 * turned.size), HALVES[precision])
    gpu.load("transpose_weights")(whole, panels, packing.dims)
    wanted = in_pairs(w, replace(turned, kept=HALVES[precision]))
    np.testing.assert_array_equal(gpu.read(panels), wanted.astype(HALVES[precision]).astype(np.float32))
