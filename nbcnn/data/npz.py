"""NumPy archives as data sets."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from nbcnn.data.dataset import ArrayDataset, Dataset, PixelDataset
from nbcnn.data.preprocessing import Preprocessing
from nbcnn.errors import DataError, FileError

__all__ = ["read_npz", "why_unreadable"]


def read_npz(path: str | Path, preprocessing: Preprocessing | None = None) -> tuple[Dataset, Dataset | None]:
    """(train, test) from a .npz file with x_train, y_train, x_test, y_test, or (all, None) from one with x and y.

    uint8 x are pictures, (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3: they go through `preprocessing`, by
    default pixels / 255. Any other x is taken as it is; `preprocessing` then raises DataError.
    An optional key `classes` holds the class names.
    """
    arrays = _arrays(path)
    classes = [str(name) for name in arrays["classes"]] if "classes" in arrays else None
    if {"x_train", "y_train", "x_test", "y_test"} <= arrays.keys():
        return (
            _dataset(path, arrays["x_train"], arrays["y_train"], classes, preprocessing),
            _dataset(path, arrays["x_test"], arrays["y_test"], classes, preprocessing),
        )
    if {"x", "y"} <= arrays.keys():
        return _dataset(path, arrays["x"], arrays["y"], classes, preprocessing), None
    found = ", ".join(sorted(arrays)) or "nothing"
    raise DataError(f"{path}: needs the arrays x and y, or x_train, y_train, x_test and y_test; it holds {found}")


def why_unreadable(error: Exception) -> str:
    """What numpy.load said of a file. It takes any file that is not its own for pickled objects, and tells how to load
    those, which nobody should do.
    """
    return "it is no file of NumPy's, or holds objects" if "pickle" in str(error) else str(error)


def _arrays(path: str | Path) -> dict[str, np.ndarray]:
    try:
        with Path(path).open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                raise DataError(f"{path}: holds a single array, not a .npz archive with x and y: save it with np.savez")
            return {key: loaded[key] for key in loaded.files}
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: not a whole .npz archive of plain arrays ({why_unreadable(error)})") from None
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from None


def _dataset(
    path: str | Path, x: np.ndarray, t: np.ndarray, classes: list[str] | None, preprocessing: Preprocessing | None
) -> Dataset:
    if t.ndim == 2 and t.shape[1] == 1 and t.dtype.kind in "iu":
        t = t[:, 0]  # labels as a column, as CIFAR's are often kept
    try:
        if x.dtype == np.uint8 and x.ndim in (3, 4):
            return PixelDataset(_channels_last(x), t, classes, preprocessing)
        if preprocessing is not None:
            raise DataError(f"size, mean and the like need pictures as uint8, but x is {x.dtype} {x.shape}")
        return ArrayDataset(x, t, classes)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _channels_last(x: np.ndarray) -> np.ndarray:
    if x.ndim == 3 or x.shape[3] in (1, 3):
        return x
    if x.shape[1] in (1, 3):
        return np.moveaxis(x, 1, -1)
    raise DataError(f"uint8 x of shape {x.shape} is neither (N, H, W, C) nor (N, C, H, W) with 1 or 3 channels")
