"""Data sets in memory, label checks, splits, and the embedded digits."""

from __future__ import annotations

import numpy as np
import pytest

from nbcnn.data import ArrayDataset, Dataset, PixelDataset, Preprocessing, as_dataset, check_labels, digits, split
from nbcnn.errors import DataError, InputError


def test_array_dataset_gives_float32_and_int64() -> None:
    x = np.arange(24, dtype=np.float64).reshape(4, 1, 2, 3)
    data = ArrayDataset(x, np.array([0, 1, 2, 1], np.uint8), classes=["a", "b", "c"])
    assert isinstance(data, Dataset)
    assert (len(data), data.shape, data.classes) == (4, (1, 2, 3), ["a", "b", "c"])
    got, t = data.batch(np.array([3, 0]))
    assert got.dtype == np.float32 and t.dtype == np.int64
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(got, x[[3, 0]])
    np.testing.assert_array_equal(t, [1, 0])


def test_batches_are_copies() -> None:
    x = np.zeros((2, 1, 2, 2), np.float32)
    got, _ = ArrayDataset(x, np.zeros(2, np.int64)).batch(np.array([0, 1]))
    got += 1
    assert not x.any()


def test_float_targets_stay_floats() -> None:
    data = ArrayDataset(np.zeros((3, 2)), np.array([[0.5, 1.5]] * 3))
    assert data.labels is None
    _, t = data.batch(np.array([1]))
    assert t.dtype == np.float32 and t.shape == (1, 2)


@pytest.mark.parametrize(
    ("x", "t", "message"),
    [
        (np.zeros((3, 2)), np.zeros(2, int), "x has 3 samples but t has 2"),
        (np.zeros((0, 2)), np.zeros(0, int), "the data set is empty"),
        (np.zeros(3), np.zeros(3, int), "x must have shape"),
        (np.zeros((2, 2)), np.array(["a", "b"]), "t must hold numbers"),
    ],
)
def test_arrays_that_do_not_fit(x: np.ndarray, t: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ArrayDataset(x, t)


def test_pixel_dataset_scales_and_adds_a_channel() -> None:
    pixels = np.array([[[0, 255], [51, 102]]], np.uint8)
    x, t = PixelDataset(pixels, np.array([4])).batch(np.array([0]))
    np.testing.assert_allclose(x, [[[[0.0, 1.0], [0.2, 0.4]]]], rtol=1e-6)
    np.testing.assert_array_equal(t, [4])


def test_pixel_dataset_resizes_and_converts_as_asked() -> None:
    pixels = np.full((2, 4, 4), 51, np.uint8)
    data = PixelDataset(pixels, np.array([0, 1]), preprocessing=Preprocessing(size=(6, 8), channels=3))
    x, _ = data.batch(np.array([1, 0]))
    assert data.shape == x.shape[1:] == (3, 6, 8)
    np.testing.assert_allclose(x, 0.2, rtol=1e-6)


def test_check_labels_names_the_first_bad_one() -> None:
    check_labels(np.array([0, 9]), 10)
    with pytest.raises(DataError, match=r"^label 10 of sample 2 is outside 0\.\.9 \(2 of 4 labels are\)"):
        check_labels(np.array([0, 9, 10, -1]), 10)
    with pytest.raises(DataError, match=r"label -1 of sample 0 is outside 0\.\.1"):
        ArrayDataset(np.zeros((1, 2)), np.array([-1]), classes=["a", "b"])


def test_split_holds_back_a_fraction_once() -> None:
    data = ArrayDataset(np.arange(20.0).reshape(10, 2), np.arange(10))
    train, held = split(data, 0.3, seed=1)
    assert (len(train), len(held)) == (7, 3)
    assert train.labels is not None and held.labels is not None
    assert sorted([*train.labels, *held.labels]) == list(range(10))
    x, t = held.batch(np.array([1]))
    assert x[0, 0] == 2 * t[0]
    with pytest.raises(InputError, match="between 0 and 1"):
        split(data, 1.5)
    with pytest.raises(DataError, match="one of the two parts would be empty"):
        split(data, 0.01)


def test_as_dataset() -> None:
    data = as_dataset((np.zeros((2, 1)), np.array([0, 1])))
    assert len(data) == 2 and as_dataset(data) is data
    with pytest.raises(InputError, match="not ndarray"):
        as_dataset(np.zeros(3))


def test_embedded_digits() -> None:
    train, test = digits()
    assert (len(train), len(test), train.shape) == (1437, 360, (1, 8, 8))
    assert train.classes == [str(digit) for digit in range(10)]
    x, t = train.batch(np.arange(len(train)))
    assert x.dtype == np.float32 and x.min() == 0 and x.max() == 1
    assert np.bincount(t).min() > 100
    # facts of the published set: how often each digit occurs, and the sum of all pixels 0..16
    held, u = test.batch(np.arange(len(test)))
    np.testing.assert_array_equal(np.bincount([*t, *u]), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
    assert 16 * (x.sum(dtype=np.float64) + held.sum(dtype=np.float64)) == 561718
