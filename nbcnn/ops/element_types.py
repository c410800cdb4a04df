"""ONNX's numbers of element types (TensorProto.DataType) as types of NumPy and ml_dtypes."""

from __future__ import annotations

import numpy as np

from nbcnn.errors import ModelError, UnsupportedError
from nbcnn.graph import Node, Value, is_float

__all__ = ["TEXT", "element_type", "is_text", "need_numbers"]

NAMES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "object",  # strings
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    16: "bfloat16",
    17: "float8_e4m3fn",
    18: "float8_e4m3fnuz",
    19: "float8_e5m2",
    20: "float8_e5m2fnuz",
    21: "uint4",
    22: "int4",
    23: "float4_e2m1fn",
    24: "float8_e8m0fnu",
    25: "uint2",
    26: "int2",
    27: "float6_e2m3fn",
    28: "float6_e3m2fn",
}
TEXT = np.dtype(object)


def element_type(node: Node, number: int) -> np.dtype:
    """The type of this number; raises UnsupportedError for complex and unknown ones."""
    import ml_dtypes  # noqa: F401 (it makes the names of small types known to NumPy)

    if number not in NAMES:
        raise UnsupportedError(f"{node.label}: ONNX's element type {number} is not supported")
    return np.dtype(NAMES[number])


def need_numbers(node: Node, value: Value) -> None:
    """Raise ModelError for what operators on numbers do not take: booleans, strings, and numbers of a byte's part."""
    assert value.dtype is not None
    if not is_float(value.dtype) and value.dtype.kind not in "iu":
        raise ModelError(f"{node.label}: takes numbers, but {value.name!r} holds {value.dtype.name}")


def is_text(dtype: np.dtype) -> bool:
    """Whether elements are strings."""
    return dtype.kind in "OSUT"
