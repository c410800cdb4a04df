"""Concat and Split."""

import numpy as np
import pytest
import reference
from channels_last import ChannelsLast
from harness import Case

from nbcnn.errors import ModelError

rng = np.random.default_rng(6)


def normal(dtype: type, *shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", [Case, ChannelsLast])
@pytest.mark.parametrize(
    ("shapes", "axis"),
    [
        ([(2, 3, 5, 4), (2, 17, 5, 4), (2, 1, 5, 4)], 1),
        ([(1, 64, 9, 9), (1, 33, 9, 9)], -3),
        ([(2, 3, 5, 4), (2, 3, 1, 4)], 2),
        ([(2, 3, 5, 4), (2, 3, 5, 2)], -1),
        ([(1, 3, 2, 2), (3, 3, 2, 2)], 0),
        ([(2, 5, 7)], 1),
        ([(2, 3, 4, 2, 1), (2, 2, 4, 2, 1)], 1),
        ([(3, 2), (3, 4)], 1),
        ([(4,), (1,)], 0),
    ],
)
def test_concat(shapes: list[tuple[int, ...]], axis: int, case: type[Case], dtype: type) -> None:
    xs = [normal(dtype, *shape) for shape in shapes]
    expected = reference.concat(*xs, axis=axis)
    dy = normal(dtype, *expected.shape)
    made = case("Concat", list(xs), {"axis": axis}, dtype=dtype)
    (y,), dxs = made.run_training([dy], tuple(range(len(xs))))
    np.testing.assert_array_equal(y, expected)
    for dx, expected_dx in zip(dxs, reference.concat_backward(dy, *xs, axis=axis), strict=True):
        np.testing.assert_array_equal(dx, expected_dx)
    np.testing.assert_array_equal(made.run()[0], expected)


def test_concat_of_an_empty_part_and_of_one_value_twice() -> None:
    x, none = normal(np.float32, 2, 3, 4), np.empty((2, 0, 4), np.float32)
    np.testing.assert_array_equal(Case("Concat", [none, x, none], {"axis": 1}).run()[0], x)
    np.testing.assert_array_equal(Case("Concat", [none, none], {"axis": 1}).run()[0], none)


def test_concat_of_shapes_that_do_not_fit() -> None:
    with pytest.raises(ModelError, match=r"Concat 'node': inputs \(2, 3\), \(3, 3\) differ in more than axis 1"):
        Case("Concat", [np.zeros((2, 3), np.float32), np.zeros((3, 3), np.float32)], {"axis": 1}).run()


@pytest.mark.parametrize("case", [Case, ChannelsLast])
@pytest.mark.parametrize(
    ("shape", "axis", "sizes", "count", "opset"),
    [
        ((2, 7, 3, 2), 1, [1, 4, 2], 3, 13),
        ((2, 7, 3, 2), -3, [3, 0, 4], 3, 11),
        ((2, 6, 3, 4), 3, None, 2, 2),
        ((2, 6, 3, 4), 0, None, 2, 13),
        ((2, 7, 3, 4), 1, None, 3, 18),
        ((5,), 0, [2, 3], 2, 13),
        ((1, 3, 5), 1, None, 1, 13),
    ],
)
def test_split(
    shape: tuple[int, ...], axis: int, sizes: list[int] | None, count: int, opset: int, case: type[Case]
) -> None:
    x = normal(np.float32, *shape)
    expected = reference.split(x, sizes, axis, count)
    attrs: dict[str, object] = {"axis": axis}
    inputs: list[np.ndarray | None] = [x]
    if sizes is not None and opset < 13:
        attrs["split"] = sizes
    elif sizes is not None:
        inputs.append(np.array(sizes))
    if opset == 18:
        attrs["num_outputs"] = count
    dys = [normal(np.float32, *part.shape) for part in expected]
    made = case("Split", inputs, attrs, weights=(1,), outputs=count, opset=opset)
    ys, (dx,) = made.run_training(dys)
    for y, part in zip(ys, expected, strict=True):
        np.testing.assert_array_equal(y, part)
    np.testing.assert_array_equal(dx, reference.split_backward(dys, axis))


@pytest.mark.parametrize("case", [Case, ChannelsLast])
def test_split_with_a_part_that_no_loss_depends_on(case: type[Case]) -> None:
    x, dy = normal(np.float32, 2, 6, 3), normal(np.float32, 2, 2, 3)
    _, (dx,) = case("Split", [x], {"axis": 1}, outputs=3).run_training([dy])
    np.testing.assert_array_equal(dx, reference.split_backward([dy, 0 * dy, 0 * dy], 1))


def test_split_that_does_not_fit() -> None:
    x = np.zeros((2, 7), np.float32)
    with pytest.raises(ModelError, match=r"axis 1 of \(2, 7\) does not split into 2 parts \[3, 5\]"):
        Case("Split", [x, np.array([3, 5])], {"axis": 1}, weights=(1,), outputs=2).run()
    with pytest.raises(ModelError, match=r"axis 1 of \(2, 7\) does not split into 2 equal parts"):
        Case("Split", [x], {"axis": 1}, outputs=2).run()
