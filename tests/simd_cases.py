"""Convolutions and matrix products of odd shapes against the oracle, at the SIMD width that $NBCNN_SIMD asks for.

A process runs one width, so test_simd_widths.py runs this file as a program: simd_cases.py float32, or float64 too,
whose kernels are compiled apart. It prints the width and the cases.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import reference
from guards import run_guarded
from harness import Case
from mobile import BLOCKS, BlockCase

from nbcnn.kernels.cpu.width import WIDTH_BYTES
from nbcnn.passes import blocks, lanes

# x shape, w shape, attributes, element type
CONVOLUTIONS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any], type]] = {
    "odd, strided": ((2, 17, 9, 7), (33, 17, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}, np.float32),
    "rows a page apart": ((1, 512, 7, 5), (70, 512, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}, np.float32),
    "one pixel": ((1, 5, 1, 1), (3, 5, 1, 1), {}, np.float32),
    "three channels": ((1, 3, 8, 11), (20, 3, 5, 5), {"pads": [2, 2, 2, 2]}, np.float32),
    "one channel": ((3, 1, 9, 9), (6, 1, 5, 5), {}, np.float32),
    "winograd's": ((1, 33, 10, 13), (35, 33, 3, 3), {"pads": [1, 1, 1, 1]}, np.float32),
    "groups": ((1, 10, 6, 6), (15, 2, 3, 3), {"group": 5}, np.float32),
    "depthwise": ((2, 17, 7, 6), (17, 1, 3, 3), {"group": 17, "pads": [1, 1, 1, 1]}, np.float32),
    "depthwise, whole tiles": ((1, 32, 3, 14), (32, 1, 3, 3), {"group": 32, "pads": [1, 1, 1, 1]}, np.float32),
    "depthwise, stride 2": (
        (1, 33, 9, 8),
        (33, 1, 3, 3),
        {"group": 33, "strides": [2, 2], "pads": [1, 1, 1, 1]},
        np.float32,
    ),
    "depthwise, 5x5": ((1, 33, 7, 7), (33, 1, 5, 5), {"group": 33, "strides": [2, 2]}, np.float32),
    "a lane for each picture": ((31, 5, 6, 7), (11, 5, 3, 3), {"pads": [1, 1, 1, 1]}, np.float32),
    "double": ((2, 5, 6, 7), (17, 5, 3, 3), {"pads": [1, 0, 1, 1]}, np.float64),
}
# rows, inner, columns, element type
PRODUCTS: dict[str, tuple[int, int, int, type]] = {
    "one": (1, 1, 1, np.float32),
    "one row": (1, 33, 17, np.float32),
    "odd": (5, 17, 67, np.float32),
    "long": (130, 257, 35, np.float32),
    "whole tiles": (84, 40, 64, np.float32),
    "rows a page apart": (15, 2048, 40, np.float32),
    "deep": (5, 1030, 20, np.float32),
    "double": (5, 17, 33, np.float64),
}


def assert_close(name: str, got: np.ndarray, want: np.ndarray, dtype: type) -> None:
    assert got.shape == want.shape, name
    tolerance = (2e-5 if dtype is np.float32 else 1e-11) * max(1.0, float(np.abs(want).max()))
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance, err_msg=name)


def check(name: str, case: Case, dy: np.ndarray, want: np.ndarray, grads: Any) -> None:
    """The output at inference, output and gradients while training, and all of it again between guard bands."""
    dtype = case.dtype
    assert_close(name, case.run()[0], want, dtype)
    (y,), found = case.run_training([dy], (0, 1, 2))
    for got, expected in zip((y, *found), (want, *grads), strict=True):
        assert_close(name, got, expected, dtype)
    plan = case.training_plan([dy], (0, 1, 2))
    guarded = run_guarded(plan)
    case.execute(plan)
    for value, array in guarded.items():
        np.testing.assert_array_equal(array, plan.array(value), err_msg=f"{name} in guard bands")


def check_block(name: str, case: BlockCase) -> None:
    """A block of MobileNet, and all of it again between guard bands."""
    assert_close(name, case.run()[0], case.want(), case.dtype)
    plan = case.plan()
    case.execute(plan)
    for value, array in run_guarded(plan).items():
        np.testing.assert_array_equal(array, plan.array(value), err_msg=f"{name} in guard bands")


def main() -> None:
    lanes._leaves_lanes = lambda node, graph: True  # narrow registers would be filled by output channels
    lanes.LEAST_WORK = 0
    blocks.CACHE = 0
    rng = np.random.default_rng(0)
    asked, done = sys.argv[1:], 0
    for name, (x_shape, w_shape, attrs, dtype) in CONVOLUTIONS.items():
        if dtype.__name__ not in asked:
            continue
        x, w = rng.standard_normal(x_shape).astype(dtype), (rng.standard_normal(w_shape) / 3).astype(dtype)
        bias = rng.standard_normal(w_shape[0]).astype(dtype)
        want = reference.conv(x, w, bias, **attrs)
        dy = rng.standard_normal(want.shape).astype(dtype)
        case = Case("Conv", [x, w, bias], attrs, weights=(1, 2), dtype=dtype)
        check(f"convolution, {name}", case, dy, want, reference.conv_backward(dy, x, w, **attrs))
        done += 1
    for name, (m, k, n, dtype) in PRODUCTS.items():
        if dtype.__name__ not in asked:
            continue
        a, w = rng.standard_normal((m, k)).astype(dtype), (rng.standard_normal((n, k)) / 3).astype(dtype)
        bias, dy = rng.standard_normal(n).astype(dtype), rng.standard_normal((m, n)).astype(dtype)
        case = Case("Gemm", [a, w, bias], {"transB": 1}, weights=(1, 2), dtype=dtype)
        wide, da, dw = (array.astype(np.float64) for array in (dy, a, w))
        check(f"product, {name}", case, dy, da @ dw.T + bias, (wide @ dw, wide.T @ da, wide.sum(0)))
        done += 1
    for name, shape in BLOCKS.items():
        if "float32" in asked:
            check_block(name, BlockCase(shape))
            done += 1
    print(WIDTH_BYTES * 8, done)


if __name__ == "__main__":
    main()
