"""Weights that lie in a file beside the model (ONNX external data).

Arrays go straight between that file and NumPy, past protobuf: a model may hold more than protobuf's 2 GiB.
Format: onnx/docs/ExternalData.md, the keys location, offset and length.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto

from nbcnn.errors import FileError, ModelError
from nbcnn.filemap import MAPPED, FileMap
from nbcnn.onnx_io.tensors import PACKED, as_stored, cut, describe, dtype_of, mappable, raw_bytes, read_inline
from nbcnn.onnx_io.wire import LARGE

__all__ = ["ALIGNMENT", "DataFile", "ExternalFiles", "locate", "tensors_of", "tensors_of_node"]

ALIGNMENT = 4096
"""Each tensor begins on a page, which lets a reader map it into memory."""


def tensors_of(graph: GraphProto) -> Iterator[TensorProto]:
    """Every dense tensor of a graph and its sub-graphs: initializers and attributes."""
    yield from graph.initializer
    for node in graph.node:
        yield from tensors_of_node(node)


def tensors_of_node(node: NodeProto) -> Iterator[TensorProto]:
    """Every dense tensor of a node's attributes and their sub-graphs."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR and not attribute.ref_attr_name:
            yield attribute.t
        yield from attribute.tensors
        for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
            yield from tensors_of(inner)


def locate(tensor: TensorProto, model: Path | None) -> Path:
    """The file that holds the payload of an external tensor of `model`.

    Raises FileError when it is missing, or when its path leaves the model's folder: a model from elsewhere must not be
    able to read other files.
    """
    location = entries(tensor).get("location", "")
    if model is None:
        raise FileError(
            f"tensor {tensor.name!r} lies in another file, {location!r}: give the model's path, not its content"
        )
    folder = model.parent.resolve()
    path = (folder / location).resolve()
    if Path(location).is_absolute() or not path.is_relative_to(folder):
        raise FileError(f"{model}: tensor {tensor.name!r} points outside the model's folder, to {location!r}: refused")
    if not path.is_file():
        raise FileError(
            f"{model}: tensor {tensor.name!r} lies in {location!r}, which is missing: put it beside the model"
        )
    return path


def entries(tensor: TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


class ExternalFiles:
    """The files of weights beside a model, each opened once. model: its path."""

    def __init__(self, model: Path | None) -> None:
        self.model = model
        self.maps: dict[Path, FileMap] = {}

    def read(self, tensor: TensorProto) -> np.ndarray:
        """The array (dims) of an external tensor: a large weight stays in the file, others have their own memory."""
        path, keys, dtype = locate(tensor, self.model), entries(tensor), dtype_of(tensor.data_type)
        if dtype is None or dtype.hasobject:
            raise ModelError(f"tensor {tensor.name!r} has a data type that cannot lie in another file")
        try:
            offset = int(keys.get("offset") or 0)
            size = prod(tensor.dims) * dtype.itemsize
            if MAPPED and size >= LARGE and mappable(tensor) and offset >= 0:
                return self._map(tensor, path, dtype, offset, size)
            with path.open("rb") as file:
                file.seek(offset)
                if tensor.data_type in PACKED:
                    return read_packed(tensor, file.read(int(keys.get("length") or -1)))
                array = np.empty(tuple(tensor.dims), dtype=dtype)
                count = file.readinto(array.reshape(-1).view(np.uint8).data)
        except OSError as error:
            raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error
        except ValueError as error:
            raise ModelError(f"tensor {tensor.name!r} has bad external data: {error}") from error
        require(count, array.nbytes, path, tensor)
        return array

    def _map(self, tensor: TensorProto, path: Path, dtype: np.dtype, offset: int, size: int) -> np.ndarray:
        require(min(size, max(path.stat().st_size - offset, 0)), size, path, tensor)
        if path not in self.maps:
            self.maps[path] = FileMap(path)
        return self.maps[path].array(dtype, tuple(tensor.dims), offset)


def require(count: int, wanted: int, path: Path, tensor: TensorProto) -> None:
    """Raise FileError where a file has too few bytes."""
    if count < wanted:
        raise FileError(f"{path}: is cut short: tensor {tensor.name!r} has {count} of its {wanted} bytes")


def read_packed(tensor: TensorProto, payload: bytes) -> np.ndarray:
    inline = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, raw_data=payload)
    return read_inline(inline)


class DataFile:
    """The file of external data to be written beside a model: first tensors are added, then all is written at once."""

    def __init__(self, location: str) -> None:
        self.location = location
        self.arrays: list[tuple[int, np.ndarray]] = []
        self.size = 0

    def add(self, shell: TensorProto, array: np.ndarray) -> TensorProto:
        """A TensorProto that says where in this file `array` will lie."""
        tensor, array = TensorProto(), as_stored(shell, array)
        tensor.CopyFrom(shell)
        cut(tensor)
        for name in (
            "raw_data",
            "float_data",
            "int32_data",
            "int64_data",
            "double_data",
            "uint64_data",
            "external_data",
        ):
            tensor.ClearField(name)
        describe(tensor, array)
        offset = -(-self.size // ALIGNMENT) * ALIGNMENT
        length = len(raw_bytes(array)) if tensor.data_type in PACKED else prod(array.shape) * array.dtype.itemsize
        self.arrays.append((offset, array))
        self.size = offset + length
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", self.location), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        return tensor

    def chunks(self) -> Iterator[bytes]:
        """The content of the file, a tensor at a time."""
        end = 0
        for offset, array in self.arrays:
            payload = raw_bytes(array)
            yield bytes(offset - end)
            yield payload
            end = offset + len(payload)
