"""The oracle itself: the lectures' worked examples, and central finite differences for every backward.

test_reference_onnx.py compares its forwards with onnx and onnxruntime, test_reference_torch.py the rest with PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import reference as ref
from gradcheck import check_backward, directional


def picture(*rows: Sequence[float]) -> Any:
    """(1, 1, H, W)"""
    return np.array(rows, np.float64)[None, None]


# Worked examples of the lectures that the project grew from.


def test_example_1_convolution_in_one_dimension() -> None:
    y = ref.conv([[[1, 3, -1, 2, 3, 1, -2]]], [[[1, 0, 2]]])
    assert y.tolist() == [[[-1, 7, 5, 4, -1]]]


def test_example_2_convolution_in_two_dimensions() -> None:
    y = ref.conv(picture([1, 2, 2, 1], [3, 1, 4, 2], [2, 1, 3, 4], [1, 2, 3, 1]), picture([1, 0], [0, 1]))
    assert y[0, 0].tolist() == [[2, 6, 4], [4, 4, 8], [4, 4, 4]]


def test_example_3_convolution_of_three_channels() -> None:
    x = [
        [[[1, -1, 3], [2, 1, 4], [3, 1, 2]], [[2, 1, 3], [3, -1, 1], [1, 1, -2]], [[1, -2, 4], [2, 1, -2], [1, 3, -1]]]
    ]
    w = [[[[1, 1], [2, 0]], [[1, 0], [0, 1]], [[0, 1], [1, 0]]]]
    assert ref.conv(x, w)[0, 0].tolist() == [[5, 11], [15, 5]]


@pytest.mark.parametrize(
    ("pad", "stride", "expected"),
    [
        (0, 1, [[7, 11, 9], [9, 11, 12], [8, 8, 7]]),
        (1, 1, [[6, 5, 7, 4, 2], [6, 7, 11, 9, 5], [4, 9, 11, 12, 6], [7, 8, 8, 7, 6], [5, 5, 7, 6, 2]]),
        (0, 2, [[7, 9], [8, 7]]),
    ],
)
def test_example_4_padding_and_stride(pad: int, stride: int, expected: list[list[int]]) -> None:
    x = picture([1, 2, 2, 1, 1], [3, 1, 4, 2, 1], [2, 1, 3, 4, 3], [1, 2, 3, 1, 1], [4, 1, 3, 2, 1])
    y = ref.conv(x, picture([1, 0, 0], [0, 1, 1], [0, 1, 0]), strides=[stride] * 2, pads=[pad] * 4)
    assert y[0, 0].tolist() == expected


def test_example_5_max_pool() -> None:
    x = picture([1, 2, 2, 1], [3, 1, 4, 2], [2, 1, 3, 4], [1, 2, 3, 1])
    assert ref.max_pool(x, [2, 2], strides=[2, 2])[0, 0].tolist() == [[3, 4], [2, 4]]


def test_example_6_vertical_edges() -> None:
    x = picture([7, 2, 3, 3, 8], [4, 5, 3, 8, 4], [3, 3, 2, 8, 4], [2, 8, 7, 2, 7], [5, 4, 4, 5, 4])
    assert ref.conv(x, picture(*[[1, 0, -1]] * 3))[0, 0, 0, 0] == 6


def test_example_7_sizes() -> None:
    win = ref.windows((227, 227), (11, 11), strides=(4, 4))
    assert win.out == (55, 55)
    assert (11 * 11 * 3, math.prod(win.out)) == (363, 3025)  # the im2col matrix
    # 4.5 windows: rounded down, or up.
    assert ref.output_size(10, 3, 2) == 4
    assert ref.output_size(10, 3, 2, ceil_mode=1) == 5


def test_example_8_dilation() -> None:
    x, w = np.arange(1.0, 8.0), np.array([2.0, 3.0, 5.0])
    y = ref.conv(x[None, None], w[None, None], dilations=[2])
    assert y[0, 0].tolist() == [w[0] * x[i] + w[1] * x[i + 2] + w[2] * x[i + 4] for i in range(3)]


def test_example_10_a_fully_connected_layer_is_a_convolution() -> None:
    rng = np.random.default_rng(10)
    x, w = rng.standard_normal((1, 4, 12, 12)), rng.standard_normal((6, 4, 7, 7))
    scores = ref.conv(x, w)
    assert scores.shape == (1, 6, 6, 6)
    for i, j in np.ndindex(6, 6):
        crop = x[:, :, i : i + 7, j : j + 7]
        np.testing.assert_allclose(scores[:, :, i, j], ref.gemm(ref.flatten(crop), w.reshape(6, -1), transB=1))


# Sizes.


def test_a_window_that_would_start_in_the_right_padding_is_dropped() -> None:
    # Windows of 1 at 0, 3, 6: the pixel at 6 is padding.
    assert ref.output_size(5, 1, 3, pad_end=1, ceil_mode=1) == 2
    assert ref.output_size(7, 1, 3, pad_end=1, ceil_mode=1) == 3


@pytest.mark.parametrize(
    ("auto_pad", "pads"), [("SAME_UPPER", [0, 1, 1, 1]), ("SAME_LOWER", [1, 1, 0, 1]), ("VALID", [0, 0, 0, 0])]
)
def test_auto_pads(auto_pad: str, pads: list[int]) -> None:
    assert ref.auto_pads((6, 5), (3, 3), (2, 2), (1, 1), auto_pad) == pads


def test_a_window_larger_than_the_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="a window of extent 5 does not fit into 3"):
        ref.output_size(3, 3, dilation=2)


# Choices where the derivative is not unique.


def test_the_first_of_equal_maxima_gets_the_gradient() -> None:
    assert ref.max_pool_backward([[[1.0, 10.0]]], [[[5, 5, 5]]], [2]).tolist() == [[[1, 10, 0]]]
    assert ref.max_pool_indices([[[5, 5, 5]]], [2]).tolist() == [[[0, 1]]]
    assert ref.reduce_max_backward([[1.0]], [[3, 7, 7]], [1]).tolist() == [[0, 1, 0]]
    assert [d.tolist() for d in ref.max_backward([1.0, 1.0], [1, 2], [1, 3])] == [[1, 0], [0, 1]]


def test_windows_over_nothing_but_minus_infinity() -> None:
    x = np.full((1, 1, 3), -np.inf)
    assert ref.max_pool(x, [2], pads=[1, 0]).tolist() == [[[-np.inf] * 3]]
    assert ref.max_pool_backward([[[1.0, 1.0, 1.0]]], x, [2], pads=[1, 0]).tolist() == [[[2, 1, 0]]]


# Every backward.


def spread(*shape: int) -> Any:
    """Numbers between -2 and 2 in random order: no two closer than 1e-3, none closer than that to a multiple of 0.5."""
    size = math.prod(shape)
    values = np.linspace(-2, 2, size + 1)[:-1] + 1.7e-3
    return np.random.default_rng(size).permutation(values).reshape(shape)


def positive(*shape: int) -> Any:
    return np.abs(spread(*shape)) + 0.1


Case = tuple[str, Callable[..., Any], Callable[..., Any], list[Any]]


def case(name: str, *args: Any, **attrs: Any) -> Case:
    """An operator whose backward takes dy and the same arguments."""
    short = name.rstrip("_")
    forward, backward = getattr(ref, name), getattr(ref, f"{short}_backward")
    return f"{short} {attrs}" if attrs else short, partial(forward, **attrs), partial(backward, **attrs), list(args)


def conv_case(x: Any, w: Any, **attrs: Any) -> Case:
    return (
        f"conv {attrs}",
        lambda x, w, b: ref.conv(x, w, b, **attrs),
        lambda dy, x, w, b: ref.conv_backward(dy, x, w, **attrs),
        [x, w, spread(w.shape[0])],
    )


CONV_CASES = [
    conv_case(spread(1, 1, 1, 1), spread(1, 1, 1, 1)),
    conv_case(spread(2, 3, 11), spread(5, 3, 3), strides=[2], pads=[1, 3], dilations=[2]),
    conv_case(spread(2, 6, 9, 7), spread(4, 3, 3, 2), strides=[2, 1], pads=[0, 1, 2, 0], group=2),
    conv_case(spread(1, 5, 8, 9), spread(10, 1, 3, 3), group=5, pads=[1, 1, 1, 1], dilations=[1, 2]),
    conv_case(spread(1, 2, 5, 6, 7), spread(3, 2, 2, 3, 1), strides=[1, 2, 3], pads=[1, 0, 0, 0, 1, 2]),
    conv_case(spread(1, 3, 10, 7), spread(2, 3, 4, 3), auto_pad="SAME_LOWER", strides=[3, 2]),
]

CEIL_2D = {"kernel_shape": [3, 2], "strides": [2, 3], "ceil_mode": 1, "pads": [1, 1, 0, 1]}
CEIL_3D = {"kernel_shape": [2, 3, 2], "strides": [2, 2, 3], "ceil_mode": 1}
DILATED_1D = {"kernel_shape": [3], "dilations": [2], "pads": [1, 2]}
POOL_CASES = [
    *(
        case(op, spread(*shape), **attrs)
        for op in ("max_pool", "average_pool", "lp_pool")
        for shape, attrs in (((2, 3, 9), DILATED_1D), ((2, 3, 8, 7), CEIL_2D), ((1, 2, 5, 6, 7), CEIL_3D))
    ),
    case("average_pool", spread(2, 3, 8, 7), **CEIL_2D, count_include_pad=1),
    case("lp_pool", spread(2, 3, 8, 7), **CEIL_2D, p=1),
    case("lp_pool", spread(2, 3, 8, 7), **CEIL_2D, p=3),
    *(case(f"global_{kind}_pool", spread(2, 3, 4, 5)) for kind in ("average", "max", "lp")),
]

NORM_CASES = [
    (
        "batch_normalization, frozen",
        lambda x, s, b: ref.batch_normalization(x, s, b, [0.3, -1, 0], [1, 2, 0.5], 1e-3),
        lambda dy, x, s, b: ref.batch_normalization_backward(dy, x, s, [0.3, -1, 0], [1, 2, 0.5], 1e-3),
        [spread(4, 3, 2, 5), spread(3), spread(3)],
    ),
    *(
        (
            f"batch_normalization_training {shape}",
            lambda x, s, b: ref.batch_normalization_training(x, s, b, 0, 1, 1e-3)[0],
            lambda dy, x, s, b: ref.batch_normalization_training_backward(dy, x, s, 1e-3),
            [spread(*shape), spread(3), spread(3)],
        )
        for shape in ((7, 3), (4, 3, 5), (2, 3, 4, 5))
    ),
    (
        "dropout",
        lambda x: ref.dropout(x, [1, 0, 0, 1, 1], 0.4),
        lambda dy, x: ref.dropout_backward(dy, [1, 0, 0, 1, 1], 0.4),
        [spread(3, 5)],
    ),
    *(case("lrn", spread(2, 7, 3, 2), size=size, alpha=0.3, beta=0.6, bias=1.5) for size in (1, 4, 5, 9)),
]

LINEAR_CASES = [
    case("gemm", spread(5, 3), spread(7, 5), spread(7), transA=1, transB=1, alpha=0.5, beta=2.0),
    case("gemm", spread(3, 5), spread(5, 7), spread(3, 1)),
    ("gemm without c", ref.gemm, lambda dy, a, b: ref.gemm_backward(dy, a, b)[:2], [spread(3, 5), spread(5, 7)]),
    case("matmul", spread(3, 1, 2, 5), spread(4, 5, 3)),
    case("matmul", spread(5), spread(4, 5, 3)),
    case("matmul", spread(4, 3, 5), spread(5)),
    case("matmul", spread(5), spread(5)),
]

ARITHMETIC_CASES = [
    *(case(op, spread(3, 1, 4), positive(5, 1)) for op in ("add", "sub", "mul", "div")),
    case("div", spread(4), positive(3, 1)),
    case("pow_", positive(3, 1, 4), spread(5, 1)),
    *(case(op, spread(3, 1, 2), spread(5, 1) + 0.01, spread(1, 5, 2) + 0.02) for op in ("sum_", "max_", "min_")),
]

WHOLE_LINE = (
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "sigmoid",
    "tanh",
    "softplus",
    "softsign",
    "erf",
    "sign",
    "abs_",
    "neg",
    "exp",
)
ELEMENTWISE_CASES = [
    *(case(op, spread(4, 9)) for op in WHOLE_LINE),
    *(case(op, positive(4, 9)) for op in ("log", "sqrt")),
    case("leaky_relu", spread(4, 9), alpha=0.3),
    case("elu", spread(4, 9), alpha=0.3),
    case("selu", spread(4, 9), alpha=1.2, gamma=0.8),
    case("prelu", spread(2, 3, 4), spread(3, 1)),
    case("hard_sigmoid", spread(4, 9)),
    case("hard_sigmoid", spread(4, 9), alpha=0.5, beta=0.25),
    case("clip", spread(4, 9)),
    case("clip", spread(4, 9), min=-1.0, max=0.5),
    case("clip", spread(4, 9), max=0.5),
    *(case(op, spread(3, 4, 5), axis=axis) for op in ("softmax", "log_softmax") for axis in (0, 1, -1)),
]

SHAPE_CASES = [
    case("concat", spread(2, 3, 4), spread(2, 1, 4), spread(2, 5, 4), axis=1),
    (
        "split",
        lambda x: ref.split(x, axis=1, num_outputs=3),
        lambda dys, x: ref.split_backward(dys, axis=1),
        [spread(2, 7)],
    ),
    case("slice_", spread(7, 5), starts=[-1, 4], ends=[-100, 0], axes=[0, 1], steps=[-2, -3]),
    case("slice_", spread(7, 5, 3), starts=[1], ends=[1000], axes=[1]),
    *(
        case("pad", spread(2, 3, 4), pads=[0, 1, 2, 1, 0, 3], mode=mode)
        for mode in ("constant", "reflect", "edge", "wrap")
    ),
    case("pad", spread(2, 3, 4), pads=[-1, 2, 1, -2], axes=[1, 2]),
    case("transpose", spread(2, 3, 4, 5), perm=[3, 1, 0, 2]),
    case("transpose", spread(2, 3, 4)),
    case("gather", spread(4, 5, 3), indices=[[0, -1], [2, 2]], axis=1),
    ("reshape", lambda x: ref.reshape(x, [0, -1]), ref.reshape_backward, [spread(2, 3, 4)]),
    ("flatten", lambda x: ref.flatten(x, 2), ref.reshape_backward, [spread(2, 3, 4)]),
    ("squeeze", lambda x: ref.squeeze(x, [1, -1]), ref.reshape_backward, [spread(2, 1, 4, 1)]),
    ("unsqueeze", lambda x: ref.unsqueeze(x, [0, -1]), ref.reshape_backward, [spread(2, 4)]),
    *(
        case(op, spread(3, 4, 5), **attrs)
        for op in ("reduce_sum", "reduce_mean", "reduce_max")
        for attrs in ({}, {"axes": [2, 0]}, {"axes": [1], "keepdims": 0}, {"noop_with_empty_axes": 1})
    ),
]

RESIZE_CASES = [
    *(
        case("resize", spread(1, 2, 5, 7), scales=[1, 1, 1.75, 0.625], mode=mode, coordinate_transformation_mode=how)
        for mode in ("nearest", "linear")
        for how in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")
    ),
    case("resize", spread(2, 3, 4, 5), sizes=[7, 2], axes=[3, 1], mode="linear"),
    *(case("upsample", spread(1, 2, 3, 4), scales=[1, 1, 2.5, 3], mode=mode) for mode in ("nearest", "linear")),
]

CASES = [
    *CONV_CASES,
    *POOL_CASES,
    *NORM_CASES,
    *LINEAR_CASES,
    *ARITHMETIC_CASES,
    *ELEMENTWISE_CASES,
    *SHAPE_CASES,
    *RESIZE_CASES,
]


@pytest.mark.parametrize(("forward", "backward", "args"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_backward(forward: Callable[..., Any], backward: Callable[..., Any], args: list[Any]) -> None:
    check_backward(forward, backward, args, np.random.default_rng(1))


LABELS = np.array([[0, 3, 1], [2, 2, 0]])
PROBABILITIES = np.linspace(0.05, 0.95, 24).reshape(2, 4, 3)
LOSSES: list[tuple[str, Callable[..., Any], Any, Any]] = [
    ("softmax_cross_entropy", ref.softmax_cross_entropy, spread(2, 4, 3), LABELS),
    ("softmax_cross_entropy, soft labels", ref.softmax_cross_entropy, spread(2, 4, 3), PROBABILITIES),
    ("squared_error", ref.squared_error, spread(2, 4, 3), PROBABILITIES),
    ("binary_cross_entropy", ref.binary_cross_entropy, PROBABILITIES[:, ::-1], PROBABILITIES),
    ("binary_cross_entropy_with_logits", ref.binary_cross_entropy_with_logits, spread(2, 4, 3), PROBABILITIES),
    ("l1", ref.l1, spread(5, 7), 0.3),
    ("l2", ref.l2, spread(5, 7), 0.3),
]


@pytest.mark.parametrize(("loss", "pred", "target"), [c[1:] for c in LOSSES], ids=[c[0] for c in LOSSES])
def test_gradient_of_loss(loss: Callable[..., Any], pred: Any, target: Any) -> None:
    directional(lambda x: loss(x, target)[0], [pred], [loss(pred, target)[1]], np.random.default_rng(1))


def test_cross_entropy_by_hand() -> None:
    loss, d = ref.softmax_cross_entropy([[0.0, math.log(3)], [0.0, 0.0]], [1, 0])
    assert loss == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    np.testing.assert_allclose(d, [[0.125, -0.125], [-0.25, 0.25]])
    one_hot, d_one_hot = ref.softmax_cross_entropy([[0.0, math.log(3)], [0.0, 0.0]], [[0, 1], [1, 0]])
    assert one_hot == pytest.approx(loss)
    np.testing.assert_allclose(d_one_hot, d)


def test_first_steps_of_the_optimizers_by_hand() -> None:
    w, velocity = ref.sgd([1.0], [2.0], [0.0], lr=0.1, momentum=0.5, weight_decay=1.0)
    assert (w[0], velocity[0]) == pytest.approx((0.7, 3.0))
    assert ref.sgd(w, [2.0], velocity, lr=0.1, momentum=0.5, nesterov=True)[0][0] == pytest.approx(0.7 - 0.1 * 3.75)
    # Adam's first step has the length lr, whatever the gradient.
    assert ref.adam([1.0], [-7.0], [0.0], [0.0], 1, lr=0.1)[0][0] == pytest.approx(1.1)
    assert ref.adamw([1.0], [-7.0], [0.0], [0.0], 1, lr=0.1, weight_decay=0.5)[0][0] == pytest.approx(1.05)


def test_a_wrong_gradient_is_noticed() -> None:
    x = spread(3, 4)
    wrong = np.cos(x)
    wrong[1, 2] += 1e-3
    with pytest.raises(AssertionError, match="finite differences say"):
        directional(lambda x: float(np.sin(x).sum()), [x], [wrong], np.random.default_rng(1))
