"""The worked examples of the lectures that the project grew from, computed by the whole engine, exactly.

Example 9, the table of VGG-16's layers, is what `nbcnn summary` prints: tests/cli/test_summary.py has every number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from networks import proto
from onnx import helper

import nbcnn
from nbcnn.report.shapes import input_shapes
from nbcnn.report.summary import summarize
from nbcnn.zoo import GraphBuilder, graph_of

SQUARE = [[1, 2, 2, 1], [3, 1, 4, 2], [2, 1, 3, 4], [1, 2, 3, 1]]


def one_node(op: str, x: Any, *weights: Any, **attrs: Any) -> np.ndarray:
    """The output of a network of one node, computed in both element types, which must agree."""
    x = np.array(x, np.float32)
    arrays = {f"w{k}": np.array(w, np.float32) for k, w in enumerate(weights)}
    node = helper.make_node(op, ["x", *arrays], ["y"], op.lower(), **attrs)
    source = proto([node], {"x": x.shape}, {"y": [None] * x.ndim}, arrays)
    found = [nbcnn.load(source, dtype=dtype)(x) for dtype in ("float32", "float64")]
    np.testing.assert_array_equal(*found)
    return found[0]


def picture(rows: Sequence[Sequence[float]]) -> Any:
    """(1, 1, H, W)"""
    return [[rows]]


def test_example_1_convolution_in_one_dimension() -> None:
    assert one_node("Conv", [[[1, 3, -1, 2, 3, 1, -2]]], [[[1, 0, 2]]]).tolist() == [[[-1, 7, 5, 4, -1]]]


def test_example_2_convolution_in_two_dimensions() -> None:
    y = one_node("Conv", picture(SQUARE), picture([[1, 0], [0, 1]]))
    assert y[0, 0].tolist() == [[2, 6, 4], [4, 4, 8], [4, 4, 4]]


def test_example_3_convolution_of_three_channels() -> None:
    channels = [
        [[1, -1, 3], [2, 1, 4], [3, 1, 2]],
        [[2, 1, 3], [3, -1, 1], [1, 1, -2]],
        [[1, -2, 4], [2, 1, -2], [1, 3, -1]],
    ]
    filters = [[[1, 1], [2, 0]], [[1, 0], [0, 1]], [[0, 1], [1, 0]]]
    assert one_node("Conv", [channels], [filters])[0, 0].tolist() == [[5, 11], [15, 5]]


@pytest.mark.parametrize(
    ("pad", "stride", "want"),
    [
        (0, 1, [[7, 11, 9], [9, 11, 12], [8, 8, 7]]),
        (1, 1, [[6, 5, 7, 4, 2], [6, 7, 11, 9, 5], [4, 9, 11, 12, 6], [7, 8, 8, 7, 6], [5, 5, 7, 6, 2]]),
        (0, 2, [[7, 9], [8, 7]]),
    ],
)
def test_example_4_padding_and_stride(pad: int, stride: int, want: list[list[int]]) -> None:
    z = [[1, 2, 2, 1, 1], [3, 1, 4, 2, 1], [2, 1, 3, 4, 3], [1, 2, 3, 1, 1], [4, 1, 3, 2, 1]]
    w = [[1, 0, 0], [0, 1, 1], [0, 1, 0]]
    assert one_node("Conv", picture(z), picture(w), strides=[stride] * 2, pads=[pad] * 4)[0, 0].tolist() == want


def test_example_5_max_pool() -> None:
    y = one_node("MaxPool", picture(SQUARE), kernel_shape=[2, 2], strides=[2, 2])
    assert y[0, 0].tolist() == [[3, 4], [2, 4]]


def test_example_6_vertical_edges() -> None:
    x = [[7, 2, 3, 3, 8], [4, 5, 3, 8, 4], [3, 3, 2, 8, 4], [2, 8, 7, 2, 7], [5, 4, 4, 5, 4]]
    y = one_node("Conv", picture(x), picture([[1, 0, -1]] * 3))
    want = [[sum(x[i + a][j] - x[i + a][j + 2] for a in range(3)) for j in range(3)] for i in range(3)]
    assert y[0, 0, 0, 0] == 6 and y[0, 0].tolist() == want


def test_example_7_sizes_of_alexnets_first_layer() -> None:
    g = GraphBuilder("conv1", (3, 227, 227))
    graph = g.finish(g.conv(g.input, "conv1", 96, kernel=11, stride=4))
    (row,) = summarize(graph, input_shapes(graph)).rows
    assert row.shape[1:] == (96, 55, 55) and row.weights == 34_848 and row.parameters == 34_848 + 96
    assert row.multiply_adds == 96 * 363 * 3025  # filters times the im2col matrix
    assert nbcnn.Model(graph)(np.zeros((1, 3, 227, 227), np.float32)).shape == (1, 96, 55, 55)


@pytest.mark.parametrize(("ceil_mode", "want"), [(0, [3, 5, 7, 9]), (1, [3, 5, 7, 9, 10])])
def test_example_7_a_stride_that_does_not_fit(ceil_mode: int, want: list[int]) -> None:
    """W=10, F=3, S=2 would give 4.5 windows: ONNX rounds down, or up on request. (The last pixel is the summary's.)"""
    attrs = {"kernel_shape": [3], "strides": [2], "ceil_mode": ceil_mode}
    assert one_node("MaxPool", [[list(range(1, 11))]], **attrs)[0, 0].tolist() == want


def test_example_7_a_convolution_drops_the_pixel_that_does_not_fit() -> None:
    y = one_node("Conv", [[list(range(1, 11))]], [[[1, 1, 1]]], strides=[2])
    assert y[0, 0].tolist() == [6, 12, 18, 24]


def test_example_8_dilation() -> None:
    x, w = [1, 2, 4, 8, 16, 32, 64], [3, 5, 7]
    y = one_node("Conv", [[x]], [[w]], dilations=[2])
    assert y[0, 0].tolist() == [w[0] * x[i] + w[1] * x[i + 2] + w[2] * x[i + 4] for i in range(3)]


def test_example_9_the_sums_of_vgg16() -> None:
    graph = graph_of("vgg16", init="zeros")
    summary = summarize(graph, input_shapes(graph))
    weights = [row.weights for row in summary.rows if row.weights]
    assert weights == [
        *(1_728, 36_864, 73_728, 147_456, 294_912, 589_824, 589_824, 1_179_648),
        *([2_359_296] * 5),
        *(102_760_448, 16_777_216, 4_096_000),
    ]
    assert summary.parameters == 138_357_544


def fully_connected_and_convolutional() -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """A net with a stride of 32 in all, for pictures of 224, that ends in a layer over 7x7 pixels; and the same net
    with that layer as a convolution. Small whole numbers, so that results are exact.
    """
    rng = np.random.default_rng(10)
    front = rng.integers(-1, 2, (4, 3, 4, 4)).astype(np.float32)
    w = rng.integers(-2, 3, (6, 4 * 7 * 7)).astype(np.float32)
    body = [
        helper.make_node("Conv", ["x", "front"], ["c"], "conv", strides=[4, 4]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("MaxPool", ["r"], ["p"], "pool", kernel_shape=[8, 8], strides=[8, 8]),
    ]
    dense = [
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w"], ["y"], "fc", transB=1),
    ]
    conv = [helper.make_node("Conv", ["p", "w"], ["y"], "fc")]
    return (
        proto([*body, *dense], {"x": ["N", 3, 224, 224]}, {"y": ["N", 6]}, {"front": front, "w": w}),
        proto(
            [*body, *conv],
            {"x": ["N", 3, "H", "W"]},
            {"y": ["N", 6, "h", "w"]},
            {"front": front, "w": w.reshape(6, 4, 7, 7)},
        ),
    )


def test_example_10_a_fully_connected_layer_is_a_convolution() -> None:
    """A 6x6 map of scores of a 384x384 picture: those of the fully connected net on each crop, at stride 32."""
    dense, conv = (nbcnn.load(source) for source in fully_connected_and_convolutional())
    x = np.random.default_rng(0).integers(-3, 4, (1, 3, 384, 384)).astype(np.float32)
    scores = conv(x)
    assert scores.shape == (1, 6, 6, 6)
    crops = [x[0, :, 32 * i : 32 * i + 224, 32 * j : 32 * j + 224] for i in range(6) for j in range(6)]
    want = dense(np.stack(crops)).reshape(6, 6, 6).transpose(2, 0, 1)[None]
    np.testing.assert_array_equal(scores, want)
