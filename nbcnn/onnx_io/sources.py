"""Getting a ModelProto out of what the user gave, or one clear line about why not."""

from __future__ import annotations

import os
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, ValueInfoProto, checker

from nbcnn.errors import FileError, InputError, ModelError
from nbcnn.filemap import MAPPED, FileMap
from nbcnn.onnx_io.external import tensors_of
from nbcnn.onnx_io.tensors import is_external, mappable
from nbcnn.onnx_io.wire import cut_weights, varint

__all__ = ["Opened", "Source", "check", "open_model", "reason", "refusal"]

Source = str | os.PathLike[str] | bytes | ModelProto
"""A model: the path of its file, the file's content, or onnx's own object."""

LONGEST_REASON = 400


class Opened(NamedTuple):
    """model: the caller's to change. path: None when it does not come from a file. weights: number of the initializer
    -> its array in the file; its TensorProto is a shell.
    """

    model: ModelProto
    path: Path | None
    weights: dict[int, np.ndarray]


def open_model(source: Source) -> Opened:
    """Raises FileError where there is no such file, ModelError where it holds no model, InputError for other types."""
    if isinstance(source, ModelProto):
        model = ModelProto()
        model.CopyFrom(source)
        return Opened(model, None, {})
    if isinstance(source, bytes):
        return Opened(parse(source, "the model"), None, {})
    if not isinstance(source, str | os.PathLike):
        raise InputError(
            f"a model is the path of an ONNX file, the bytes of one, or a ModelProto, not a {type(source).__name__}"
        )
    path = Path(source)
    try:
        return open_mapped(path) or Opened(parse(path.read_bytes(), str(path)), path, {})
    except FileNotFoundError as error:
        raise FileError(f"{path}: no such file") from error
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error


def open_mapped(path: Path) -> Opened | None:
    """The model with its large weights left in the file; None where that cannot be done, or nothing is well formed."""
    if not MAPPED or not path.is_file():
        return None
    try:
        content = FileMap(path)
        head, places = cut_weights(content)
        model = ModelProto.FromString(head)
    except (ValueError, IndexError, DecodeError):
        return None
    if not model.HasField("graph") or not model.ir_version:
        return None
    weights = {}
    for number, (offset, length) in places.items():
        tensor = model.graph.initializer[number]
        dtype = mappable(tensor)
        if dtype is None or is_external(tensor) or length != prod(tensor.dims) * dtype.itemsize:
            tensor.raw_data = content[offset : offset + length]
        else:
            weights[number] = content.array(dtype, tuple(tensor.dims), offset)
    content.forget()
    return Opened(model, path, weights)


def parse(content: bytes, label: str) -> ModelProto:
    try:
        model = ModelProto.FromString(content)
    except DecodeError as error:
        raise ModelError(f"{label}: {diagnosis(content)}") from error
    if not model.HasField("graph") or not model.ir_version:
        raise ModelError(f"{label}: {diagnosis(content)}")
    return model


def diagnosis(content: bytes) -> str:
    """Why protobuf did not find a model in `content`. Every ONNX writer begins with the IR version, whose tag is 8."""
    if not content:
        return "is empty"
    if content.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the model: fetch the file itself with `git lfs pull`"
    if content[0] != 0x08:
        return "is not an ONNX file"
    expected = expected_size(content)
    if expected > len(content):
        return f"is cut short: it has {len(content)} bytes of at least {expected}; fetch or export it again"
    return "is damaged or cut short: protobuf finds no whole model in it; fetch or export it again"


def expected_size(content: bytes) -> int:
    """Where the last top-level field of a protobuf message says that it ends (0 for one that is not well formed).

    Wire format: https://protobuf.dev/programming-guides/encoding/, wire types 0 (varint) and 2 (length, then as many
    bytes), the only two that a ModelProto has.
    """
    position = 0
    try:
        while position < len(content):
            tag, position = varint(content, position)
            length, position = varint(content, position)
            if tag & 7 == 2:
                position += length
            elif tag & 7 != 0:
                return 0
    except IndexError:
        return len(content) + 1
    return position


def check(path: Path, label: str) -> None:
    """Run onnx's checker on a file, see `refusal`; raises ModelError with its reason."""
    refused = refusal(open_model(path))
    if refused:
        raise ModelError(f"{label}: onnx's checker refuses it: {refused}")


def refusal(opened: Opened) -> str:
    """Why onnx's checker refuses a model, "" when it does not.

    The checker wants to know the shape of every input and output. Some exporters leave shapes out, which says that they
    are unknown; onnxruntime takes such files, and so does this.
    """
    model, path, weights = opened
    bare = ports_without_shape(model)
    if any(is_external(tensor) for tensor in tensors_of(model.graph)):
        return complaint(whole(model) if bare else path or model)  # by its path, so that it looks into the folder too
    shells = [tensor for number, tensor in enumerate(model.graph.initializer) if number in weights]
    shapes = [tuple(tensor.dims) for tensor in shells]
    for tensor in shells:  # the checker need not see large weights: their sizes are known to be right
        tensor.dims[:] = [0]
    for port in bare:
        port.type.tensor_type.shape.SetInParent()
    refused = complaint(model)
    for port in bare:
        port.type.tensor_type.ClearField("shape")
    for tensor, shape in zip(shells, shapes, strict=True):
        tensor.dims[:] = shape
    return refused


def ports_without_shape(model: ModelProto) -> list[ValueInfoProto]:
    """Inputs and outputs of which the file says the element type alone."""
    ports = (*model.graph.input, *model.graph.output)
    return [p for p in ports if p.type.HasField("tensor_type") and not p.type.tensor_type.HasField("shape")]


def whole(model: ModelProto) -> ModelProto:
    """A copy that the checker can do without the files beside it, and that lacks no shapes of inputs and outputs."""
    copy = ModelProto()
    copy.CopyFrom(model)
    for tensor in filter(is_external, tensors_of(copy.graph)):
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
        tensor.dims[:] = [0]
    for port in ports_without_shape(copy):
        port.type.tensor_type.shape.SetInParent()
    return copy


def complaint(source: Path | ModelProto) -> str:
    """What the checker says; with a path it looks at external data too."""
    try:
        checker.check_model(source if isinstance(source, ModelProto) else os.fspath(source))
    except Exception as error:  # the checker is C++ and has several kinds of its own
        return reason(error)
    return ""


def reason(error: BaseException) -> str:
    """An error's text on one line."""
    text = " ".join(str(error).replace("==> Context:", "in").split()) or type(error).__name__
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 3] + "..."
