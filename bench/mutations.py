"""Models made wrong: bytes changed, fields dropped, numbers made huge or negative, cycles, missing tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from onnx import ModelProto

__all__ = ["mutate"]

NUMBERS = (0, 1, -1, 2, 3, 7, -7, 255, 2**16, 2**31 - 1, -(2**31), 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))
FLOATS = (0.0, -1.0, float("nan"), float("inf"), -float("inf"), 1e38, 1e-45)
LENGTH_DELIMITED = 9, 11, 12
"""Protobuf's numbers of the field types string, message and bytes."""

Rng = np.random.Generator


def mutate(source: bytes, rng: Rng) -> bytes:
    """A model changed in one to three ways. source: a serialized ModelProto."""
    content = source
    for _ in range(int(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1]))):
        change = change_bytes if rng.random() < 0.15 else change_message
        content = change(content, rng)
    return content


def change_bytes(content: bytes, rng: Rng) -> bytes:
    """Flip, insert, remove or repeat some bytes, or cut the rest off."""
    found = bytearray(content)
    place = int(rng.integers(len(found) + 1))
    length = int(rng.integers(1, 9))
    kind = rng.integers(5)
    if kind == 0:
        for index in rng.integers(0, max(len(found), 1), length):
            if found:
                found[index] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        found[place:place] = rng.bytes(length)
    elif kind == 2:
        del found[place : place + length]
    elif kind == 3:
        found[place:place] = found[place : place + 10 * length]
    else:
        del found[place:]
    return bytes(found)


def change_message(content: bytes, rng: Rng) -> bytes:
    """Change one thing of a model that protobuf can still read; bytes where it cannot."""
    model = ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError:
        return change_bytes(content, rng)
    change = CHANGES[int(rng.integers(len(CHANGES)))]
    try:
        change(model, rng)
        return bytes(model.SerializeToString())
    except (ValueError, TypeError, IndexError):  # nothing to change, or a value that the field does not take
        return change_bytes(content, rng)


def messages(message: Message) -> Iterator[Message]:
    """A message and all that it holds."""
    yield message
    for field, value in message.ListFields():
        if field.type == 11:
            for inner in value if hasattr(value, "append") else [value]:
                yield from messages(inner)


def pick(items: Any, rng: Rng) -> Any:
    """One of some things; raises IndexError where there is none."""
    found = list(items)
    return found[int(rng.integers(len(found)))] if found else found[0]


def drop_field(model: ModelProto, rng: Rng) -> None:
    message = pick(messages(model), rng)
    field, value = pick(message.ListFields(), rng)
    if hasattr(value, "append") and len(value) > 1 and rng.random() < 0.7:
        del value[int(rng.integers(len(value)))]
    else:
        message.ClearField(field.name)


def change_number(model: ModelProto, rng: Rng) -> None:
    """A number of any field: a dimension, an attribute, a data type, a version."""
    places = [(m, f, v) for m in messages(model) for f, v in m.ListFields() if f.type not in LENGTH_DELIMITED]
    message, field, value = pick(places, rng)
    number = pick(FLOATS if field.type in (1, 2) else NUMBERS, rng)
    if field.type in (5, 14):  # int32, enum
        number = int(np.clip(number, -(2**31), 2**31 - 1))
    if hasattr(value, "append"):
        value[int(rng.integers(len(value)))] = number
    else:
        setattr(message, field.name, number)


def change_shape(model: ModelProto, rng: Rng) -> None:
    """A dimension of a weight or of what is declared."""
    infos = (*model.graph.input, *model.graph.output, *model.graph.value_info)
    dims = [d for i in infos for d in i.type.tensor_type.shape.dim]
    tensors = [*model.graph.initializer, *(a.t for n in model.graph.node for a in n.attribute if a.HasField("t"))]
    if rng.random() < 0.5 and tensors:
        tensor = pick(tensors, rng)
        tensor.dims.append(1)
        tensor.dims[int(rng.integers(len(tensor.dims)))] = pick(NUMBERS, rng)
    else:
        pick(dims, rng).dim_value = pick(NUMBERS, rng)


def change_name(model: ModelProto, rng: Rng) -> None:
    """A node reads or writes something else: cycles, values twice, values that nobody makes."""
    node = pick(model.graph.node, rng)
    names = [name for n in model.graph.node for name in (*n.input, *n.output)] + ["", "missing", "\u00fc"]
    side = node.input if rng.random() < 0.6 else node.output
    if side and rng.random() < 0.8:
        side[int(rng.integers(len(side)))] = pick(names, rng)
    else:
        side.append(pick(names, rng))


def change_operator(model: ModelProto, rng: Rng) -> None:
    """Another operator with the attributes of this one, another domain, or another opset."""
    node = pick(model.graph.node, rng)
    kind = rng.integers(4)
    if kind == 0:
        node.op_type = pick(OPERATORS, rng)
    elif kind == 1:
        node.domain = pick(("", "ai.onnx", "ai.onnx.ml", "own"), rng)
    elif kind == 2:
        pick(model.opset_import, rng).version = int(rng.integers(1, 30))
    else:
        pick(node.attribute, rng).name = pick(("axis", "axes", "pads", "strides", "kernel_shape", "group", "to"), rng)


def lose_tensor(model: ModelProto, rng: Rng) -> None:
    del model.graph.initializer[int(rng.integers(len(model.graph.initializer)))]


def empty_tensor(model: ModelProto, rng: Rng) -> None:
    """The numbers of a tensor gone, or others."""
    tensor = pick(model.graph.initializer, rng)
    tensor.raw_data = pick((b"", b"\xff" * len(tensor.raw_data), rng.bytes(len(tensor.raw_data))), rng)


def lie_elsewhere(model: ModelProto, rng: Rng) -> None:
    """The payload of a tensor in another file."""
    tensor = pick(model.graph.initializer, rng)
    tensor.data_location = 1
    tensor.external_data.add(key="location", value=pick(("/etc/hostname", "../m.onnx", "m.onnx", "", "."), rng))
    tensor.external_data.add(key="offset", value=str(pick(NUMBERS, rng)))
    tensor.external_data.add(key="length", value=str(pick(NUMBERS, rng)))
    tensor.ClearField("raw_data")


def reorder(model: ModelProto, rng: Rng) -> None:
    nodes = [model.graph.node[i] for i in rng.permutation(len(model.graph.node))]
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


OPERATORS = ("Conv", "Gemm", "MatMul", "Reshape", "Concat", "Slice", "Expand", "Tile", "Pad", "Resize", "Range", "If")
OPERATORS += ("ConstantOfShape", "Gather", "MaxPool", "BatchNormalization", "Loop", "Split", "Einsum", "OneHot", "Cast")

Change = Callable[[ModelProto, Rng], None]
CHANGES: tuple[Change, ...] = (
    drop_field, drop_field, change_number, change_number, change_number, change_shape, change_name, change_operator,
    lose_tensor, empty_tensor, lie_elsewhere, reorder,
)  # fmt: skip
