"""A folder of pictures per class, and finding out what a path is."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nbcnn.data import ImageFolder, Preprocessing, open_data
from nbcnn.errors import DataError, FileError, InputError


def picture(path: Path, value: int | tuple[int, int, int], size: tuple[int, int] = (6, 4)) -> None:
    """A picture of one colour; size is (W, H)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB" if isinstance(value, tuple) else "L", size, value).save(path)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for i in range(3):
        picture(tmp_path / "pets" / "dog" / f"{i}.png", (10 * i, 100, 200))
    for i in range(2):
        picture(tmp_path / "pets" / "cat" / "deeper" / f"{i}.PNG", (50 + i, 0, 0))
    (tmp_path / "pets" / "dog" / "notes.txt").write_text("not a picture")
    (tmp_path / "pets" / "dog" / "._0.png").write_bytes(b"what macOS leaves")
    (tmp_path / "pets" / ".hidden").mkdir()
    return tmp_path / "pets"


def truncate(path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-60])
    return path


def test_pictures_and_classes(pets: Path) -> None:
    data = ImageFolder(pets)
    assert (len(data), data.classes, data.shape) == (5, ["cat", "dog"], (3, 4, 6))
    np.testing.assert_array_equal(data.labels, [0, 0, 1, 1, 1])
    x, t = data.batch(np.array([4, 0, 1]))
    assert x.dtype == np.float32 and x.shape == (3, 3, 4, 6)
    np.testing.assert_array_equal(t, [1, 0, 0])
    np.testing.assert_allclose(x[:, :, 0, 0] * 255, [[20, 100, 200], [50, 0, 0], [51, 0, 0]], rtol=1e-6)


def test_size_and_preprocessing(pets: Path) -> None:
    picture(pets / "cat" / "big.png", 7, (30, 20))
    with pytest.raises(DataError, match=r"pictures of 2 sizes, such as 4x6 and 20x30 \(.*big\.png\): give a size"):
        ImageFolder(pets)
    assert ImageFolder(pets, size=8).shape == (3, 8, 8)
    how = Preprocessing(size=(3, 2), channels=1, scale=False, layout="NHWC")
    x, _ = ImageFolder(pets, preprocessing=how).batch(np.array([0, 5]))
    assert x.shape == (2, 3, 2, 1)
    assert x[0, 0, 0, 0] == 7


def test_gray_folders_have_one_channel(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "1.png", 3)
    assert ImageFolder(tmp_path).shape == (1, 4, 6)


def test_a_damaged_body_is_named_or_skipped(pets: Path) -> None:
    bad = truncate(pets / "dog" / "1.png")
    with pytest.raises(DataError, match="not a whole picture") as caught:
        ImageFolder(pets).batch(np.arange(5))
    assert str(bad) in str(caught.value) and "\n" not in str(caught.value)
    data = ImageFolder(pets, skip_bad=True)
    assert (len(data), data.skipped) == (4, [bad])
    assert data.batch(np.arange(4))[0].shape == (4, 3, 4, 6)
    np.testing.assert_array_equal(data.labels, [0, 0, 1, 1])


def test_a_damaged_header_is_named_at_once(pets: Path) -> None:
    bad = pets / "dog" / "1.png"
    for content in (b"", b"no picture at all"):
        bad.write_bytes(content)
        with pytest.raises(DataError, match="not a picture that Pillow knows") as caught:
            ImageFolder(pets)
        assert str(bad) in str(caught.value)
    assert ImageFolder(pets, skip_bad=True).skipped == [bad]


def test_nothing_but_bad_pictures(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"")
    with pytest.raises(DataError, match="none of its 1 pictures can be decoded"):
        ImageFolder(tmp_path, skip_bad=True)


def test_folders_that_are_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is empty; a folder of pictures per class is needed"):
        ImageFolder(tmp_path)
    picture(tmp_path / "1.png", 3)
    with pytest.raises(DataError, match="has no sub-folders"):
        ImageFolder(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match=r"its folders \(a\) hold no pictures"):
        ImageFolder(tmp_path)
    picture(tmp_path / "b" / "1.png", 3)
    with pytest.raises(DataError, match="a class folder without pictures"):
        ImageFolder(tmp_path)
    with pytest.raises(FileError, match="cannot read the folder"):
        ImageFolder(tmp_path / "none")
    with pytest.raises(InputError, match="workers"):
        ImageFolder(tmp_path, workers=0)


def test_train_and_validation_folders(pets: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    shutil.copytree(pets, both / "train")
    picture(both / "val" / "dog" / "1.png", 9, (60, 40))
    train, held = open_data(both, size=4)
    assert held is not None and held.classes == train.classes == ["cat", "dog"]
    assert held.shape == train.shape == (3, 4, 4)
    assert held.labels is not None and held.labels.tolist() == [1]
    picture(both / "val" / "bird" / "1.png", 9)
    with pytest.raises(DataError, match="the folder 'bird' is not one of the classes cat, dog"):
        open_data(both, size=4)


def test_open_data(pets: Path, tmp_path: Path) -> None:
    train, held = open_data(str(pets), validation=0.4)
    assert held is not None and (len(train), len(held)) == (3, 2)
    assert len(open_data("digits")[0]) == 1437
    arrays = np.zeros((2, 1)), np.array([0, 1])
    assert len(open_data(arrays)[0]) == 2
    with pytest.raises(FileError, match="there is no such file or folder; give a folder of pictures per class"):
        open_data(tmp_path / "none")
    with pytest.raises(DataError, match="not a data set"):
        open_data(pets / "dog" / "notes.txt")
    with pytest.raises(DataError, match="take no size"):
        open_data("digits", size=16)
