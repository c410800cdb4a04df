"""Operators between DequantizeLinear and QuantizeLinear that work on bytes, on a GPU, against NumPy's floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from harness import Case
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


WINDOWS: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((1, 5, 6, 7), {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}),
    ((2, 8, 4, 5), {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    ((1, 3, 9), {"kernel_shape": [3], "dilations": [2], "pads": [2, 1]}),
    ((1, 2, 3, 2, 4), {"kernel_shape": [2, 2, 2], "pads": [0, 0, 0, 1, 1, 0]}),
]


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize(("shape", "attrs"), WINDOWS)
def test_pools(shape: tuple[int, ...], attrs: dict[str, Any], op: str) -> None:
    x, ranks = inputs(shape), (len(shape), len(shape))
    network = surrounded([helper.make_node(op, ["x"], ["y"], **attrs)], np.uint8, FIRST, LAST, ranks=ranks)
    model = nbcnn.load(network, device="cuda")
    assert [node.op for node in model.plan({"given": x}).nodes].count("DequantizeLinear") == 1
    floats = (reference.max_pool if op == "MaxPool" else reference.average_pool)(x.astype(np.float64), **attrs)
    wanted = dequantized(quantized(floats, *LAST, np.uint8), *LAST)
    found = model.run(None, {"given": x})[0]
    assert np.abs(found - wanted).max() <= LAST[0] * 1.01
    assert (found == wanted).mean() > (0.9 if op == "AveragePool" else 0.999)


def test_signed_bytes_alone() -> None:
    x = RNG.integers(-128, 128, (1, 5, 4, 4)).astype(np.int8)
    (y,) = Case("MaxPool", [x], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, device="cuda").run()
    wanted = reference.max_pool(x.astype(np.float64), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    np.testing.assert_array_equal(y, wanted)
