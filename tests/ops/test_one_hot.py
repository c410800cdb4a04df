"""OneHot against a loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import Case

from nbcnn.errors import ModelError


@pytest.mark.parametrize("fed", [True, False])
@pytest.mark.parametrize("kinds", [(np.int64, np.float32), (np.float32, np.int32), (np.uint8, np.bool_)])
@pytest.mark.parametrize("axis", [-1, 0, 1, 2, -2])
def test_one_hot(axis: int, kinds: tuple[Any, Any], fed: bool) -> None:
    depth, off, on = 4, 0, 1 if kinds[1] is np.bool_ else 7
    indices = np.array([[0, 3, 2], [1, 9, 0]]) if kinds[0] is np.uint8 else np.array([[0, 3, -1], [-4, 9, -5]])
    wanted = np.full((2, 3, depth), off)
    for place, index in np.ndenumerate(indices):
        if -depth <= index < depth:
            wanted[(*place, index)] = on
    inputs = [indices.astype(kinds[0]), np.array(depth), np.array([off, on], kinds[1])]
    (y,) = Case("OneHot", list(inputs), {"axis": axis}, weights=(1,) if fed else (0, 1, 2)).run()
    np.testing.assert_array_equal(y, np.moveaxis(wanted, -1, axis))
    assert y.dtype == kinds[1]


def test_no_indices() -> None:
    y = Case("OneHot", [np.zeros((0, 2), np.int64), np.array([3]), np.array([0, 1])], weights=(1, 2)).run()[0]
    assert y.shape == (0, 2, 3)


def test_wrong_depth_and_values_are_errors() -> None:
    with pytest.raises(ModelError, match="OneHot 'node': the depth"):
        Case("OneHot", [np.array([1]), np.array(-2), np.array([0, 1])], weights=(1, 2)).run()
    with pytest.raises(ModelError, match="OneHot 'node': values are two numbers"):
        Case("OneHot", [np.array([1]), np.array(2), np.array([1])], weights=(1, 2)).run()
