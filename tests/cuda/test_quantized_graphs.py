"""Operators between DequantizeLinear and QuantizeLinear that work on bytes, on a GPU, against NumPy's floats."""

from __future__ import annotations

import numpy as np
from onnx import helper
from quantized_graphs import dequantized, quantized, surrounded

import nbcnn

FIRST, LAST = (0.0625, 90), (0.0317, 21)
RNG = np.random.default_rng(12)


def inputs(shape: tuple[int, ...]) -> np.ndarray:
    return dequantized(RNG.integers(0, 256, shape).astype(np.uint8), *FIRST)


def test_table() -> None:
    network = surrounded([helper.make_node("LeakyRelu", ["x"], ["y"], alpha=0.25)], np.uint8, FIRST, LAST)
    model, x = nbcnn.load(network, device="cuda"), inputs((1, 3, 5, 7))
    assert "LookUp" in [node.op for node in model.plan({"given": x}).nodes]
    wanted = quantized(np.where(x < 0, x / 4, x), *LAST, np.uint8)
    np.testing.assert_array_equal(model.run(None, {"given": x})[0], dequantized(wanted, *LAST))
