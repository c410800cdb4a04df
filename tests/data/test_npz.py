"""NumPy archives as data sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nbcnn.data import Preprocessing, open_data, read_npz
from nbcnn.errors import DataError, FileError


def test_x_and_y(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    x = np.random.default_rng(0).normal(size=(4, 3, 5, 5))
    np.savez(path, x=x, y=np.array([[0], [1], [1], [0]]), classes=["cat", "dog"])
    data, none = open_data(path)
    assert none is None and data.classes == ["cat", "dog"]
    got, t = data.batch(np.array([2, 3]))
    np.testing.assert_array_equal(got, x[2:].astype(np.float32))
    np.testing.assert_array_equal(t, [1, 0])


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 8, 8, 1), (2, 1, 8, 8)])
def test_bytes_are_pictures(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "a.npz"
    x = np.arange(128, dtype=np.uint8)
    y = np.array([0, 1])
    np.savez_compressed(path, x_train=x.reshape(shape), y_train=y, x_test=x[64:].reshape(1, *shape[1:]), y_test=y[:1])
    train, test = read_npz(path)
    assert test is not None and (len(train), len(test), train.shape) == (2, 1, (1, 8, 8))
    np.testing.assert_allclose(train.batch(np.array([0, 1]))[0].ravel() * 255, x, rtol=1e-6)
    assert open_data(path, size=16)[0].shape == (1, 16, 16)


def test_other_keys_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, images=np.zeros(2), x=np.zeros(2))
    with pytest.raises(DataError, match=r"needs the arrays x and y, .*; it holds images, x$"):
        read_npz(path)


def test_preprocessing_needs_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((2, 1, 4, 4)), y=np.zeros(2, int))
    with pytest.raises(DataError, match="need pictures as uint8, but x is float64"):
        read_npz(path, Preprocessing())


def test_files_that_are_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((20, 20)), y=np.zeros(20, int))
    whole = path.read_bytes()
    for damaged in (b"", b"hello", whole[:100], whole[:-30]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"not a whole \.npz archive") as caught:
            read_npz(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value) and "pickle" not in str(caught.value)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match="a single array"):
        read_npz(path)
    np.savez(path, x=np.array([{}], dtype=object), y=np.zeros(1, int))
    with pytest.raises(DataError, match=r"not a whole \.npz archive of plain arrays"):
        read_npz(path)
    with pytest.raises(FileError, match="cannot read"):
        read_npz(tmp_path / "none.npz")
