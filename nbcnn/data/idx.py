"""IDX files, the format of MNIST and Fashion-MNIST: http://yann.lecun.com/exdb/mnist (bottom of the page).

Two zero bytes, a type code, the number of dimensions, each dimension as a big-endian uint32, then the values,
big-endian too.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from nbcnn.data.dataset import PixelDataset
from nbcnn.data.preprocessing import Preprocessing
from nbcnn.errors import DataError, FileError

__all__ = ["IdxDataset", "find_idx", "is_idx", "mnist_folder", "read_idx"]

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
GZIP = b"\x1f\x8b"


class IdxDataset(PixelDataset):
    """Pictures and labels from two IDX files, plain or gzip; x is float32 (N, 1, H, W), pixels / 255 by default.

    Classes are named by their numbers, from 0 to the largest label.
    """

    def __init__(self, images: str | Path, labels: str | Path, preprocessing: Preprocessing | None = None) -> None:
        pixels, t = read_idx(images), read_idx(labels)
        if t.ndim != 1 or t.dtype.kind not in "iu" or not t.size:
            raise DataError(f"{labels}: holds {t.dtype} {t.shape}, not a list of labels")
        if pixels.dtype != np.uint8 or pixels.ndim != 3:
            raise DataError(f"{images}: holds {pixels.dtype} {pixels.shape}, not uint8 pictures (N, H, W)")
        if len(pixels) != len(t):
            raise DataError(f"{images} has {len(pixels)} pictures but {labels} has {len(t)} labels")
        super().__init__(pixels, t, [str(i) for i in range(int(t.max()) + 1)], preprocessing)


def mnist_folder(path: str | Path, preprocessing: Preprocessing | None = None) -> tuple[IdxDataset, IdxDataset]:
    """(train, test) from MNIST's four files, {train,t10k}-{images-idx3,labels-idx1}-ubyte, plain or .gz."""
    train, test = (
        IdxDataset(
            find_idx(path, f"{part}-images-idx3-ubyte"), find_idx(path, f"{part}-labels-idx1-ubyte"), preprocessing
        )
        for part in ("train", "t10k")
    )
    return train, test


def find_idx(folder: str | Path, name: str) -> Path:
    """The file of this name in the folder, plain or .gz, or with MNIST's other spelling (train-images.idx3-ubyte)."""
    for spelling in (name, name.replace("-idx", ".idx")):
        for candidate in (Path(folder, spelling), Path(folder, spelling + ".gz")):
            if candidate.is_file():
                return candidate
    raise DataError(f"{folder}: has no {name} or {name}.gz")


def is_idx(path: Path) -> bool:
    """Whether a file's first bytes are those of an IDX file, inside gzip or not."""
    try:
        with path.open("rb") as raw:
            gzipped = raw.read(2) == GZIP
        with gzip.open(path) if gzipped else path.open("rb") as file:
            head = file.read(4)
    except (OSError, EOFError, zlib.error):
        return False
    return len(head) == 4 and head[:2] == b"\0\0" and head[2] in TYPES and head[3] > 0


def read_idx(path: str | Path) -> np.ndarray:
    """The array in an IDX file, plain or gzip, in the machine's byte order.

    Raises FileError when the file cannot be read, DataError when it is not a whole IDX file.
    """
    data = _read(path)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in TYPES:
        raise DataError(f"{path}: not an IDX file (it begins with {data[:4].hex(' ') or 'nothing'})")
    dtype, rank = np.dtype(TYPES[data[2]]), data[3]
    start = 4 + 4 * rank
    if len(data) < start:
        raise DataError(f"{path}: ends inside its header")
    shape = struct.unpack(f">{rank}I", data[4:start])
    # Python's integers: a damaged header may name more elements than 64 bits can count
    expected = dtype.itemsize
    for dim in shape:
        expected *= dim
    if len(data) - start != expected:
        raise DataError(
            f"{path}: {shape} of {dtype.name} needs {expected} bytes but {len(data) - start} follow: download it again"
        )
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _read(path: str | Path) -> bytes:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from None
    if data[:2] != GZIP:
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: the gzip data is damaged or cut short ({error}): download it again") from None
