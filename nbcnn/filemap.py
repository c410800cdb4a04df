"""Arrays that lie in a file: their pages are the file's own, so that weights cost no memory of ours.

A `FileMap` keeps its file open: one that is replaced by another of the same name, or removed, can still be read as it
was. One that is written to where it lies cannot: the system would hand out the new content, or end the process where
the file has become shorter. So what the engine needs is read by `fresh`, which looks first and raises an error.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import weakref
from typing import Any

import numpy as np

from nbcnn.errors import FileError
from nbcnn.memory import aligned_array

__all__ = ["MAPPED", "FileMap", "fresh", "lies_in_file"]

MAPPED = hasattr(os, "preadv") and sys.byteorder == "little"
"""Whether weights stay in their files. Windows has no preadv, and replaces no file that is mapped; ONNX files are
little-endian.
"""

MAP_FIXED = 0x10
"""mmap(2): at this very address (Linux on all its common processors, macOS, the BSDs)."""


class FileMap(mmap.mmap):
    """The content of a file, read only. Raises OSError where it cannot be read, ValueError where it is empty."""

    path: str
    descriptor: int
    stamp: tuple[int, int]

    def __new__(cls, path: str | os.PathLike[str]) -> FileMap:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            if not size:
                raise ValueError(f"{os.fspath(path)} is empty")
            found = super().__new__(cls, -1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
            _put_over(found, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        weakref.finalize(found, os.close, descriptor)
        found.path, found.descriptor = os.fspath(path), descriptor
        found.stamp = found._stamp()
        return found

    def _stamp(self) -> tuple[int, int]:
        state = os.fstat(self.descriptor)
        return state.st_size, state.st_mtime_ns

    def array(self, dtype: np.dtype, shape: tuple[int, ...], offset: int) -> np.ndarray:
        """The elements from byte `offset` on, read only; it may lie at any address, also an odd one."""
        return np.frombuffer(self, dtype, int(np.prod(shape, dtype=np.int64)), offset).reshape(shape)

    def forget(self) -> None:
        """Let the system take back the pages that were looked at: they would count as resident memory."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self.madvise(mmap.MADV_DONTNEED)

    def fill(self, offset: int, target: np.ndarray) -> None:
        """Fill `target` with the file's bytes. Raises FileError if the file is not what it was when it was opened."""
        view, done = target.reshape(-1).view(np.uint8).data, 0
        while done < len(view):
            count = os.preadv(self.descriptor, [view[done:]], offset + done)
            if not count:
                break
            done += count
        if done < len(view) or self._stamp() != self.stamp:
            raise FileError(f"{self.path}: was written to after it was loaded, and is needed again: load it anew")


def fresh(array: np.ndarray) -> np.ndarray:
    """The array itself, or if it lies in a file a copy (same shape) that is read now; see FileMap.fill."""
    file = _file(array)
    if file is None:
        return array
    if not array.flags.c_contiguous:
        raise ValueError("only whole runs of a file can be read")
    offset = array.ctypes.data - _address(file)
    copy = aligned_array(array.size, array.dtype)
    file.fill(offset, copy)
    return copy.reshape(array.shape)


def lies_in_file(array: np.ndarray) -> bool:
    """Whether the array's memory is a file's."""
    return _file(array) is not None


def _file(array: np.ndarray) -> FileMap | None:
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    owner = base.obj if isinstance(base, memoryview) else base
    return owner if isinstance(owner, FileMap) else None


def _put_over(pages: mmap.mmap, descriptor: int) -> None:
    """Let a file's pages take the place of empty ones. A mmap of the file itself would keep a second descriptor open
    (until Python 3.13), and a server with many models would run out of them.
    """
    call = ctypes.CDLL(None, use_errno=True).mmap
    call.restype, call.argtypes = (
        ctypes.c_void_p,
        [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long],
    )
    start = _address(pages)
    if call(start, len(pages), mmap.PROT_READ, mmap.MAP_PRIVATE | MAP_FIXED, descriptor, 0) != start:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _address(pages: mmap.mmap) -> int:
    return np.frombuffer(pages, np.uint8, 1).ctypes.data
