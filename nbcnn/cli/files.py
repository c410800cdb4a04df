"""Files that commands write."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nbcnn.errors import FileError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["check_writable", "save_arrays"]


def check_writable(path: Path) -> None:
    """Raise FileError unless a file can be written there: better now than after an hour of training."""
    if path.exists() and not path.is_file():
        raise FileError(f"{path}: cannot be written: it is not a file")
    if not path.parent.is_dir():
        raise FileError(f"{path}: cannot be written: there is no folder {path.parent}")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror or error}") from error


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a .npz file; an old one stays whole until the new one is."""
    import numpy as np

    check_writable(path)
    partial = path.with_name(f".{path.name}.tmp")
    try:
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise FileError(f"{path}: cannot be written: {error.strerror or error}; nothing was changed") from error
