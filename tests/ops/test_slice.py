"""Slice, and the folding of shape arithmetic through it."""

import numpy as np
import pytest
import reference
from channels_last import ChannelsLast
from harness import Case

from nbcnn.errors import ModelError, UnsupportedError

rng = np.random.default_rng(7)
FAR = 2**63 - 1

CASES = [
    # shape, starts, ends, axes, steps
    ((2, 5, 7, 6), [1], [4], [1], None),
    ((2, 5, 7, 6), [0, 0], [FAR, FAR], [2, 3], [2, 2]),
    ((2, 5, 7, 6), [-1, -2], [-FAR, -FAR], [1, -1], [-1, -2]),
    ((2, 5, 7, 6), [-3, 1], [-1, 100], [-2, 3], None),
    ((2, 5, 7, 6), [6], [1], [2], [-3]),
    ((2, 5, 7, 6), [0, 1, 0, 2], [1, 3, 6, 5], None, None),
    ((2, 5, 7, 6), [0], [FAR], [1], None),
    ((2, 5, 7, 6), [4], [4], [1], None),
    ((2, 5, 7, 6), [100], [200], [3], None),
    ((2, 17, 40), [-1], [-FAR], [2], [-1]),
    ((3, 33), [0, 3], [2, 31], None, [1, 4]),
    ((9,), [1], [-1], None, [3]),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", [Case, ChannelsLast])
@pytest.mark.parametrize(("shape", "starts", "ends", "axes", "steps"), CASES)
def test_slice(
    shape: tuple[int, ...],
    starts: list[int],
    ends: list[int],
    axes: list[int] | None,
    steps: list[int] | None,
    case: type[Case],
    dtype: type,
) -> None:
    x = rng.normal(size=shape).astype(dtype)
    expected = reference.slice_(x, starts, ends, axes, steps)
    dy = rng.normal(size=expected.shape).astype(dtype)
    given = [None if v is None else np.array(v) for v in (starts, ends, axes, steps)]
    made = case("Slice", [x, *given], weights=(1, 2, 3, 4), dtype=dtype)
    (y,), (dx,) = made.run_training([dy])
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(dx, reference.slice_backward(dy, x, starts, ends, axes, steps))
    np.testing.assert_array_equal(made.run()[0], expected)


def test_opset_1_has_attributes() -> None:
    x = rng.normal(size=(2, 5, 4)).astype(np.float32)
    (y,) = Case("Slice", [x], {"starts": [1, -3], "ends": [5, -1], "axes": [1, 2]}, opset=7).run()
    np.testing.assert_array_equal(y, x[:, 1:5, -3:-1])
    (y,) = Case("Slice", [x], {"starts": [1], "ends": [9]}, opset=9).run()
    np.testing.assert_array_equal(y, x[1:9])


def test_integers_that_are_fed() -> None:
    x = rng.integers(-5, 5, (4, 6))
    (y,) = Case("Slice", [x, np.array([3]), np.array([-9]), np.array([0]), np.array([-2])], weights=(1, 2, 3, 4)).run()
    assert y.dtype == np.int64
    np.testing.assert_array_equal(y, x[3::-2])


def test_what_cannot_be_sliced() -> None:
    x, one = np.zeros((2, 3), np.float32), np.array([1])
    with pytest.raises(ModelError, match="axis 2 is outside a tensor of 2 dimensions"):
        Case("Slice", [x, one, one, np.array([2])], weights=(1, 2, 3)).run()
    with pytest.raises(ModelError, match=r"steps \[0\] do not fit"):
        Case("Slice", [x, one, one, one, np.array([0])], weights=(1, 2, 3, 4)).run()
    with pytest.raises(UnsupportedError, match=r"starts .* must be a constant"):
        Case("Slice", [x, one, one], weights=(2,)).run()
