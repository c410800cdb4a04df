"""Getting a ModelProto out of what the user gave, or one clear line about why not."""

from __future__ import annotations

import os
from pathlib import Path

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, checker

from nbcnn.errors import FileError, InputError, ModelError

__all__ = ["Source", "check", "open_model", "reason", "refusal"]

Source = str | os.PathLike[str] | bytes | ModelProto
"""A model: the path of its file, the file's content, or onnx's own object."""

LONGEST_REASON = 400


def open_model(source: Source) -> tuple[ModelProto, Path | None]:
    """The model and its path, None when it does not come from a file. The ModelProto is the caller's to change."""
    if isinstance(source, ModelProto):
        model = ModelProto()
        model.CopyFrom(source)
        return model, None
    if isinstance(source, bytes):
        return parse(source, "the model"), None
    path = Path(source)
    try:
        return parse(path.read_bytes(), str(path)), path
    except FileNotFoundError as error:
        raise FileError(f"{path}: no such file") from error
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error


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


def varint(content: bytes, position: int) -> tuple[int, int]:
    """The number that begins at `position` and the position behind it."""
    number = shift = 0
    while True:
        byte = content[position]
        number |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if not byte & 0x80:
            return number, position


def check(source: Source, label: str) -> None:
    """Run onnx's checker; raises ModelError with its reason."""
    refused = refusal(source)
    if refused:
        raise ModelError(f"{label}: onnx's checker refuses it: {refused}")


def refusal(source: Source) -> str:
    """Why onnx's checker refuses a model, "" when it does not. With a path it looks at external data too."""
    if not isinstance(source, ModelProto | bytes | str | os.PathLike):
        raise InputError(
            f"a model is the path of an ONNX file, the bytes of one, or a ModelProto, not a {type(source).__name__}"
        )
    try:
        checker.check_model(source if isinstance(source, ModelProto | bytes) else os.fspath(source))
    except Exception as error:  # the checker is C++ and has several kinds of its own
        return reason(error)
    return ""


def reason(error: BaseException) -> str:
    """An error's text on one line."""
    text = " ".join(str(error).replace("==> Context:", "in").split()) or type(error).__name__
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 3] + "..."
