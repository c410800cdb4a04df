"""The convolutions that are made for tensor cores, against the float64 oracle.

In the simulator they run on fragments and copies put together as the PTX ISA says (mma_simulated.py), with four warps
for each tile; on a GPU this is where TF32 is computed, and float16 and bfloat16. Layers of 16 bits are compared with
what the oracle makes of inputs that are rounded the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import reference
from halves import EPSILON, give, rounded, take

from nbcnn.kernels.cuda import pack, tensor_conv, tiling
from nbcnn.kernels.cuda._cuda import SIMULATED, TARGET
from nbcnn.kernels.cuda.panels import panels_of
from nbcnn.ops.gather import window_taps
from nbcnn.ops.packing import dense


@dataclass
class Layer:
    """A convolution: sizes as ONNX has them, and how it is to be computed: tile and parts of the depth, or None for
    what the kernel chooses.
    """

    shape: tuple[int, ...]
    weights: tuple[int, ...]
    attrs: dict[str, Any] = field(default_factory=dict)
    tile: tuple[int, int, int] | None = (2, 1, 1)
    residual: bool = False
    exact: bool = False
    one_tap: bool = False
    """Whether the tap is given as numbers, as conv_pointwise does."""
    kinds: tuple[str | None, str | None, str | None] = (None, None, None)
    """What x and w, the residual and y are kept in: float16, bfloat16 or, None, float32."""


LAYERS = {
    "more steps than stages": Layer((1, 20, 5, 7), (40, 20, 2, 2), {"pads": [1, 0, 0, 1]}),
    "largest tile": Layer((1, 36, 8, 9), (72, 36, 1, 2), {"pads": [0, 0, 0, 1]}, (4, 2, 1)),
    "tall tile": Layer((1, 4, 9, 8), (5, 4, 2, 3), {"pads": [1, 1, 0, 1], "strides": [1, 1]}, (4, 1, 1)),
    "groups, strided": Layer(
        (2, 16, 5, 5), (12, 8, 2, 2), {"group": 2, "strides": [2, 2], "pads": [1, 1, 0, 0]}, residual=True
    ),
    "dilated": Layer((1, 8, 6, 4), (3, 8, 2, 2), {"dilations": [3, 2]}, residual=True),
    "depth in parts": Layer((1, 20, 3, 3), (40, 20, 3, 1), {"pads": [1, 0, 1, 0]}, (2, 1, 3), residual=True),
    "rows": Layer((70, 24, 1, 1), (33, 24, 1, 1), one_tap=True),
    "few channels": Layer((2, 3, 7, 7), (20, 3, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}, residual=True),
    "odd channels, in parts": Layer((1, 7, 5, 5), (9, 7, 3, 3), {"pads": [1, 1, 1, 1]}, (4, 1, 2)),
    "odd depth": Layer((5, 21, 1, 1), (6, 21, 1, 1), one_tap=True),
    "exact": Layer((1, 20, 3, 5), (70, 20, 1, 2), {"pads": [0, 0, 0, 1]}, exact=True, residual=True),
    "exact, few channels": Layer((1, 3, 7, 7), (20, 3, 3, 3), {"strides": [2, 2]}, exact=True),
}

F, B = "float16", "bfloat16"
HALVES = {
    "more steps than stages": Layer((1, 40, 5, 7), (40, 40, 2, 2), {"pads": [1, 0, 0, 1]}, kinds=(F, None, F)),
    "largest tile": Layer(
        (1, 72, 8, 9), (72, 72, 1, 2), {"pads": [0, 0, 0, 1]}, (4, 2, 1), residual=True, kinds=(B, B, B)
    ),
    "groups, strided": Layer(
        (2, 32, 5, 5),
        (12, 16, 2, 2),
        {"group": 2, "strides": [2, 2], "pads": [1, 1, 0, 0]},
        residual=True,
        kinds=(F, F, F),
    ),
    "channels that are no fours": Layer((1, 8, 4, 4), (6, 8, 2, 2), residual=True, kinds=(B, B, B)),
    "depth in parts": Layer(
        (1, 40, 3, 3), (40, 40, 3, 1), {"pads": [1, 0, 1, 0]}, (2, 1, 3), residual=True, kinds=(F, B, F)
    ),
    "rows": Layer((70, 48, 1, 1), (33, 48, 1, 1), one_tap=True, kinds=(B, None, None)),
    "few channels, in parts": Layer(
        (1, 6, 5, 5), (9, 6, 3, 3), {"pads": [1, 1, 1, 1]}, (4, 1, 2), residual=True, kinds=(F, None, F)
    ),
    "odd pairs": Layer((5, 42, 1, 1), (6, 42, 1, 1), one_tap=True, residual=True, kinds=(B, F, B)),
    "first layer": Layer(
        (2, 3, 7, 7), (20, 3, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}, residual=True, kinds=(None, None, B)
    ),
    "first layer, wide": Layer((1, 4, 3, 3), (8, 4, 1, 2), residual=True, kinds=(None, F, F)),
}
"""Whose arrays are kept in 16 bits."""

LARGE = {
    "3x3": Layer((8, 64, 28, 28), (160, 64, 3, 3), {"pads": [1, 1, 1, 1]}, None, residual=True),
    "3x3, strided": Layer((4, 128, 29, 30), (256, 128, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}, None),
    "1x1": Layer((5000, 256, 1, 1), (512, 256, 1, 1), {}, None, residual=True, one_tap=True),
    "few pixels, much depth": Layer((1, 512, 7, 7), (512, 512, 3, 3), {"pads": [1, 1, 1, 1]}, None, residual=True),
    "few rows": Layer((32, 2048, 1, 1), (1000, 2048, 1, 1), {}, None, one_tap=True),
    "first layer": Layer((2, 3, 112, 112), (64, 3, 7, 7), {"strides": [2, 2], "pads": [3, 3, 3, 3]}, None),
    "groups": Layer((2, 128, 28, 28), (128, 4, 3, 3), {"group": 32, "pads": [1, 1, 1, 1]}, None),
}
"""Networks' own sizes, which take a GPU."""
WAYS = {
    "tf32": {},
    "exact": {"exact": True},
    "float16": {"kinds": (F, F, F)},
    "bfloat16": {"kinds": (B, B, B)},
}


@pytest.fixture
def choose(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Sets the tiling of whatever is computed."""
    yield lambda tile: monkeypatch.setattr(tiling, "choose", lambda *shape: tiling.Tiling(*tile))


def run(layer: Layer, x: np.ndarray, w: np.ndarray, bias: np.ndarray, residual: np.ndarray, bounds: Any) -> np.ndarray:
    """The convolution of NCHW arrays by the kernel."""
    group = layer.attrs.get("group", 1)
    strides, dilations = layer.attrs.get("strides", [1, 1]), layer.attrs.get("dilations", [1, 1])
    packing = dense(group, w.shape[0] // group, w.shape[1], w.shape[2:], 4)
    begins = layer.attrs.get("pads", [0, 0])[:2]
    taps = [(0, *move, number) for move, number in window_taps(w.shape[2:], dilations, begins)]
    kind, residual_kind, y_kind = layer.kinds
    weights = give(np.full(packing.size, np.nan, np.float32), kind)
    pack.pack_weights(give(w, None), weights, packing.dims, packing.order)
    images, channels, height, width = residual.shape
    pixels, words = images * height * width, 2 if kind else 1
    room = (
        layer.tile[2] * pixels * channels
        if layer.tile
        else tiling.scratch_size(
            pixels, packing.channels, group, packing.run // words, x.shape[1] // words, packing.taps
        )
    )
    y = give(np.full(residual.size, np.nan, np.float32), y_kind)
    tensor_conv.convolve(
        give(np.moveaxis(x, 1, -1), kind),
        weights,
        give(bias, None),
        give(np.moveaxis(residual, 1, -1)[: len(residual) * layer.residual], residual_kind),
        y,
        taps[0] if layer.one_tap else give(np.array(taps, np.int64), None),
        give(np.full(room, np.nan, np.float32), None),
        (images, 1, height, width),
        (1, *x.shape[2:], x.shape[1], packing.run, 1, *strides),
        (1, height, width, channels, 0, 0, 0, 1, 1, 1),
        (group, packing.channels, packing.taps),
        panels_of(packing.channels, np.empty(0, np.float32)),
        not any(layer.attrs.get("pads", ())),
        layer.exact,
        *bounds,
    )
    return np.moveaxis(take(y).reshape(images, height, width, channels), -1, 1)


def check(layer: Layer) -> None:
    rng = np.random.default_rng(0)
    x, w, bias = (rng.standard_normal(s).astype(np.float32) for s in (layer.shape, layer.weights, layer.weights[0]))
    kind, residual_kind, y_kind = layer.kinds
    x, w = rounded(x, kind), rounded(w, kind)
    y = reference.conv(x, w, bias, **layer.attrs)
    residual = rounded(rng.standard_normal(y.shape).astype(np.float32), residual_kind)
    bounds = np.float32(-2), np.float32(3)
    got = run(layer, x, w, bias, residual, bounds)
    rounding = 5e-5 if kind else 1e-5 if layer.exact else 1e-3  # tensor cores cut their sums off
    np.testing.assert_allclose(
        got,
        np.clip(y + layer.residual * residual, *bounds),
        rtol=1.01 * EPSILON[y_kind],
        atol=rounding * np.abs(y).max(),
    )


@pytest.mark.parametrize("name", LAYERS)
def test_convolution(name: str, choose: Any) -> None:
    choose(LAYERS[name].tile)
    check(LAYERS[name])


@pytest.mark.parametrize("name", HALVES)
def test_convolution_of_halves(name: str, choose: Any) -> None:
    choose(HALVES[name].tile)
    check(HALVES[name])


@pytest.mark.skipif(TARGET != "gpu", reason="large layers take a GPU")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", LARGE)
def test_large_convolution(name: str, way: str) -> None:
    layer = replace(LARGE[name], **WAYS[way])
    if layer.weights[1] % 2:  # x and w of 16 bits have even channels
        layer = replace(layer, kinds=(None, *layer.kinds[1:]))
    check(layer)


def test_nan_stays_nan(choose: Any) -> None:
    """Where it is met, and nowhere else."""
    choose((2, 1, 1))
    x, w = np.ones((1, 4, 1, 5), np.float32), np.ones((3, 4, 1, 2), np.float32)
    x[0, 2, 0, 1] = np.nan
    zeros = np.zeros((1, 3, 1, 4), np.float32)
    got = run(Layer(x.shape, w.shape), x, w, np.zeros(3, np.float32), zeros, (np.float32(0), np.float32(6)))
    np.testing.assert_array_equal(np.isnan(got[0, 0, 0]), [True, True, False, False])
    np.testing.assert_array_equal(got[0, :, 0, 2:], 6)


@pytest.mark.skipif(not SIMULATED, reason="device functions are Python's in the simulator alone")
@pytest.mark.parametrize("columns", [1, 2])
def test_fragments_meet_all_banks(columns: int) -> None:
    """Eight lanes at a time read 16 bytes each: together the 32 banks of shared memory, once."""
    from nbcnn.kernels.cuda.tiles import lane_of, weight_place

    banks = set(range(32))
    for first in range(0, 32, 8):
        lanes = [lane_of.fn(thread) for thread in range(first, first + 8)]
        for depth in range(2):
            for c in range(2):
                weights = [weight_place.fn(2 * t + depth, 2 * g + c, (0,) * columns) for g, t in lanes]
                assert {(place + i) % 32 for place in weights for i in range(4)} == banks
        assert {(g * tiling.DEPTH + 4 * t + i) % 32 for g, t in lanes for i in range(4)} == banks


def test_few_tiles_share_their_depth() -> None:
    """A batch of one must give every multiprocessor something to do; a large one has enough."""
    assert tiling.choose(196, 256, 1, 144, False).parts > 4
    assert tiling.choose(256 * 3136, 64, 1, 36, False).parts == 1
    assert tiling.choose(256 * 784, 512, 1, 8, False)[:2] == (4, 2)
