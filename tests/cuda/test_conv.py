"""Convolutions and Gemm on a GPU, their gradients, and the packing of weights, against the float64 oracle."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from harness import Case

from nbcnn.kernels.cpu.tiling import panel_width
from nbcnn.kernels.cuda import pack, runtime

# (input shape, weights' shape, attributes)
SHAPES = {
    "3x3": ((1, 3, 5, 4), (5, 3, 3, 3), {"pads": [1, 1, 1, 1]}),
    "strided": ((2, 9, 5, 5), (4, 9, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "dilated, uneven pads": ((1, 10, 6, 5), (3, 10, 3, 2), {"dilations": [2, 1], "pads": [2, 0, 1, 1]}),
    "groups": ((2, 8, 4, 4), (6, 4, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    "pointwise": ((2, 5, 3, 3), (7, 5, 1, 1), {}),
    "pointwise, strided": ((1, 9, 4, 5), (3, 9, 1, 1), {"strides": [2, 3]}),
    "many channels": ((1, 17, 2, 2), (33, 17, 2, 2), {}),
    "one pixel": ((1, 20, 1, 1), (34, 20, 1, 1), {}),
    "1-D": ((2, 3, 9), (4, 3, 4), {"strides": [3], "pads": [2, 1]}),
    "3-D": ((1, 9, 3, 3, 3), (2, 9, 2, 2, 2), {"strides": [1, 2, 1], "pads": [1, 0, 0, 0, 1, 1]}),
    "taps that miss": ((1, 9, 1, 1), (2, 9, 3, 3), {"pads": [1, 1, 1, 1]}),
}


TOLERANCES = {np.float32: 1e-4, np.float64: 1e-10}


def tensor(seed: int, *shape: int, dtype: type = np.float64) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def agree(got: np.ndarray, want: np.ndarray, dtype: type) -> None:
    np.testing.assert_allclose(got, want, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", SHAPES)
def test_conv_and_its_gradient_by_the_input(name: str, dtype: type) -> None:
    shape, weights, attrs = SHAPES[name]
    x, w, bias = (tensor(seed, *s, dtype=dtype) for seed, s in enumerate((shape, weights, weights[:1])))
    y = reference.conv(x, w, bias, **attrs)
    dy = tensor(3, *y.shape, dtype=dtype)
    case = Case("Conv", [x, w, bias], attrs, weights=(1, 2), dtype=dtype, device="cuda")
    (got,), (dx,) = case.run_training([dy], wanted=(0,))
    agree(got, y, dtype)
    agree(dx, reference.conv_backward(dy, x, w, **attrs)[0], dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 9, 3, 3)], ids=["few channels", "more"])
def test_weights_that_are_fed_are_packed_and_their_gradient_unpacked(shape: tuple[int, ...], dtype: type) -> None:
    x, w = tensor(0, *shape, dtype=dtype), tensor(1, 5, shape[1], 2, 3, dtype=dtype)
    y = reference.conv(x, w)
    dy = tensor(2, *y.shape, dtype=dtype)
    (got,), grads = Case("Conv", [x, w], dtype=dtype, device="cuda").run_training([dy], wanted=(0, 1))
    agree(got, y, dtype)
    for grad, want in zip(grads, reference.conv_backward(dy, x, w), strict=False):
        agree(grad, want, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("rows", [1, 3])
def test_gemm_and_its_gradients(rows: int, transposed: bool, dtype: type) -> None:
    """One row is a product of its own."""
    a, b, c = tensor(0, rows, 21, dtype=dtype), tensor(1, 21, 40, dtype=dtype), tensor(2, 40, dtype=dtype)
    dy = tensor(3, rows, 40, dtype=dtype)
    inputs: list[np.ndarray | None] = [a, np.ascontiguousarray(b.T) if transposed else b, c]
    case = Case("Gemm", inputs, {"transB": int(transposed)}, weights=(1, 2), dtype=dtype, device="cuda")
    (y,), (da,) = case.run_training([dy], wanted=(0,))
    agree(y, a @ b + c, dtype)
    agree(da, dy @ b.T, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("groups", "channels", "depth"), [(2, 5, 3), (1, 40, 33), (1, 17, 50)])
def test_panels_change_sides(groups: int, channels: int, depth: int, dtype: type) -> None:
    """Panels (group, panel, tap, input channel, lane), and those where input and output channels have changed places;
    what fills the last panel up is zero.
    """
    width, new_width = (panel_width(n, np.dtype(dtype).itemsize) for n in (channels, depth))
    panels, new_panels = -(-channels // width), -(-depth // new_width)
    w = np.zeros((groups, 2, new_panels * new_width, panels * width), dtype)
    w[:, :, :depth, :channels] = tensor(0, groups, 2, depth, channels, dtype=dtype)
    packed = w[:, :, :depth].reshape(groups, 2, depth, panels, width).transpose(0, 3, 1, 2, 4)
    want = w[..., :channels].reshape(groups, 2, new_panels, new_width, channels).transpose(0, 2, 1, 4, 3)
    out = runtime.upload(np.full(want.size, np.nan, dtype))
    pack.transpose_weights(runtime.upload(packed.reshape(-1).copy()), out, (groups, channels, 2, 1, depth))
    np.testing.assert_array_equal(runtime.download(out), want.reshape(-1))
