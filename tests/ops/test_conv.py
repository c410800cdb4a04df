"""Conv and its gradients, every algorithm, against the float64 oracle and between guard bands."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from guards import run_guarded
from harness import Case

RNG = np.random.default_rng(0)
FLOAT32, FLOAT64 = 2e-5, 1e-11

# name, x shape, w shape, attributes
CASES = {
    "odd": ((2, 17, 9, 7), (33, 17, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "one pixel": ((1, 5, 1, 1), (3, 5, 1, 1), {}),
    "one channel": ((3, 1, 13, 12), (6, 1, 5, 5), {"pads": [2, 2, 2, 2]}),
    "three channels, stride": ((2, 3, 11, 15), (20, 3, 7, 7), {"strides": [2, 2], "pads": [3, 3, 3, 3]}),
    "uneven pads": ((1, 4, 6, 9), (5, 4, 2, 3), {"pads": [0, 2, 1, 1]}),
    "1x1, rows a page apart": ((1, 1024, 5, 6), (70, 1024, 1, 1), {}),
    "1x1 stride, rows a page apart": ((1, 512, 7, 7), (64, 512, 1, 1), {"strides": [2, 2], "pads": [1, 1, 0, 0]}),
    "1x1": ((3, 33, 5, 4), (65, 33, 1, 1), {}),
    "1x1 stride": ((2, 17, 9, 8), (33, 17, 1, 1), {"strides": [2, 2]}),
    "dilated": ((2, 9, 12, 11), (10, 9, 3, 3), {"dilations": [2, 3], "pads": [2, 3, 2, 3]}),
    "stride over kernel": ((1, 5, 11, 11), (7, 5, 2, 2), {"strides": [3, 3]}),
    "pads beyond the picture": ((1, 2, 2, 2), (3, 2, 3, 3), {"pads": [3, 3, 3, 3]}),
    "groups": ((2, 12, 7, 7), (20, 3, 3, 3), {"group": 4, "pads": [1, 1, 1, 1]}),
    "groups of one, two filters each": ((1, 6, 6, 5), (12, 1, 3, 3), {"group": 6}),
    "1x1, half a panel": ((1, 20, 11, 9), (16, 20, 1, 1), {}),
    "1x1, less than half a panel": ((2, 9, 5, 7), (7, 9, 1, 1), {}),
    "1x1, a panel and a half": ((1, 33, 8, 7), (48, 33, 1, 1), {}),
    "1x1, three quarters of a panel": ((1, 40, 14, 13), (24, 40, 1, 1), {}),
    "1x1, less than three quarters": ((1, 17, 9, 6), (85, 17, 1, 1), {}),
    "1x1, narrow and deep": ((1, 1100, 3, 3), (23, 1100, 1, 1), {}),
    "1x1, narrow, rows a page apart": ((1, 1024, 3, 3), (20, 1024, 1, 1), {}),
    "depthwise": ((2, 17, 9, 9), (17, 1, 3, 3), {"group": 17, "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "depthwise wide": ((1, 65, 6, 6), (65, 1, 5, 5), {"group": 65, "pads": [2, 2, 2, 2]}),
    "depthwise 3x3": ((2, 35, 6, 5), (35, 1, 3, 3), {"group": 35, "pads": [1, 1, 1, 1]}),
    "depthwise 3x3, whole tiles": ((1, 32, 23, 8), (32, 1, 3, 3), {"group": 32, "pads": [1, 1, 1, 1]}),
    "depthwise 3x3, strided": ((1, 34, 41, 14), (34, 1, 3, 3), {"group": 34, "strides": [2, 2], "pads": [0, 0, 1, 1]}),
    "depthwise 3x3, odd pads": ((1, 16, 3, 4), (16, 1, 3, 3), {"group": 16, "pads": [2, 3, 0, 3]}),
    "depthwise 3x3, one column": ((3, 16, 9, 1), (16, 1, 3, 3), {"group": 16, "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "depthwise 3x3, two strides": (
        (1, 16, 9, 9),
        (16, 1, 3, 3),
        {"group": 16, "strides": [1, 2], "pads": [1, 1, 1, 1]},
    ),
    "depthwise lines": ((2, 5, 16), (5, 1, 4), {"group": 5, "pads": [1, 2], "strides": [3]}),
    "depthwise volume": ((1, 18, 4, 3, 8), (18, 1, 3, 2, 3), {"group": 18, "pads": [1, 0, 1, 1, 1, 1]}),
    "depthwise dilated": ((1, 3, 9, 9), (3, 1, 3, 3), {"group": 3, "dilations": [2, 2]}),
    "deep": ((1, 600, 3, 3), (40, 600, 3, 3), {"pads": [1, 1, 1, 1]}),
    "same upper": ((1, 3, 10, 7), (8, 3, 4, 4), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same lower": ((1, 9, 10, 7), (8, 9, 4, 4), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    "1-D": ((2, 5, 20), (7, 5, 3), {"dilations": [2], "pads": [1, 1]}),
    "1-D one channel": ((1, 1, 7), (1, 1, 3), {}),
    "3-D": ((1, 9, 5, 6, 7), (10, 9, 3, 2, 3), {"strides": [2, 1, 2], "pads": [1, 0, 1, 1, 1, 1]}),
    "3-D few channels": ((2, 2, 5, 6, 7), (10, 2, 2, 3, 3), {"pads": [0, 1, 1, 0, 1, 1]}),
    "larger than a block": ((2, 16, 20, 19), (36, 16, 3, 3), {"pads": [1, 1, 1, 1]}),
}


def arrays(name: str, dtype: type) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict]:
    x_shape, w_shape, attrs = CASES[name]
    x = RNG.standard_normal(x_shape).astype(dtype)
    w = (RNG.standard_normal(w_shape) / np.sqrt(np.prod(w_shape[1:]))).astype(dtype)
    return x, w, RNG.standard_normal(w_shape[0]).astype(dtype), attrs


def tolerance(dtype: type, want: np.ndarray) -> float:
    return (FLOAT32 if dtype is np.float32 else FLOAT64) * max(1.0, float(np.abs(want).max()))


def assert_close(got: np.ndarray, want: np.ndarray, dtype: type) -> None:
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance(dtype, want))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_forward_and_gradients(name: str, dtype: type) -> None:
    x, w, bias, attrs = arrays(name, dtype)
    want = reference.conv(x, w, bias, **attrs)
    (y,) = Case("Conv", [x, w, bias], attrs, weights=(1, 2), dtype=dtype).run()
    assert_close(y, want, dtype)
    dy = RNG.standard_normal(want.shape).astype(dtype)
    (y,), grads = Case("Conv", [x, w, bias], attrs, weights=(1, 2), dtype=dtype).run_training([dy], (0, 1, 2))
    assert_close(y, want, dtype)
    for got, expected in zip(grads, reference.conv_backward(dy, x, w, **attrs), strict=True):
        assert_close(got, expected, dtype)


@pytest.mark.parametrize("name", CASES)
def test_nothing_outside_the_arrays_is_touched(name: str) -> None:
    x, w, bias, attrs = arrays(name, np.float32)
    case = Case("Conv", [x, w, bias], attrs, weights=(1, 2))
    plan = case.training_plan([RNG.standard_normal(reference.conv(x, w, bias, **attrs).shape)], (0, 1, 2))
    found = run_guarded(plan)
    case.execute(plan)
    for name_, array in found.items():
        np.testing.assert_array_equal(array, plan.array(name_))


def test_results_do_not_depend_on_threads() -> None:
    import nbcnn

    x, w, bias, attrs = arrays("larger than a block", np.float32)
    case = Case("Conv", [x, w, bias], attrs, weights=(1, 2))
    dy = RNG.standard_normal(reference.conv(x, w, bias, **attrs).shape).astype(np.float32)
    found = []
    for threads in (1, 2):
        nbcnn.set_num_threads(threads)
        (y,), grads = case.run_training([dy], (0, 1, 2))
        found.append([y, *grads])
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)
