"""Gather of floats, and shape arithmetic that is folded."""

import numpy as np
import pytest
import reference
from channels_last import ChannelsLast
from harness import Case

from nbcnn.errors import ModelError, UnsupportedError

rng = np.random.default_rng(9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", [Case, ChannelsLast])
@pytest.mark.parametrize(
    ("shape", "indices", "axis"),
    [
        ((2, 5, 3, 4), [4, 0, 0, -1, 2], 1),
        ((2, 5, 3, 4), [1, 1, 1], -1),
        ((2, 5, 3, 4), 3, 1),
        ((2, 5, 3, 4), -1, 3),
        ((2, 5, 3), [[0, 2], [2, 1]], 2),
        ((2, 5, 3, 4), [[0, 2, 4]], 1),
        ((7, 3), [[6, 0], [-7, 6]], 0),
        ((4,), 2, 0),
        ((4, 2), [0, 1, 2, 3], 0),
    ],
)
def test_gather(shape: tuple[int, ...], indices: object, axis: int, case: type[Case], dtype: type) -> None:
    x = rng.normal(size=shape).astype(dtype)
    expected = reference.gather(x, indices, axis)
    dy = rng.normal(size=expected.shape).astype(dtype)
    made = case("Gather", [x, np.array(indices)], {"axis": axis}, weights=(1,), dtype=dtype)
    (y,), (dx,) = made.run_training([dy])
    np.testing.assert_array_equal(y, expected)
    tolerance = 1e-6 if dtype is np.float32 else 1e-14
    np.testing.assert_allclose(dx, reference.gather_backward(dy, x, indices, axis), rtol=tolerance, atol=tolerance)


def test_gather_of_nothing_and_of_integers() -> None:
    x = np.arange(6, dtype=np.int64).reshape(2, 3)
    assert Case("Gather", [x, np.array([], np.int64)], {"axis": 1}, weights=(1,)).run()[0].shape == (2, 0)
    (y,) = Case("Gather", [x, np.array([2, 0])], {"axis": 1}, weights=(1,)).run()
    assert y.dtype == np.int64
    np.testing.assert_array_equal(y, x[:, [2, 0]])


def test_what_cannot_be_gathered() -> None:
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(ModelError, match="indices 0 to 3 leave an axis of 3"):
        Case("Gather", [x, np.array([0, 3])], {"axis": 1}, weights=(1,)).run()
    with pytest.raises(UnsupportedError, match="must be a constant"):
        Case("Gather", [x, np.array([0, 1])]).run()
