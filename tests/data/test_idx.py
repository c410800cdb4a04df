"""IDX files made here byte by byte, and the real MNIST where it is at hand."""

from __future__ import annotations

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nbcnn.data import IdxDataset, Preprocessing, mnist_folder, open_data, read_idx
from nbcnn.errors import DataError, FileError

REAL = Path(os.environ.get("NBCNN_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


def idx(code: int, shape: tuple[int, ...], values: bytes) -> bytes:
    return bytes([0, 0, code, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + values


def write_set(folder: Path, part: str, count: int, suffix: str = "") -> None:
    pack = gzip.compress if suffix else bytes
    images = idx(0x08, (count, 2, 3), bytes(range(count * 6)))
    labels = idx(0x08, (count,), bytes(i % 4 for i in range(count)))
    (folder / f"{part}-images-idx3-ubyte{suffix}").write_bytes(pack(images))
    (folder / f"{part}-labels-idx1-ubyte{suffix}").write_bytes(pack(labels))


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("code", "letter", "values"),
    [
        (0x08, "B", [0, 1, 254, 255]),
        (0x09, "b", [0, 1, -2, -128]),
        (0x0B, "h", [0, 1, -2, 300]),
        (0x0C, "i", [0, 1, -2, 70000]),
        (0x0D, "f", [0, 1, -2.5, 2.0**80]),
        (0x0E, "d", [0, 1, -2.5, 2.0**800]),
    ],
)
def test_every_type(
    tmp_path: Path, pack: Callable[[bytes], bytes], code: int, letter: str, values: list[float]
) -> None:
    path = tmp_path / "a.idx"
    path.write_bytes(pack(idx(code, (2, 2), struct.pack(f">4{letter}", *values))))
    got = read_idx(path)
    assert got.dtype == np.dtype(letter) and got.dtype.isnative
    assert got.tolist() == [values[:2], values[2:]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an IDX file"),
        (b"PK\x03\x04 and more", "not an IDX file"),
        (bytes([0, 0, 8, 3, 0, 0]), "ends inside its header"),
        (idx(0x08, (2, 2), b"abc"), r"\(2, 2\) of uint8 needs 4 bytes but 3 follow"),
        (idx(0x08, (2,), b"abc"), "needs 2 bytes but 3 follow"),
        (idx(0x08, (0xFFFFFFFF,) * 4, b"abc"), "but 3 follow"),
        (gzip.compress(idx(0x08, (100,), bytes(range(100))))[:-20], "the gzip data is damaged or cut short"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "bad.idx"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot read"):
        read_idx(tmp_path / "none")


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist_folder(tmp_path: Path, suffix: str) -> None:
    write_set(tmp_path, "train", 8, suffix)
    write_set(tmp_path, "t10k", 4, suffix)
    train, test = mnist_folder(tmp_path)
    assert (len(train), len(test), train.shape, train.classes) == (8, 4, (1, 2, 3), ["0", "1", "2", "3"])
    x, t = train.batch(np.array([1]))
    np.testing.assert_allclose(x[0, 0] * 255, [[6, 7, 8], [9, 10, 11]], rtol=1e-6)
    assert t == [1]
    opened, held = open_data(tmp_path)
    assert held is not None and (len(opened), len(held)) == (8, 4)


def test_one_picture_file_finds_its_labels(tmp_path: Path) -> None:
    write_set(tmp_path, "train", 8, ".gz")
    train, held = open_data(tmp_path / "train-images-idx3-ubyte.gz", validation=0.25)
    assert held is not None and (len(train), len(held)) == (6, 2)


def test_size_keeps_the_channels(tmp_path: Path) -> None:
    write_set(tmp_path, "train", 8)
    write_set(tmp_path, "t10k", 4)
    assert open_data(tmp_path, size=(4, 4))[0].shape == (1, 4, 4)
    assert open_data(tmp_path, size=4, preprocessing=Preprocessing(mean=(0.5,)))[0].shape == (3, 4, 4)


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    write_set(tmp_path, "train", 8)
    with pytest.raises(DataError, match=r"has no t10k-images-idx3-ubyte or t10k-images-idx3-ubyte\.gz"):
        mnist_folder(tmp_path)


def test_pictures_and_labels_that_do_not_belong_together(tmp_path: Path) -> None:
    write_set(tmp_path, "train", 8)
    write_set(tmp_path, "t10k", 4)
    images, labels = tmp_path / "train-images-idx3-ubyte", tmp_path / "t10k-labels-idx1-ubyte"
    with pytest.raises(DataError, match=r"has 8 pictures but .* has 4 labels"):
        IdxDataset(images, labels)
    with pytest.raises(DataError, match="not a list of labels"):
        IdxDataset(images, images)
    with pytest.raises(DataError, match="not uint8 pictures"):
        IdxDataset(labels, labels)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_real_sets(name: str) -> None:
    if not (REAL / name).is_dir():
        pytest.skip(f"no {name} in {REAL}: set NBCNN_DATA to the folder that holds it")
    train, test = mnist_folder(REAL / name)
    assert (len(train), len(test), train.shape) == (60000, 10000, (1, 28, 28))
    x, _ = test.batch(np.arange(1000))
    assert (x.min(), x.max()) == (0, 1)
    if name == "fashion-mnist":  # both are published as balanced here, MNIST is not
        np.testing.assert_array_equal(np.bincount(train.labels), [6000] * 10)
    else:
        np.testing.assert_array_equal(train.labels[:8], [5, 0, 4, 1, 9, 2, 1, 3])
