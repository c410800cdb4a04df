"""A folder of pictures per class."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from nbcnn.data.dataset import Batch
from nbcnn.data.pictures import SUFFIXES, decode_picture, picture_header
from nbcnn.data.preprocessing import Preprocessing
from nbcnn.errors import DataError, FileError, InputError

__all__ = ["ImageFolder", "class_folders"]

Result = TypeVar("Result")


class ImageFolder:
    """Pictures in one sub-folder a class, decoded batch by batch in threads.

    path: the folder; its sub-folders' sorted names are the classes, pictures may lie deeper inside them.
    size: (H, W) or one number, what every picture is resized to; without it all pictures must have one size.
    preprocessing: the other steps; by default pixels / 255, gray if every picture is gray.
    skip_bad: leave out the pictures that cannot be decoded; all are decoded once at the start to find them, and
        `skipped` lists them. Otherwise a bad header raises DataError here, and damage behind it in `batch`.
    classes: the class names to use instead, as when the labels must be those of a training set.
    """

    def __init__(
        self,
        path: str | Path,
        size: int | tuple[int, int] | None = None,
        preprocessing: Preprocessing | None = None,
        *,
        skip_bad: bool = False,
        classes: Sequence[str] | None = None,
        workers: int | None = None,
    ) -> None:
        if workers is not None and workers < 1:
            raise InputError(f"workers must be at least 1, not {workers}")
        self._pool = ThreadPoolExecutor(workers or min(4, os.cpu_count() or 1), thread_name_prefix="nbcnn-decode")
        self.path = Path(path)
        found = class_folders(self.path)
        self.classes: list[str] = list(found) if classes is None else list(classes)
        if strange := sorted(set(found) - set(self.classes)):
            raise DataError(f"{path}: the folder {strange[0]!r} is not one of the classes {', '.join(self.classes)}")
        self.paths = [picture for pictures in found.values() for picture in pictures]
        labels = [self.classes.index(name) for name, pictures in found.items() for _ in pictures]
        self.labels = np.asarray(labels, dtype=np.int64)
        self.skipped: list[Path] = []
        headers = self._scan(skip_bad)
        self.preprocessing = _complete(preprocessing, size, all(gray for _, gray in headers))
        self.shape = self.preprocessing.output_shape(self._one_size([shape for shape, _ in headers]))

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, indices: np.ndarray) -> Batch:
        """x float32 (B, C, H, W), t int64 (B,). Raises DataError naming a picture that is corrupt."""
        pixels = self._map(self._pixels, (self.paths[i] for i in indices))
        return self.preprocessing.normalize(np.stack(pixels)), self.labels[indices]

    def _pixels(self, path: Path) -> np.ndarray:
        return self.preprocessing.pixels(decode_picture(path))

    def _map(self, function: Callable[[Path], Result], paths: Iterable[Path]) -> list[Result]:
        try:
            return list(self._pool.map(function, paths))
        except DataError as error:
            raise DataError(f"{error}, or leave such pictures out with skip_bad (--skip-bad)") from None

    def _scan(self, skip_bad: bool) -> list[tuple[tuple[int, int], bool]]:
        """Every picture's header; bad pictures are dropped with skip_bad."""
        if not skip_bad:
            return self._map(picture_header, self.paths)
        headers = self._map(_header_if_whole, self.paths)
        self.skipped = [path for path, header in zip(self.paths, headers, strict=True) if header is None]
        good = [i for i, header in enumerate(headers) if header is not None]
        if not good:
            raise DataError(f"{self.path}: none of its {len(self.paths)} pictures can be decoded")
        self.paths, self.labels = [self.paths[i] for i in good], self.labels[good]
        return [header for header in headers if header is not None]

    def _one_size(self, sizes: list[tuple[int, int]]) -> tuple[int, int]:
        """The size that all pictures have, which matters only where they are not resized."""
        counts = Counter(sizes)
        if len(counts) > 1 and self.preprocessing.size is None:
            usual = counts.most_common(1)[0][0]
            odd = next(i for i, size in enumerate(sizes) if size != usual)
            raise DataError(
                f"{self.path}: pictures of {len(counts)} sizes, such as {_by(usual)} and {_by(sizes[odd])} "
                f"({self.paths[odd]}): give a size to resize them to"
            )
        return sizes[0]


def class_folders(path: Path) -> dict[str, list[Path]]:
    """Class name -> its pictures, both sorted. Hidden files and files that are not pictures are passed over.

    Raises FileError when the folder cannot be read, DataError when it has no class folders or one has no picture.
    """
    try:
        folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise FileError(f"cannot read the folder {path}: {error.strerror or error}") from None
    if not folders:
        what = "is empty" if not any(path.iterdir()) else "has no sub-folders"
        raise DataError(f"{path}: {what}; a folder of pictures per class is needed, such as {path.name}/cat/1.jpg")
    found = {folder.name: _pictures(folder) for folder in folders}
    if not any(found.values()):
        raise DataError(
            f"{path}: its folders ({', '.join(list(found)[:5])}) hold no pictures ({', '.join(sorted(SUFFIXES))})"
        )
    for name, pictures in found.items():
        if not pictures:
            raise DataError(f"{path / name}: a class folder without pictures: fill or remove it")
    return found


def _pictures(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("[!.]*") if p.suffix.lower() in SUFFIXES and p.is_file())


def _header_if_whole(path: Path) -> tuple[tuple[int, int], bool] | None:
    try:
        decode_picture(path)
        return picture_header(path)
    except DataError:
        return None


def _complete(how: Preprocessing | None, size: int | tuple[int, int] | None, gray: bool) -> Preprocessing:
    how = how or Preprocessing(channels=1 if gray else 3)
    return how if size is None else replace(how, size=(size, size) if isinstance(size, int) else size)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
