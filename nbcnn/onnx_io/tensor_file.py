"""Tensors in files of their own, as ONNX test data has them (input_0.pb)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto

from nbcnn.errors import FileError, ModelError
from nbcnn.onnx_io.tensors import is_external, read_inline

__all__ = ["read_tensor"]


def read_tensor(path: str | os.PathLike[str]) -> tuple[str, np.ndarray]:
    """Name and array of the TensorProto in a file. Raises FileError when it cannot be read or is none."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        tensor = TensorProto.FromString(content)
        if not tensor.data_type or is_external(tensor):
            raise FileError(f"{path}: not a whole ONNX tensor (a TensorProto with its data inside)")
        return tensor.name, read_inline(tensor)
    except (DecodeError, ModelError) as error:
        raise FileError(f"{path}: not a whole ONNX tensor: {error}") from None
