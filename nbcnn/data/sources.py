"""Finding out what kind of data set a path is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from nbcnn.data.dataset import Dataset, as_dataset, split
from nbcnn.data.embedded import digits
from nbcnn.data.folder import ImageFolder
from nbcnn.data.idx import IdxDataset, find_idx, is_idx, mnist_folder
from nbcnn.data.npz import read_npz
from nbcnn.data.preprocessing import Preprocessing
from nbcnn.errors import DataError, FileError

__all__ = ["open_data"]

KINDS = "a folder of pictures per class, a folder of IDX files, an IDX file, a .npz file, or the word digits"
VALIDATION_FOLDERS = ("val", "valid", "validation", "test")


def open_data(
    source: Any,
    *,
    size: int | tuple[int, int] | None = None,
    preprocessing: Preprocessing | None = None,
    skip_bad: bool = False,
    validation: float = 0.0,
    seed: int = 0,
) -> tuple[Dataset, Dataset | None]:
    """(train, validation) from a path, a data set, or a pair of arrays.

    A path may be a folder of pictures per class, such a folder under train/ and another under val/ (or valid,
    validation, test), MNIST's four IDX files in a folder, its picture file alone, a .npz file, or the word "digits" for
    the embedded set. Where the source holds no validation part, the fraction `validation` of it is held back, chosen by
    `seed`; with 0 there is none (None).

    Raises FileError when nothing is there, DataError when what is there cannot be used.
    """
    train, held = _open(source, size, preprocessing, skip_bad)
    if held is None and validation:
        return split(train, validation, seed)
    return train, held


def _open(source: Any, size: Any, how: Preprocessing | None, skip_bad: bool) -> tuple[Dataset, Dataset | None]:
    if not isinstance(source, str | Path):
        return as_dataset(source), None
    path = Path(source)
    if path.is_dir():
        return _folder(path, size, how, skip_bad)
    if path.is_file():
        return _file(path, size, how)
    if str(source) == "digits":
        return _embedded(size, how)
    raise FileError(f"{source}: there is no such file or folder; give {KINDS}")


def _embedded(size: Any, how: Preprocessing | None) -> tuple[Dataset, Dataset]:
    if size is not None or how is not None:
        raise DataError("the embedded digits are ready-made 1x8x8 arrays: they take no size, mean or the like")
    return digits()


def _file(path: Path, size: Any, how: Preprocessing | None) -> tuple[Dataset, Dataset | None]:
    if path.suffix == ".npz":
        return _resized(lambda steps: read_npz(path, steps), size, how)
    if is_idx(path):
        labels = _labels_beside(path)
        return _resized(lambda steps: (IdxDataset(path, labels, steps), None), size, how)
    raise DataError(f"{path}: not a data set; give {KINDS}")


def _folder(path: Path, size: Any, how: Preprocessing | None, skip_bad: bool) -> tuple[Dataset, Dataset | None]:
    if any(is_idx(file) for file in path.glob("*ubyte*") if file.is_file()):
        return _resized(lambda steps: mnist_folder(path, steps), size, how)
    if not (path / "train").is_dir():
        return ImageFolder(path, size, how, skip_bad=skip_bad), None
    train = ImageFolder(path / "train", size, how, skip_bad=skip_bad)
    for name in VALIDATION_FOLDERS:
        if (path / name).is_dir():
            # the same steps and classes as in training, whatever the held-back pictures would suggest by themselves
            held = ImageFolder(path / name, size, train.preprocessing, skip_bad=skip_bad, classes=train.classes)
            return train, held
    return train, None


def _resized(
    read: Callable[[Preprocessing | None], tuple[Dataset, Dataset | None]], size: Any, how: Preprocessing | None
) -> tuple[Dataset, Dataset | None]:
    """Open with `size` set in the preprocessing; without one given, the channels are those that the data has."""
    if size is None:
        return read(how)
    if how is not None:
        return read(replace(how, size=size))
    plain, _ = read(None)
    if len(plain.shape) != 3:
        raise DataError(f"a size needs pictures, but the samples have shape {plain.shape}")
    return read(Preprocessing(size=size, channels=plain.shape[0]))


def _labels_beside(images: Path) -> Path:
    """The label file that belongs to a picture file named as MNIST's are."""
    name = images.name.removesuffix(".gz").replace(".idx", "-idx").replace("images-idx3", "labels-idx1")
    if name == images.name.removesuffix(".gz"):
        raise DataError(
            f"{images}: its label file is not known: name the two like train-images-idx3-ubyte, train-labels-idx1-ubyte"
        )
    return find_idx(images.parent, name)
