"""Reshape, Flatten, Squeeze, Unsqueeze and Identity: the same elements in ONNX order under another shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from channels_last import ChannelsLast
from harness import Case

from nbcnn.errors import ModelError, UnsupportedError

rng = np.random.default_rng(13)

CASES: list[tuple[str, tuple[int, ...], list[int] | None, dict[str, Any], int, tuple[int, ...]]] = [
    # operator, shape, second input, attributes, opset, shape of the result
    ("Reshape", (2, 3, 4, 5), [2, -1], {}, 5, (2, 60)),
    ("Reshape", (2, 3, 4, 5), [0, 0, -1], {}, 13, (2, 3, 20)),
    ("Reshape", (2, 6, 4), [2, 2, 3, 4, 1], {}, 14, (2, 2, 3, 4, 1)),
    ("Reshape", (2, 3, 4, 5), [-1], {"allowzero": 1}, 14, (120,)),
    ("Reshape", (3, 0, 2), [0, -1, 2], {"allowzero": 0}, 14, (3, 0, 2)),
    ("Reshape", (3, 0, 2), [0, 5], {"allowzero": 1}, 14, (0, 5)),
    ("Reshape", (1, 5, 1, 1), [1, 5], {}, 13, (1, 5)),
    ("Flatten", (2, 3, 4, 5), None, {}, 9, (2, 60)),
    ("Flatten", (2, 3, 4, 5), None, {"axis": 0}, 9, (1, 120)),
    ("Flatten", (2, 3, 4, 5), None, {"axis": -1}, 13, (24, 5)),
    ("Flatten", (2, 3, 4, 5), None, {"axis": 4}, 13, (120, 1)),
    ("Squeeze", (2, 1, 4, 1), None, {}, 11, (2, 4)),
    ("Squeeze", (2, 1, 4, 1), None, {"axes": [1]}, 7, (2, 4, 1)),
    ("Squeeze", (2, 5, 1, 1), [-1, 2], {}, 13, (2, 5)),
    ("Unsqueeze", (2, 3, 4), None, {"axes": [0, 4]}, 7, (1, 2, 3, 4, 1)),
    ("Unsqueeze", (2, 3, 4), [-1, 1], {}, 13, (2, 1, 3, 4, 1)),
    ("Identity", (2, 3, 4, 5), None, {}, 16, (2, 3, 4, 5)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", [Case, ChannelsLast])
@pytest.mark.parametrize(("op", "shape", "given", "attrs", "opset", "expected"), CASES)
def test_views(
    op: str,
    shape: tuple[int, ...],
    given: list[int] | None,
    attrs: dict[str, Any],
    opset: int,
    expected: tuple[int, ...],
    case: type[Case],
    dtype: Any,
) -> None:
    if 0 in shape:
        case = Case  # a convolution has no such input
    x, dy = rng.normal(size=shape).astype(dtype), rng.normal(size=expected).astype(dtype)
    inputs = [x] if given is None else [x, np.array(given)]
    made = case(op, list(inputs), attrs, weights=(1,), opset=opset, dtype=dtype)
    (y,), (dx,) = made.run_training([dy])
    np.testing.assert_array_equal(y, x.reshape(expected))
    np.testing.assert_array_equal(dx, dy.reshape(shape))


def test_known_integers_are_folded() -> None:
    (y,) = Case("Unsqueeze", [np.array([4, 5]), np.array([0])], weights=(0, 1)).run()
    np.testing.assert_array_equal(y, [[4, 5]])


@pytest.mark.parametrize(
    ("op", "given", "attrs", "message"),
    [
        ("Reshape", [7, -1], {}, r"cannot give \(2, 3, 4\) the shape \[7, -1\]"),
        ("Reshape", [-1, -1], {}, r"cannot give \(2, 3, 4\) the shape"),
        ("Reshape", [4, 12], {}, r"cannot give .* the shape"),
        ("Reshape", [1, 12], {}, "the file fixes the batch size to 1 here"),
        ("Reshape", [2, 3, 4, 0], {}, "copies a dimension that the input"),
        ("Flatten", None, {"axis": 4}, "axis 4 is outside"),
        ("Squeeze", [1], {}, "are not all of size 1"),
        ("Squeeze", [3], {}, "axis 3 is outside a tensor of 3 dimensions"),
        ("Unsqueeze", [4], {}, "axis 4 is outside a tensor of 4 dimensions"),
        ("Unsqueeze", [1, 1], {}, "name a dimension twice"),
    ],
)
def test_what_does_not_fit(op: str, given: list[int] | None, attrs: dict[str, Any], message: str) -> None:
    x = np.zeros((2, 3, 4), np.float32)
    inputs = [x] if given is None else [x, np.array(given)]
    with pytest.raises(ModelError, match=message):
        Case(op, list(inputs), attrs, weights=(1,)).run()


def test_a_shape_that_depends_on_data() -> None:
    with pytest.raises(UnsupportedError, match=r"the shape .* must be a constant"):
        Case("Reshape", [np.zeros(4, np.float32), np.array([2, 2])]).run()
