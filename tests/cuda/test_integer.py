"""Products of bytes on a GPU: the very integers, against sums in int64."""

from __future__ import annotations

import numpy as np
import pytest
from harness import Case

RNG = np.random.default_rng(11)

# (input shape, weights' shape, strides, pads, dilations, group)
CONVS = {
    "one channel": ((1, 1, 5, 5), (1, 1, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "a picture": ((2, 3, 5, 4), (11, 3, 3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 1),
    "whole vectors": ((1, 32, 3, 3), (5, 32, 3, 3), (1, 1), (2, 2, 2, 2), (2, 2), 1),
    "words": ((1, 24, 2, 4), (17, 24, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    "one pixel": ((1, 64, 1, 1), (10, 64, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    "odd channels": ((3, 5, 3, 4), (7, 5, 1, 1), (2, 2), (0, 0, 0, 0), (1, 1), 1),
    "groups": ((1, 8, 3, 5), (4, 4, 3, 2), (1, 2), (0, 1, 2, 0), (1, 1), 2),
    "1-D": ((1, 4, 6), (6, 4, 3), (2,), (1, 1), (1,), 1),
    "3-D": ((1, 3, 2, 3, 3), (5, 3, 2, 2, 2), (1, 1, 1), (1, 0, 0, 0, 1, 0), (1, 1, 1), 1),
    "depthwise": ((2, 17, 4, 3), (17, 1, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 17),
    "depthwise, strided": ((1, 32, 4, 4), (32, 1, 3, 3), (2, 2), (0, 0, 1, 1), (1, 1), 32),
    "depthwise, tall": ((1, 8, 5, 5), (8, 1, 5, 5), (1, 1), (2, 2, 2, 2), (1, 1), 8),
    "depthwise, 1-D, dilated": ((1, 8, 5), (8, 1, 3), (1,), (2, 2), (2,), 8),
}
SIGNED, UNSIGNED = np.int8, np.uint8


def integers(shape: tuple[int, ...], kind: type) -> np.ndarray:
    info = np.iinfo(kind)
    return RNG.integers(info.min, info.max + 1, shape).astype(kind)


def exact_conv(
    x: np.ndarray,
    w: np.ndarray,
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    dilations: tuple[int, ...],
    group: int,
) -> np.ndarray:
    """The sums of products of int64 arrays in ONNX order, one output position at a time."""
    rank, depth, channels = x.ndim - 2, w.shape[1], w.shape[0] // group
    x = np.pad(x, [(0, 0), (0, 0)] + [(pads[i], pads[rank + i]) for i in range(rank)])
    reach = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    out = [(n - r) // s + 1 for n, r, s in zip(x.shape[2:], reach, strides, strict=True)]
    y = np.zeros((x.shape[0], w.shape[0], *out), np.int64)
    for place in np.ndindex(*out):
        cut = tuple(slice(p * s, p * s + r, d) for p, s, r, d in zip(place, strides, reach, dilations, strict=True))
        for g in range(group):
            part = x[(slice(None), slice(g * depth, (g + 1) * depth), *cut)]
            own, axes = slice(g * channels, (g + 1) * channels), [*range(1, rank + 2)]
            y[(slice(None), own, *place)] = np.tensordot(part, w[own], (axes, axes))
    return y


def rounded(sums: np.ndarray, factor: np.ndarray, zero: int, kind: type) -> np.ndarray:
    """Requantized as the standard says, in float32."""
    info = np.iinfo(kind)
    return np.clip(np.rint(sums.astype(np.float32) * factor) + zero, info.min, info.max).astype(kind)


CASES = [(name, UNSIGNED) for name in CONVS] + [(name, SIGNED) for name in ("a picture", "whole vectors", "depthwise")]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_qlinear_conv(name: str, kind: type) -> None:
    x_shape, w_shape, *window = CONVS[name]
    x, w = integers(x_shape, kind), integers(w_shape, SIGNED)
    x_zero, y_zero, w_zero = integers((), kind), integers((), kind), np.zeros(w_shape[0], SIGNED)
    if name in ("one channel", "depthwise"):
        w_zero = integers(w_shape[:1], SIGNED)  # their weights are several bytes' sums
    x_scale, y_scale = np.float32(0.031), np.float32(0.003 * np.prod(w_shape[1:]) ** 0.5 * 74)
    w_scale = RNG.uniform(0.002, 0.2, w_shape[0]).astype(np.float32)
    bias = RNG.integers(-5000, 5000, w_shape[0]).astype(np.int32)
    over = (-1, *[1] * (len(x_shape) - 2))
    centred = x.astype(np.int64) - int(x_zero), w.astype(np.int64) - w_zero.reshape(-1, *[1] * (len(w_shape) - 1))
    sums = exact_conv(*centred, *window) + bias.reshape(over)
    wanted = rounded(sums, x_scale * w_scale.reshape(over) / y_scale, int(y_zero), kind)
    inputs = [x, np.asarray(x_scale), x_zero, w, w_scale, w_zero, np.asarray(y_scale), y_zero, bias]
    attrs = dict(zip(("strides", "pads", "dilations", "group"), window, strict=True))
    case = Case("QLinearConv", [np.asarray(a) for a in inputs], attrs, weights=tuple(range(1, 9)), device="cuda")
    np.testing.assert_array_equal(case.run()[0], wanted)


@pytest.mark.parametrize("name", ["whole vectors", "a picture"])
def test_large_tiles(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many pixels and channels a block as large convolutions have; sums of unsigned weights less a zero point."""
    from nbcnn.kernels.cuda import integer

    monkeypatch.setattr(integer, "FILLED", 0)
    x_shape, w_shape, *window = CONVS[name]
    x, w, x_zero, w_zero = (integers(shape, UNSIGNED) for shape in (x_shape, w_shape, (), ()))
    wanted = exact_conv(x.astype(np.int64) - int(x_zero), w.astype(np.int64) - int(w_zero), *window)
    attrs = dict(zip(("strides", "pads", "dilations", "group"), window, strict=True))
    case = Case("ConvInteger", [x, w, x_zero, w_zero], attrs, weights=(1, 2, 3), device="cuda")
    np.testing.assert_array_equal(case.run()[0], wanted)


MATRICES = [
    ((1, 7), (7, 3), UNSIGNED, SIGNED, True),
    ((5, 64), (64, 9), SIGNED, UNSIGNED, True),
    ((2, 3, 8), (2, 8, 5), UNSIGNED, SIGNED, False),
]


@pytest.mark.parametrize(("a_shape", "b_shape", "a_kind", "b_kind", "known"), MATRICES)
def test_matmul_integer(
    a_shape: tuple[int, ...], b_shape: tuple[int, ...], a_kind: type, b_kind: type, known: bool
) -> None:
    """known: whether B is, when the plan is made."""
    a, b, a_zero, b_zero = (
        integers(a_shape, a_kind),
        integers(b_shape, b_kind),
        integers((), a_kind),
        integers((), b_kind),
    )
    wanted = (a.astype(np.int64) - int(a_zero)) @ (b.astype(np.int64) - int(b_zero))
    case = Case("MatMulInteger", [a, b, a_zero, b_zero], weights=(1, 2, 3) if known else (), device="cuda")
    np.testing.assert_array_equal(case.run()[0], wanted)


def test_sums_as_numbers() -> None:
    """Scaled and held between two bounds, but not rounded."""
    from nbcnn.kernels.cuda import integer
    from nbcnn.kernels.cuda.runtime import download, upload

    rows, depth, channels = 3, 20, 8
    x, w = integers((rows, depth), SIGNED), integers((depth, channels), SIGNED)
    offsets, scales = (
        RNG.integers(-99, 99, channels).astype(np.int32),
        RNG.uniform(0, 0.01, channels).astype(np.float32),
    )
    panels, sums, y = (
        upload(np.zeros(w.size, SIGNED)),
        upload(np.zeros(channels, np.int32)),
        upload(np.zeros(24, np.float32)),
    )
    none, edge, taps = upload(np.zeros(0, SIGNED)), upload(np.zeros(depth, UNSIGNED)), upload(np.zeros(4, np.int64))
    integer.pack_integers(
        upload(w.reshape(-1)), none, panels, sums, (1, channels, 1, 1, depth), (0, 1, 0, 0, channels), 1
    )
    integer.integer_gather(
        *(upload(x.reshape(-1)), panels, upload(offsets), edge, upload(scales), y, taps, none, none),
        *((1, 1, 1, rows), (1, 1, rows, depth, depth, 1, 1, 1), (1, 1, rows, channels, 0, 0, 0, 1, 1, 1)),
        *((1, channels, 0, 0), (), 0, -30.0, 30.0),
    )
    wanted = (x.astype(np.int64) @ w + offsets).astype(np.float32) * scales
    np.testing.assert_array_equal(download(y).reshape(rows, channels), np.clip(wanted, -30, 30))
