"""ValueInfoProto to Value and back: names, element types and shapes."""

from __future__ import annotations

import numpy as np
from onnx import TypeProto, ValueInfoProto, helper

from nbcnn.graph import Dim, Value
from nbcnn.onnx_io.tensors import dtype_of

__all__ = ["read_value", "value_info"]


def read_value(info: ValueInfoProto) -> Value:
    """What a file says of a value; sequences, maps and sparse tensors have neither dtype nor shape here."""
    if info.type.WhichOneof("value") != "tensor_type":
        return Value(info.name, origin=info)
    tensor = info.type.tensor_type
    shape = tuple(read_dim(dim) for dim in tensor.shape.dim) if tensor.HasField("shape") else None
    return Value(info.name, dtype_of(tensor.elem_type), shape, origin=info)


def read_dim(dim: object) -> Dim:
    """A number, a symbol, or None; some exporters write a negative number for what they do not know."""
    which = dim.WhichOneof("value")  # type: ignore[attr-defined]
    if which == "dim_value":
        return int(dim.dim_value) if dim.dim_value >= 0 else None  # type: ignore[attr-defined]
    return str(dim.dim_param) or None if which == "dim_param" else None  # type: ignore[attr-defined]


def value_info(value: Value) -> ValueInfoProto:
    """The file's own words (doc string, denotations), with type and shape rewritten where they no longer hold."""
    info = ValueInfoProto()
    if value.origin is not None:
        info.CopyFrom(value.origin)
        known = read_value(value.origin)
        if (known.dtype, known.shape) != (value.dtype, value.shape):
            info.type.CopyFrom(tensor_type(value.dtype, value.shape))
    elif value.dtype is not None:
        info.type.CopyFrom(tensor_type(value.dtype, value.shape))
    info.name = value.name
    return info


def tensor_type(dtype: np.dtype | None, shape: tuple[Dim, ...] | None) -> TypeProto:
    element = 0 if dtype is None else helper.np_dtype_to_tensor_dtype(dtype)
    return helper.make_tensor_type_proto(element, shape)
