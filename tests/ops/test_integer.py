"""Products of 8-bit integers: the integers exactly, against onnx's reference evaluator and onnxruntime."""

import numpy as np
import onnx
import onnxruntime
import pytest
from guards import run_guarded
from harness import Case
from onnx import helper

from nbcnn.api import load

RNG = np.random.default_rng(11)
KINDS = [(np.uint8, np.int8), (np.uint8, np.uint8), (np.int8, np.int8), (np.int8, np.uint8)]


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
    rank = x.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0)] + [(pads[i], pads[rank + i]) for i in range(rank)])
    reach = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    out = [(n - r) // s + 1 for n, r, s in zip(x.shape[2:], reach, strides, strict=True)]
    y = np.zeros((x.shape[0], w.shape[0], *out), np.int64)
    depth, channels = w.shape[1], w.shape[0] // group
    for place in np.ndindex(*out):
        cut = tuple(slice(p * s, p * s + r, d) for p, s, r, d in zip(place, strides, reach, dilations, strict=True))
        part = x[(slice(None), slice(None), *cut)]
        for g in range(group):
            of_group = slice(g * channels, (g + 1) * channels)
            axes = list(range(1, rank + 2))
            y[(slice(None), of_group, *place)] = np.tensordot(
                part[:, g * depth : (g + 1) * depth], w[of_group], (axes, axes)
            )
    return y


def rounded(sums: np.ndarray, factor: np.ndarray, zero: int, kind: type) -> np.ndarray:
    """Requantized as the standard says, in float32."""
    info = np.iinfo(kind)
    return np.clip(np.rint(sums.astype(np.float32) * factor) + zero, info.min, info.max).astype(kind)


CONVS = [
    # x, w, strides, pads, dilations, group
    ((1, 1, 5, 5), (1, 1, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    ((2, 3, 9, 8), (16, 3, 3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 1),
    ((1, 16, 7, 7), (33, 16, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    ((2, 24, 5, 6), (144, 24, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    ((1, 64, 1, 1), (10, 64, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    ((3, 5, 6, 6), (17, 5, 1, 1), (2, 2), (0, 0, 0, 0), (1, 1), 1),
    ((1, 12, 6, 5), (8, 3, 3, 2), (1, 2), (0, 1, 2, 0), (1, 1), 4),
    ((1, 40, 15, 15), (72, 40, 3, 3), (1, 1), (2, 2, 2, 2), (2, 2), 1),
    ((2, 17, 9, 7), (17, 1, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 17),
    ((1, 32, 8, 8), (32, 1, 3, 3), (2, 2), (0, 0, 1, 1), (1, 1), 32),
    ((1, 48, 9, 9), (48, 1, 5, 5), (1, 1), (2, 2, 2, 2), (1, 1), 48),
    ((1, 4, 11), (6, 4, 3), (2,), (1, 1), (1,), 1),
    ((1, 3, 4, 5, 4), (5, 3, 2, 2, 2), (1, 1, 1), (1, 0, 0, 0, 1, 0), (1, 1, 1), 1),
    ((2, 128, 14, 14), (256, 128, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
]


@pytest.mark.parametrize("kinds", KINDS, ids=str)
@pytest.mark.parametrize("conv", CONVS, ids=str)
def test_conv_integer(conv: tuple, kinds: tuple[type, type]) -> None:
    x_shape, w_shape, strides, pads, dilations, group = conv
    x, w = integers(x_shape, kinds[0]), integers(w_shape, kinds[1])
    x_zero, w_zero = integers((), kinds[0]), integers((), kinds[1])
    attrs = {"strides": strides, "pads": pads, "dilations": dilations, "group": group}
    centred = x.astype(np.int64) - int(x_zero), w.astype(np.int64) - int(w_zero)
    wanted = exact_conv(*centred, strides, pads, dilations, group)
    for weights in ((1, 2, 3), ()):  # known when the plan is made, and not
        case = Case("ConvInteger", [x, w, np.array(x_zero), np.array(w_zero)], attrs, weights=weights)
        np.testing.assert_array_equal(case.run()[0], wanted)


@pytest.mark.parametrize("kinds", KINDS, ids=str)
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("conv", CONVS, ids=str)
def test_qlinear_conv(conv: tuple, per_channel: bool, kinds: tuple[type, type]) -> None:
    x_shape, w_shape, strides, pads, dilations, group = conv
    x, w = integers(x_shape, kinds[0]), integers(w_shape, kinds[1])
    count = (w_shape[0],) if per_channel else ()
    x_zero, y_zero = integers((), kinds[0]), integers((), kinds[0])
    w_zero = integers(count, kinds[1])
    x_scale, y_scale = np.float32(0.031), np.float32(0.003 * np.prod(w_shape[1:]) ** 0.5 * 74)
    w_scale = np.asarray(RNG.uniform(0.002, 0.2, count), np.float32)
    bias = RNG.integers(-5000, 5000, w_shape[0]).astype(np.int32)
    attrs = {"strides": strides, "pads": pads, "dilations": dilations, "group": group}
    over = (-1, *[1] * (len(x_shape) - 2))
    centred = x.astype(np.int64) - int(x_zero), w.astype(np.int64) - w_zero.reshape(-1, *[1] * (len(w_shape) - 1))
    sums = exact_conv(*centred, strides, pads, dilations, group) + bias.reshape(over)
    wanted = rounded(sums, x_scale * w_scale.reshape(over) / y_scale, int(y_zero), kinds[0])
    inputs = [x, np.asarray(x_scale), x_zero, w, w_scale, w_zero, np.asarray(y_scale), y_zero, bias]
    case = Case("QLinearConv", [np.asarray(a) for a in inputs], attrs, weights=tuple(range(1, 9)))
    plan = case.plan()
    np.testing.assert_array_equal(case.execute(plan)[0], wanted)
    guarded = next(iter(run_guarded(plan).values()))
    np.testing.assert_array_equal(guarded.reshape(wanted.shape), wanted)


@pytest.mark.parametrize("kinds", KINDS, ids=str)
@pytest.mark.parametrize(
    "shapes",
    [
        ((1, 7), (7, 3)),
        ((5, 64), (64, 33)),
        ((2, 3, 4), (4, 6)),
        ((2, 3, 8), (2, 8, 40)),
        ((2, 1, 3, 8), (1, 4, 8, 5)),
        ((6,), (6, 4)),
        ((3, 6), (6,)),
        ((17, 130), (130, 65)),
    ],
    ids=str,
)
def test_matmul_integer(shapes: tuple, kinds: tuple[type, type]) -> None:
    a, b = (integers(shape, kind) for shape, kind in zip(shapes, kinds, strict=True))
    a_zero, b_zero = integers((), kinds[0]), integers((), kinds[1])
    wanted = (a.astype(np.int64) - int(a_zero)) @ (b.astype(np.int64) - int(b_zero))
    for weights in ((1, 2, 3), ()):
        case = Case("MatMulInteger", [a, b, np.array(a_zero), np.array(b_zero)], weights=weights)
        np.testing.assert_array_equal(case.run()[0], wanted)


@pytest.mark.parametrize("by_row", [False, True])
@pytest.mark.parametrize("by_column", [False, True])
def test_qlinear_matmul(by_row: bool, by_column: bool) -> None:
    a, b = integers((5, 40), np.uint8), integers((40, 33), np.int8)
    rows, columns = (5,) if by_row else (), (33,) if by_column else ()
    a_zero, b_zero, y_zero = integers(rows, np.uint8), integers(columns, np.int8), np.uint8(100)
    a_scale, b_scale = (np.asarray(RNG.uniform(0.01, 0.02, n), np.float32) for n in (rows, columns))
    sums = (a.astype(np.int64) - a_zero.reshape(-1, 1)) @ (b.astype(np.int64) - b_zero)
    wanted = rounded(sums, a_scale.reshape(-1, 1) * b_scale / np.float32(1), 100, np.uint8)
    inputs = [a, a_scale, a_zero, b, b_scale, b_zero, np.float32(1), y_zero]
    case = Case("QLinearMatMul", [np.asarray(v) for v in inputs], weights=tuple(range(1, 8)))
    np.testing.assert_array_equal(case.run()[0], wanted)


def test_as_onnxruntime_does() -> None:
    """QLinearConv of activations and weights as networks have them; both round in float32."""
    x = integers((1, 32, 14, 14), np.uint8)
    constants = {
        "xs": np.float32(0.02),
        "xz": np.uint8(120),
        "w": integers((64, 32, 3, 3), np.int8),
        "ws": RNG.uniform(0.001, 0.01, 64).astype(np.float32),
        "wz": np.zeros(64, np.int8),
        "ys": np.float32(0.2),
        "yz": np.uint8(128),
        "b": RNG.integers(-9000, 9000, 64).astype(np.int32),
    }
    node = helper.make_node("QLinearConv", ["x", *constants], ["y"], pads=[1, 1, 1, 1])
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, x.shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.UINT8, (*x.shape[:1], 64, 14, 14))],
        [onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    wanted = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_array_equal(load(model).run(None, {"x": x})[0], wanted)
