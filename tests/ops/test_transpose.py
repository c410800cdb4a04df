"""Transpose, DepthToSpace and SpaceToDepth."""

from itertools import permutations

import numpy as np
import pytest
import reference
from channels_last import ChannelsLast
from harness import Case
from onnx import helper
from onnx.reference import ReferenceEvaluator

rng = np.random.default_rng(5)

CASES = [
    ((3, 4), None),
    ((70, 45), (1, 0)),
    ((2, 5, 1, 7), (0, 2, 3, 1)),
    ((2, 3, 17, 5), (0, 3, 1, 2)),
    ((1, 33, 20, 19), (0, 2, 3, 1)),
    ((2, 3, 4, 5), (3, 2, 1, 0)),
    ((2, 3, 4), (2, 0, 1)),
    ((2, 3, 2, 4, 5), (4, 1, 3, 0, 2)),
    ((2, 1, 3, 2, 2, 3, 2), (6, 5, 4, 3, 2, 0, 1)),
    ((7,), (0,)),
    ((), ()),
    ((3, 0, 2), (2, 1, 0)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", [Case, ChannelsLast])
@pytest.mark.parametrize(("shape", "perm"), CASES)
def test_transpose(shape: tuple[int, ...], perm: tuple[int, ...] | None, case: type[Case], dtype: type) -> None:
    if case is ChannelsLast and (0 in shape or len(shape) == 7):
        case = Case  # a convolution has no such input
    x = rng.normal(size=shape).astype(dtype)
    dy = rng.normal(size=np.transpose(x, perm).shape).astype(dtype)
    made = case("Transpose", [x], {} if perm is None else {"perm": list(perm)}, dtype=dtype)
    (y,), (dx,) = made.run_training([dy])
    np.testing.assert_array_equal(y, reference.transpose(x, perm))
    np.testing.assert_array_equal(dx, reference.transpose_backward(dy, x, perm))
    np.testing.assert_array_equal(made.run()[0], y)


def test_every_order_of_four_axes() -> None:
    x = rng.normal(size=(2, 3, 5, 4)).astype(np.float32)
    for perm in permutations(range(4)):
        for case in (Case, ChannelsLast):
            (y,) = case("Transpose", [x], {"perm": list(perm)}).run()
            np.testing.assert_array_equal(y, x.transpose(perm))


@pytest.mark.parametrize("case", [Case, ChannelsLast])
@pytest.mark.parametrize(
    ("op", "attrs", "shape"),
    [
        ("DepthToSpace", {"blocksize": 2}, (2, 12, 3, 5)),
        ("DepthToSpace", {"blocksize": 3, "mode": "CRD"}, (1, 18, 2, 3)),
        ("DepthToSpace", {"blocksize": 2, "mode": "DCR"}, (1, 4, 1, 1)),
        ("SpaceToDepth", {"blocksize": 2}, (2, 3, 4, 6)),
        ("SpaceToDepth", {"blocksize": 1}, (1, 5, 2, 2)),
    ],
)
def test_blocks(op: str, attrs: dict[str, object], shape: tuple[int, ...], case: type[Case]) -> None:
    x = rng.normal(size=shape).astype(np.float32)
    (expected,) = ReferenceEvaluator(helper.make_node(op, ["x"], ["y"], **attrs)).run(None, {"x": x})
    dy = rng.normal(size=expected.shape).astype(np.float32)
    (y,), (dx,) = case(op, [x], attrs).run_training([dy])
    np.testing.assert_array_equal(y, expected)
    # Every element goes to one place: the gradient of <y(x), dy> by x[i] is dy at the place of x[i].
    numbers = np.arange(x.size, dtype=np.float32).reshape(shape)
    (places,) = ReferenceEvaluator(helper.make_node(op, ["x"], ["y"], **attrs)).run(None, {"x": numbers})
    expected_dx = np.empty(x.size, np.float32)
    expected_dx[places.astype(int).reshape(-1)] = dy.reshape(-1)
    np.testing.assert_array_equal(dx.reshape(-1), expected_dx)
