"""Expand."""

import numpy as np
import pytest
from channels_last import ChannelsLast
from harness import Case

from nbcnn.errors import ModelError

rng = np.random.default_rng(11)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", [Case, ChannelsLast])
@pytest.mark.parametrize(
    ("shape", "asked"),
    [
        ((2, 5, 1, 1), (2, 5, 3, 4)),
        ((2, 17, 1, 4), (1, 1, 3, 1)),
        ((1, 3, 5), (2, 4, 3, 5)),
        ((5,), (3, 5)),
        ((3, 1), (2, 3, 7)),
        ((), (2, 2)),
        ((2, 3), (1, 1)),
        ((1, 2), (0, 2)),
        ((1, 33, 1, 1), (2, 33, 9, 8)),
    ],
)
def test_expand(shape: tuple[int, ...], asked: tuple[int, ...], case: type[Case], dtype: type) -> None:
    x = rng.normal(size=shape).astype(dtype)
    expected = x * np.ones(asked, dtype)
    dy = rng.normal(size=expected.shape).astype(dtype)
    made = case("Expand", [x, np.array(asked)], weights=(1,), dtype=dtype)
    (y,), (dx,) = made.run_training([dy])
    np.testing.assert_array_equal(y, expected)
    spare = dy.ndim - x.ndim
    repeated = tuple(i for i, n in enumerate(dy.shape) if i < spare or (shape[i - spare] == 1 and n != 1))
    expected_dx = dy.sum(axis=repeated, dtype=np.float64).reshape(shape)
    tolerance = 1e-5 if dtype is np.float32 else 1e-13
    np.testing.assert_allclose(dx, expected_dx, rtol=tolerance, atol=tolerance)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ModelError, match=r"\(2, 3\) cannot be expanded to \[2, 2\]"):
        Case("Expand", [np.zeros((2, 3), np.float32), np.array([2, 2])], weights=(1,)).run()
