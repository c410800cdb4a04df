"""TensorProto to array and back, keeping the way the file stored it.

A tensor that was read leaves a *shell* behind: its TensorProto with the payload cut down to one element at most. The
shell still says the name, the data type, the doc string and which field held the payload (`raw_data`, or a typed
field such as `float_data`), so that the same array becomes the same bytes again.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import SparseTensorProto, TensorProto, helper, numpy_helper

from nbcnn import graph
from nbcnn.errors import ModelError
from nbcnn.filemap import fresh

__all__ = [
    "PACKED",
    "as_stored",
    "cut",
    "dtype_of",
    "fill",
    "from_sparse",
    "is_external",
    "is_packed",
    "mappable",
    "raw_bytes",
    "read_inline",
]

PACKED = frozenset(
    TensorProto.DataType.Value(name)
    for name in ("INT4", "UINT4", "FLOAT4E2M1", "INT2", "UINT2", "FLOAT6E2M3", "FLOAT6E3M2")
    if name in TensorProto.DataType.keys()  # noqa: SIM118 (not a dict)
)
"""Types of which several elements share a byte in a file."""

TYPED_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")


def is_external(tensor: TensorProto) -> bool:
    """Whether the payload lies in another file."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def dtype_of(data_type: int) -> np.dtype | None:
    """The NumPy or ml_dtypes type of an ONNX element type, None for UNDEFINED and for types that are not known."""
    try:
        return np.dtype(helper.tensor_dtype_to_np_dtype(data_type))
    except KeyError:
        return None


def read_inline(tensor: TensorProto) -> np.ndarray:
    """The tensor's array (dims), writable and in its own memory; the payload must be inside `tensor`."""
    try:
        return np.array(numpy_helper.to_array(tensor), order="C", copy=True)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"tensor {tensor.name!r} cannot be read: {error}") from error


def mappable(tensor: TensorProto) -> np.dtype | None:
    """The array's type where its bytes, as they lie in a file, can be a weight's memory."""
    dtype = dtype_of(tensor.data_type)
    return dtype if dtype is not None and graph.is_float(dtype) and min(tensor.dims, default=0) >= 0 else None


def from_sparse(sparse: SparseTensorProto) -> np.ndarray:
    """The dense array (dims) of a sparse tensor, whose indices are linear (NNZ) or coordinates (NNZ, rank)."""
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    dense = np.zeros(tuple(sparse.dims), dtype=values.dtype)
    if indices.ndim == 1:
        dense.reshape(-1)[indices] = values
    else:
        dense[tuple(indices.T)] = values
    return dense


def cut(tensor: TensorProto) -> None:
    """Turn a tensor that was read into a shell."""
    if tensor.HasField("raw_data"):
        tensor.raw_data = b""
    for name in TYPED_FIELDS:
        del getattr(tensor, name)[1:]


def as_stored(shell: TensorProto, array: np.ndarray) -> np.ndarray:
    """`array` in the type that the file had for it: weights computed in float32 go back to float16 or float64.

    An array of another kind (integers where there were floats) keeps its own type. Raises ModelError when a finite
    number would become infinite.
    """
    stored = dtype_of(shell.data_type)
    if stored is None or array.dtype == stored or not (is_float(stored) and is_float(array.dtype)):
        return array
    with np.errstate(over="ignore"):
        cast = array.astype(stored)
    if stored.itemsize < array.dtype.itemsize and np.any(np.isfinite(array) & ~np.isfinite(cast)):
        largest = float(np.abs(array[np.isfinite(array)]).max())
        raise ModelError(f"tensor {shell.name!r} reaches {largest:.4g}, too large for {stored}, its type in the file")
    return cast


def is_float(dtype: np.dtype) -> bool:
    return dtype.kind == "f" or dtype.name.startswith(("bfloat", "float"))


def fill(shell: TensorProto, array: np.ndarray, encode: Callable[[np.ndarray], bytes] | None = None) -> TensorProto:
    """A TensorProto that holds `array` (any shape), stored as `shell` was; an empty shell stores raw bytes.

    encode: makes the raw bytes, where there are any.
    """
    tensor, array = TensorProto(), as_stored(shell, array)
    tensor.CopyFrom(shell)
    typed = next((name for name in TYPED_FIELDS if getattr(shell, name)), None)
    describe(tensor, array)
    for name in ("raw_data", "data_location", "external_data", *TYPED_FIELDS):
        tensor.ClearField(name)
    if tensor.data_type == TensorProto.STRING:
        tensor.string_data.extend(text if isinstance(text, bytes) else str(text).encode() for text in array.flat)
    elif typed and tensor.data_type == shell.data_type:
        getattr(tensor, typed).extend(getattr(helper.make_tensor("", tensor.data_type, array.shape, array), typed))
    elif array.size or shell.HasField("raw_data") or not shell.data_type:
        tensor.raw_data = (encode or raw_bytes)(array)
    return tensor


def describe(tensor: TensorProto, array: np.ndarray) -> None:
    """Give a TensorProto the dims and the data type of `array`."""
    tensor.dims[:] = array.shape
    tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)


def raw_bytes(array: np.ndarray) -> bytes:
    """The elements in ONNX's raw order: row-major, little-endian, small types packed."""
    return numpy_helper.from_array(np.ascontiguousarray(fresh(array))).raw_data


def is_packed(array: np.ndarray) -> bool:
    """Whether several elements share a byte in a file."""
    return helper.np_dtype_to_tensor_dtype(array.dtype) in PACKED
