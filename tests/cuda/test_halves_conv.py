"""Products of arrays that are kept in 16 bits, as plans call them: packing, gathers, a single row, depthwise.

Compared with the float64 oracle on inputs that are rounded the same; y may be as far off as its own rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from halves import EPSILON, give, rounded, take

from nbcnn.kernels.cpu.tiling import lanes, panel_width
from nbcnn.kernels.cuda import conv, pack, pointwise, vector
from nbcnn.kernels.cuda.depthwise import depthwise_gather
from nbcnn.ops.gather import window_taps
from nbcnn.ops.packing import Packing, dense, matrix
from nbcnn.ops.packing import depthwise as of_channels

RNG = np.random.default_rng(3)
BOUNDS = np.float32(-2), np.float32(3)
KINDS = ["float16", "bfloat16"]
NONE = np.empty(0, np.float32)
Kinds = tuple[str | None, str | None, str | None]


def normal(*shape: int, kind: str | None) -> np.ndarray:
    """Random numbers that a kind holds."""
    return rounded(RNG.standard_normal(shape).astype(np.float32), kind)


def agree(got: np.ndarray, want: np.ndarray, kind: str | None) -> None:
    want = np.clip(want, *BOUNDS)
    np.testing.assert_allclose(got.reshape(want.shape), want, rtol=1.01 * EPSILON[kind], atol=3e-5)


def packed(w: np.ndarray, packing: Packing, kind: str) -> Any:
    out = give(np.full(packing.size, np.nan, np.float32), kind)
    pack.pack_weights(give(w, None), out, packing.dims, packing.order)
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_packed_in_pairs(kind: str) -> None:
    groups, channels, depth, taps = 2, 19, 6, 3
    w = normal(groups * channels, depth, taps, kind=None)
    packing = dense(groups, channels, depth, (taps,), 4)
    width = panel_width(channels, 4)
    panels = -(-channels // width)
    full = np.zeros((groups, panels * width, depth, taps), np.float32)
    full[:, :channels] = w.reshape(groups, channels, depth, taps)
    pairs = full.reshape(groups, panels, width, depth // 2, 2, taps).transpose(0, 1, 5, 3, 2, 4)
    np.testing.assert_array_equal(take(packed(w, packing, kind)), rounded(pairs, kind).reshape(-1))


def test_weights_of_16_bits_are_packed() -> None:
    w = normal(5, 4, kind="float16")
    packing = matrix(5, 4, True, 4)
    out = give(np.full(packing.size, np.nan, np.float32), "float16")
    pack.pack_weights(give(w, "float16"), out, packing.dims, packing.order)
    np.testing.assert_array_equal(take(out), take(packed(w, packing, "float16")))


@pytest.mark.parametrize(("kind", "y_kind"), [("float16", "float16"), ("bfloat16", None)])
def test_gather(kind: str, y_kind: str | None) -> None:
    """All but two lines of y, as the gradient by the input of strided convolutions has them."""
    x, w, bias = normal(2, 8, 5, 4, kind=kind), normal(6, 4, 2, 3, kind=kind), normal(6, kind=None)
    want = reference.conv(x, w, bias, group=2, pads=[1, 1, 0, 1])
    before = normal(2, 7, 4, 6, kind=y_kind)
    y, packing = give(before, y_kind), dense(2, 3, 4, (2, 3), 4)
    taps = [(0, *move, number) for move, number in window_taps((2, 3), (1, 1), (1, 1))]
    conv.conv_gather(
        give(np.moveaxis(x, 1, -1), kind), packed(w, packing, kind), give(bias, None), y, y,
        give(np.array(taps, np.int64), None), None, None, give(NONE, None), None,
        (2, 1, 5, 4), (1, 5, 4, 8, 4, 1, 1, 1), (1, 7, 4, 6, 0, 1, 0, 1, 1, 1), (2, 3, 6), (0,), *BOUNDS,
    )  # fmt: skip
    got = take(y).reshape(before.shape)
    agree(got[:, 1:-1], np.moveaxis(want, 1, -1) + before[:, 1:-1], y_kind)
    np.testing.assert_array_equal(got[:, [0, -1]], before[:, [0, -1]])


@pytest.mark.parametrize("kinds", [("float16", "float16", None), ("bfloat16", None, "bfloat16")])
@pytest.mark.parametrize("product", [pointwise.conv_pointwise, pointwise.conv_pointwise_fp32])
def test_rows(product: Any, kinds: Kinds) -> None:
    kind, residual_kind, y_kind = kinds
    x, w, residual = normal(9, 24, kind=kind), normal(24, 10, kind=kind), normal(9, 10, kind=residual_kind)
    y = give(np.full(90, np.nan, np.float32), y_kind)
    arrays = give(x, kind), packed(w, matrix(10, 24, False, 4), str(kind)), give(NONE, None)
    product(*arrays, give(residual, residual_kind), y, give(NONE, None), (9, 24, 10, 10), (), *BOUNDS)
    agree(take(y), x.astype(np.float64) @ w + residual, y_kind)


@pytest.mark.parametrize("kinds", [("float16", "float16", "float16"), (None, "bfloat16", None)])
@pytest.mark.parametrize(("depth", "channels"), [(38, 5), (262, 36)])
def test_one_row(kinds: Kinds, depth: int, channels: int) -> None:
    kind, w_kind, y_kind = kinds
    x, w, bias = normal(depth, kind=kind), normal(channels, depth, kind=w_kind), normal(channels, kind=None)
    w /= 16
    weights = packed(w, matrix(channels, depth, True, 4), str(w_kind))
    y = give(normal(channels, kind=y_kind), y_kind)
    residual = take(y).copy()
    vector.vector_product(give(x, kind), weights, give(bias, None), y, y, (depth, channels), *BOUNDS)
    agree(take(y), w.astype(np.float64) @ x + bias + residual, y_kind)


@pytest.mark.parametrize(
    "kinds", [("float16", "float16", "float16"), ("bfloat16", None, None), (None, "float16", None)]
)
@pytest.mark.parametrize("channels", [6, 20])
def test_depthwise(kinds: Kinds, channels: int) -> None:
    """Weights stay float32. Channels one by one, and in fours."""
    kind, residual_kind, y_kind = kinds
    x, w, bias = normal(2, channels, 4, 6, kind=kind), normal(channels, 1, 3, 3, kind=None), normal(channels, kind=None)
    want = reference.conv(x, w, bias, group=channels, pads=[1, 1, 1, 1])
    residual = normal(*np.moveaxis(want, 1, -1).shape, kind=residual_kind)
    y = give(np.full(residual.size, np.nan, np.float32), y_kind)
    packing = of_channels(channels, (3, 3), 4)
    weights = give(np.zeros(packing.size, np.float32), None)
    pack.pack_weights(give(w, None), weights, packing.dims, packing.order)
    # The table of depthwise_gather: places of taps in a box of one line of x and those around it, and in the weights.
    first, size = (0, -1, -1), (1, 3, 8)
    numbers = np.arange(9)
    places = (numbers // 3 * size[2] + numbers % 3) * lanes(4)
    taps = np.stack([places, numbers * panel_width(channels, 4)], 1).astype(np.int64)
    depthwise_gather(
        give(np.moveaxis(x, 1, -1), kind), weights, give(bias, None), give(residual, residual_kind), y,
        give(taps, None), None, (2, 1, 4, 6), (1, 4, 6, channels, 1, 1, 1, 1),
        (1, 4, 6, channels, 0, 0, 0, 1, 1, 1), (1, channels, 9), first, size, (1, 1, 0), *BOUNDS,
    )  # fmt: skip
    agree(take(y), np.moveaxis(want, 1, -1) + residual, y_kind)
