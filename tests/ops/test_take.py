"""Gather of floats, and shape arithmetic that is folded."""

import numpy as np
import pytest
import reference
from channels_last import ChannelsLast
from harness import Case

from nbcnn.errors import ModelError
from nbcnn.passes.specialize import specialize

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
    tolerance = 1e-6 if dtype is np.float32 else 1e-14
    for weights in ((1,), ()):  # known indices, and computed ones
        made = case("Gather", [x, np.array(indices)], {"axis": axis}, weights=weights, dtype=dtype)
        (y,), (dx,) = made.run_training([dy])
        np.testing.assert_array_equal(y, expected)
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
    with pytest.raises(ModelError, match="an index is outside of the axes it counts, of size 3"):
        Case("Gather", [x, np.array([0, 3])], {"axis": 1}).run()


def test_integers_that_are_fed() -> None:
    x = rng.integers(-9, 9, (2, 3, 4)).astype(np.int32)
    at = np.array([[0, -1], [2, 1]])
    for weights in ((1,), ()):
        (y,) = Case("Gather", [x, at], {"axis": 1}, weights=weights).run()
        np.testing.assert_array_equal(y, x.take(at, 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, bool])
@pytest.mark.parametrize("case", [Case, ChannelsLast])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_compress(axis: int | None, case: type[Case], dtype: type) -> None:
    x = rng.normal(size=(3, 4, 2, 5)).astype(dtype)
    marks = np.array([True, False, True]) if axis is not None else rng.random(100) < 0.5
    if axis == -1:
        marks = np.array([False, True])
    attrs = {} if axis is None else {"axis": axis}
    expected = np.compress(marks, x, axis)
    made = case("Compress", [x, marks], attrs, weights=(1,), dtype=dtype if dtype is np.float64 else np.float32)
    np.testing.assert_array_equal(made.run()[0], expected)
    if x.dtype.kind == "f":
        dy = rng.normal(size=expected.shape).astype(dtype)
        _, (dx,) = made.run_training([dy])
        assert dx.sum() == pytest.approx(dy.sum(), rel=1e-4)
        np.testing.assert_allclose(np.compress(marks, dx, axis), dy)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("case", [Case, ChannelsLast])
@pytest.mark.parametrize(
    ("shape", "repeats"),
    [((2, 3, 4, 5), (1, 2, 3, 2)), ((1, 3, 1, 1), (2, 1, 4, 4)), ((3,), (4,)), ((2, 3), (2, 0)), ((), ())],
)
def test_tile(shape: tuple[int, ...], repeats: tuple[int, ...], case: type[Case], dtype: type) -> None:
    x = (9 * rng.normal(size=shape)).astype(dtype)
    expected = np.tile(x, repeats) if shape else x
    made = case(
        "Tile",
        [x, np.array(repeats, np.int64)],
        weights=(1,),
        dtype=np.dtype(dtype if dtype is np.float64 else np.float32),
    )
    np.testing.assert_array_equal(made.run()[0], expected)
    if x.dtype.kind == "f" and expected.size and shape:
        dy = rng.normal(size=expected.shape).astype(dtype)
        split = [part for n, times in zip(shape, repeats, strict=True) for part in (times, n)]
        _, (dx,) = made.run_training([dy])
        sums = dy.astype(np.float64).reshape(split).sum(tuple(range(0, 2 * len(shape), 2)))
        np.testing.assert_allclose(dx, sums, rtol=1e-4, atol=1e-5)


def test_tile_of_opset_1() -> None:
    x = rng.normal(size=(2, 3)).astype(np.float32)
    (y,) = Case("Tile", [x, np.array(2), np.array(1)], weights=(1, 2), opset=1).run()
    np.testing.assert_array_equal(y, np.tile(x, (1, 2)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("rest", [(), (3,), (2, 3)])
def test_reverse_sequence(batch: int, rest: tuple[int, ...], dtype: type) -> None:
    x = (9 * rng.normal(size=(4, 5, *rest))).astype(dtype)
    lengths = np.array([5, 0, 2, 3]) if batch == 0 else np.array([1, 4, 3, 0, 2])
    lengths = np.minimum(lengths, x.shape[1 - batch])
    expected = x.copy()
    for k, n in enumerate(lengths):
        line = (k, slice(0, n)) if batch == 0 else (slice(0, n), k)
        expected[line] = x[line][::-1]
    attrs = {"batch_axis": batch, "time_axis": 1 - batch}
    made = Case(
        "ReverseSequence",
        [x, lengths],
        attrs,
        weights=(1,),
        dtype=np.dtype(dtype if dtype is np.float64 else np.float32),
    )
    np.testing.assert_array_equal(made.run()[0], expected)
    if x.dtype.kind == "f":
        (_,), (dx,) = made.run_training([expected])
        np.testing.assert_array_equal(dx, x)


def test_a_constant_is_not_repeated_beyond_all_bounds() -> None:
    x = np.ones((2, 2), np.int64)
    graph = Case("Tile", [x, np.array([1 << 20, 1 << 20])], weights=(0, 1)).graph()
    (node,) = specialize(graph, {}, np.dtype(np.float32)).nodes
    assert node.op == "Tile"
