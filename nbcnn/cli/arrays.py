"""Inputs from files of arrays: .npz by input name, .npy and .pb in the order of the inputs."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nbcnn.errors import FileError, InputError

if TYPE_CHECKING:
    import numpy as np

    from nbcnn.model import Model

__all__ = ["load_npz", "read_feeds"]


def read_feeds(network: Model, files: Sequence[Path]) -> dict[str, np.ndarray]:
    """Input name -> array. Raises FileError for a file that cannot be read, InputError when arrays and inputs do not
    match.
    """
    names = [port.name for port in network.inputs]
    if len(files) == 1 and files[0].suffix.lower() == ".npz":
        arrays = load_npz(files[0])
        if unknown := sorted(arrays.keys() - set(names)):
            raise InputError(f"{files[0]}: holds {unknown[0]!r}, which is no input; this network takes {names}")
        return arrays
    if any(path.suffix.lower() == ".npz" for path in files):
        raise InputError("give one .npz file with all inputs by name, or a .npy or .pb file for each")
    if len(files) != len(names):
        raise InputError(f"{len(files)} arrays are given, but this network takes {len(names)} inputs: {names}")
    return {name: _load(path) for name, path in zip(names, files, strict=True)}


def load_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a .npz file by name."""
    import numpy as np

    from nbcnn.data.npz import why_unreadable

    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise FileError(f"{path}: not a whole .npz file of plain arrays ({why_unreadable(error)})") from None


def _load(path: Path) -> np.ndarray:
    import numpy as np

    from nbcnn.data.npz import why_unreadable

    if path.suffix.lower() == ".pb":
        from nbcnn.onnx_io.tensor_file import read_tensor

        return read_tensor(path)[1]
    try:
        array: np.ndarray = np.load(path, allow_pickle=False)
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, EOFError) as error:
        raise FileError(f"{path}: not a whole .npy file of a plain array ({why_unreadable(error)})") from None
    return array
