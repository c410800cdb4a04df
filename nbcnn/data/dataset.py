"""The data set protocol, data sets that lie in memory, and label checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from nbcnn.data.preprocessing import Preprocessing
from nbcnn.errors import DataError, InputError

__all__ = ["ArrayDataset", "Dataset", "PixelDataset", "Subset", "as_dataset", "check_labels", "split"]

Batch = tuple[np.ndarray, np.ndarray]


@runtime_checkable
class Dataset(Protocol):
    """Samples that can be asked for by index, from several threads at once.

    shape: one sample's shape, (C, H, W) for pictures.
    classes: the class names in the order of their indices, or None when they have none.
    labels: every sample's class index, int64 (N,), or None when the targets are not class indices.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def classes(self) -> list[str] | None: ...

    @property
    def labels(self) -> np.ndarray | None: ...

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray) -> Batch:
        """Samples `indices` (B,) as x float32 (B, *shape) and t int64 (B,), or float32 targets (B, ...)."""
        ...


class ArrayDataset:
    """Arrays as they are: x of shape (N, ...) and t of shape (N,) with class indices, or (N, ...) with float targets.

    Nothing is scaled. The arrays are kept, not copied; each batch is a float32 copy.
    """

    def __init__(self, x: np.ndarray, t: np.ndarray, classes: Sequence[str] | None = None) -> None:
        self._x, self._t = _check_pair(np.asarray(x), np.asarray(t))
        self._index_like = np.issubdtype(self._t.dtype, np.integer) or self._t.dtype == np.bool_
        self.classes = None if classes is None else list(classes)
        self.shape: tuple[int, ...] = self._x.shape[1:]
        if self.classes is not None and self.labels is not None:
            check_labels(self.labels, len(self.classes))

    @property
    def labels(self) -> np.ndarray | None:
        return self._t.astype(np.int64, copy=False) if self._index_like and self._t.ndim == 1 else None

    def __len__(self) -> int:
        return len(self._x)

    def batch(self, indices: np.ndarray) -> Batch:
        t = self._t[indices].astype(np.int64 if self._index_like else np.float32, copy=False)
        return np.ascontiguousarray(self._x[indices], dtype=np.float32), t


class PixelDataset:
    """Pictures kept as bytes, uint8 (N, H, W) or (N, H, W, C), and made into floats batch by batch.

    preprocessing: how a picture becomes an input; by default pixels are divided by 255 and the channels kept.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        t: np.ndarray,
        classes: Sequence[str] | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        pixels, t = _check_pair(pixels, t)
        if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4):
            raise DataError(f"pictures must be uint8 (N, H, W) or (N, H, W, C), not {pixels.dtype} {pixels.shape}")
        if t.ndim != 1 or not np.issubdtype(t.dtype, np.integer):
            raise DataError(f"labels must be integers of shape (N,), not {t.dtype} {t.shape}")
        self._pixels = pixels if pixels.ndim == 4 else pixels[..., None]
        self.labels = t.astype(np.int64)
        height, width, channels = self._pixels.shape[1:]
        self.preprocessing = preprocessing or Preprocessing(channels=channels)
        self.shape = self.preprocessing.output_shape((height, width))
        self.classes = None if classes is None else list(classes)
        if self.classes is not None:
            check_labels(self.labels, len(self.classes))

    def __len__(self) -> int:
        return len(self._pixels)

    def batch(self, indices: np.ndarray) -> Batch:
        pixels, how = self._pixels[indices], self.preprocessing
        if not how.fits(pixels.shape[1:]):  # another size or another number of channels: picture by picture
            pixels = np.stack([how.pixels(picture) for picture in pixels])
        return how.normalize(pixels), self.labels[indices]


class Subset:
    """Some samples of another data set, in the order of `indices`."""

    def __init__(self, dataset: Dataset, indices: np.ndarray) -> None:
        self.dataset, self.indices = dataset, np.asarray(indices, dtype=np.int64)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.dataset.shape

    @property
    def classes(self) -> list[str] | None:
        return self.dataset.classes

    @property
    def labels(self) -> np.ndarray | None:
        labels = self.dataset.labels
        return None if labels is None else labels[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, indices: np.ndarray) -> Batch:
        return self.dataset.batch(self.indices[indices])


def as_dataset(data: Any) -> Dataset:
    """A data set as it is, or a pair of arrays (x, t) as an `ArrayDataset`; anything else raises InputError."""
    if isinstance(data, tuple | list) and len(data) == 2:
        return ArrayDataset(*data)
    if isinstance(data, Dataset):
        return data
    raise InputError(f"a data set or a pair of arrays (x, t) is needed, not {type(data).__name__}")


def split(dataset: Dataset, fraction: float, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Hold back a random `fraction` of the samples: (the rest, the held back)."""
    if not 0 < fraction < 1:
        raise InputError(f"the fraction to hold back must lie between 0 and 1, not {fraction}")
    held = round(len(dataset) * fraction)
    if not 0 < held < len(dataset):
        raise DataError(f"cannot hold back {fraction} of {len(dataset)} samples: one of the two parts would be empty")
    order = np.random.default_rng(seed).permutation(len(dataset))
    return Subset(dataset, np.sort(order[held:])), Subset(dataset, np.sort(order[:held]))


def check_labels(t: np.ndarray, classes: int | Sequence[str]) -> None:
    """Raise DataError, naming the first label that is not a class index 0..classes-1 and where it stands.

    t: integers (N,).
    """
    count = classes if isinstance(classes, int) else len(classes)
    t = np.asarray(t)
    bad = np.flatnonzero((t < 0) | (t >= count))
    if bad.size:
        first = int(bad[0])
        raise DataError(
            f"label {t[first]} of sample {first} is outside 0..{count - 1} ({bad.size} of {t.size} labels are): "
            f"there are {count} classes, so correct the labels"
        )


def _check_pair(x: np.ndarray, t: np.ndarray) -> Batch:
    if x.ndim < 2 or t.ndim < 1:
        raise DataError(f"x must have shape (N, ...) and t (N,) or (N, ...), not {x.shape} and {t.shape}")
    if len(x) != len(t):
        raise DataError(f"x has {len(x)} samples but t has {len(t)}")
    if not len(x):
        raise DataError("the data set is empty")
    for name, array in (("x", x), ("t", t)):
        if array.dtype.kind not in "fiub":
            raise DataError(f"{name} must hold numbers, not {array.dtype}")
    return x, t
