"""Protobuf's wire format, as far as it takes to keep the weights of a model away from protobuf.

Protobuf copies all that it reads and all that it writes. Of a model's large initializers only the place in the file is
noted here, and the rest, some kilobytes, is what protobuf gets; when a model is written they are put in again.
Format: https://protobuf.dev/programming-guides/encoding/; field numbers: onnx/onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from mmap import mmap

__all__ = ["LARGE", "Content", "cut_weights", "put_weights", "varint"]

Content = bytes | mmap

LARGE = 1 << 15
"""Bytes from which on a weight stays in the file."""

GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9
"""Field numbers: ModelProto.graph, GraphProto.initializer, TensorProto.raw_data."""

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""Wire types."""

TENSOR_FIELDS = 64
"""A tensor of more fields is left whole: it has its elements as a field each, and looking for more would take long."""


@dataclass(frozen=True)
class Field:
    """begin: where its tag is. start, stop: where its value is, for LENGTH without the length."""

    number: int
    wire: int
    begin: int
    start: int
    stop: int


def varint(content: Content, position: int) -> tuple[int, int]:
    """The number that begins at `position` and the position behind it."""
    number = shift = 0
    while True:
        byte = content[position]
        number |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if not byte & 0x80:
            return number, position


def encode_varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def fields(content: Content, start: int, stop: int) -> Iterator[Field]:
    """The fields of the message in content[start:stop]. Raises ValueError where it is not well formed."""
    position = start
    while position < stop:
        tag, first = varint(content, position)
        wire, end = tag & 7, first
        if wire == VARINT:
            end = varint(content, first)[1]
        elif wire == LENGTH:
            length, first = varint(content, first)
            end = first + length
        elif wire in (FIXED32, FIXED64):
            end = first + (4 if wire == FIXED32 else 8)
        else:
            raise ValueError(f"wire type {wire}")
        if end > stop:
            raise ValueError("a field ends behind its message")
        yield Field(tag >> 3, wire, position, first, end)
        position = end


def cut_weights(content: Content) -> tuple[bytes, dict[int, tuple[int, int]]]:
    """A ModelProto's bytes with the raw data of its large initializers left out, and where in `content` that is.

    Returns the bytes, and number of the initializer -> (offset, length). Raises ValueError or IndexError where
    `content` is not well formed.
    """
    places: dict[int, tuple[int, int]] = {}
    pieces, count = [], 0
    for field in fields(content, 0, len(content)):
        if field.number == GRAPH and field.wire == LENGTH:
            graph, count = cut_graph(content, field, places, count)
            pieces.append(message(GRAPH, graph))
        else:
            pieces.append(content[field.begin : field.stop])
    return b"".join(pieces), places


def cut_graph(content: Content, graph: Field, places: dict[int, tuple[int, int]], count: int) -> tuple[bytes, int]:
    """A GraphProto's bytes without the weights that go to `places`; count: the initializers before and after it."""
    pieces = []
    for field in fields(content, graph.start, graph.stop):
        payload = None
        if field.number == INITIALIZER and field.wire == LENGTH:
            if field.stop - field.start >= LARGE:
                payload = raw_data(content, field)
            count += 1
        if payload is None:
            pieces.append(content[field.begin : field.stop])
            continue
        places[count - 1] = payload.start, payload.stop - payload.start
        before, behind = content[field.start : payload.begin], content[payload.stop : field.stop]
        pieces.append(message(INITIALIZER, before + message(RAW_DATA, b"") + behind))
    return b"".join(pieces), count


def put_weights(head: bytes, lengths: Mapping[int, int]) -> list[bytes | int]:
    """The inverse of `cut_weights`: the pieces of a ModelProto's bytes, with numbers where raw data belongs.

    lengths: number of the initializer -> bytes of its raw data, which is empty in `head`. A number in the result
    stands for the raw data of that initializer.
    """
    pieces: list[bytes | int] = []
    count = 0
    for field in fields(head, 0, len(head)):
        if field.number != GRAPH:
            pieces.append(head[field.begin : field.stop])
            continue
        inner: list[bytes | int] = []
        for part in fields(head, field.start, field.stop):
            number, count = count, count + (part.number == INITIALIZER)
            if part.number != INITIALIZER or number not in lengths:
                inner.append(head[part.begin : part.stop])
                continue
            place = next(entry for entry in fields(head, part.start, part.stop) if entry.number == RAW_DATA)
            before = head[part.start : place.begin] + encode_varint(RAW_DATA << 3 | LENGTH)
            before, behind = before + encode_varint(lengths[number]), head[place.stop : part.stop]
            inner += [header(INITIALIZER, len(before) + lengths[number] + len(behind)) + before, number, behind]
        size = sum(lengths[piece] if isinstance(piece, int) else len(piece) for piece in inner)
        pieces += [header(GRAPH, size), *inner]
    return pieces


def raw_data(content: Content, tensor: Field) -> Field | None:
    """The raw data of a TensorProto, if it is large and there once."""
    known = list(islice(fields(content, tensor.start, tensor.stop), TENSOR_FIELDS + 1))
    found = [field for field in known if field.number == RAW_DATA and field.wire == LENGTH]
    if len(known) > TENSOR_FIELDS or len(found) != 1 or found[0].stop - found[0].start < LARGE:
        return None
    return found[0]


def message(number: int, value: bytes) -> bytes:
    """A field of wire type LENGTH."""
    return header(number, len(value)) + value


def header(number: int, length: int) -> bytes:
    """What stands before the value of such a field."""
    return encode_varint(number << 3 | LENGTH) + encode_varint(length)
