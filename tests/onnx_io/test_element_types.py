"""Operators on every element type that their definition allows, on empty tensors, and in every version that they have
had, against onnx's evaluator.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, defs, helper
from onnx.reference import ReferenceEvaluator

from nbcnn import load

RNG = np.random.default_rng(14)
OPSET = 24
ONE = ["Abs", "Identity", "Neg", "Sign", "Not", "BitwiseNot", "Shape", "Size", "EyeLike", "Trilu", "IsNaN", "IsInf"]
TWO = ["Add", "Sub", "Mul", "Div", "Mod", "Pow", "And", "Or", "Xor", "Equal", "Greater", "GreaterOrEqual", "Less"]
TWO += ["LessOrEqual", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitShift"]
THREE = ["Max", "Min", "Sum", "Mean", "Clip", "Where"]
ATTRS: dict[str, dict[str, Any]] = {"BitShift": {"direction": "LEFT"}}
NUMBERS = {
    "float": TensorProto.FLOAT,
    "double": TensorProto.DOUBLE,
    **{name: TensorProto.DataType.Value(name.upper()) for name in ("float16", "bfloat16", "bool")},
    **{f"{sign}int{bits}": TensorProto.DataType.Value(f"{sign}int{bits}".upper()) for sign in ("", "u")
       for bits in (8, 16, 32, 64)},
}  # fmt: skip
"""Element types in the words of a definition."""


def allowed(op: str, opset: int = OPSET) -> list[str]:
    """The element types of the last input (Where chooses between those)."""
    schema = defs.get_schema(op, opset)
    kind = schema.inputs[-1 if op == "Where" else 0].type_str
    names = next((c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == kind), [kind])
    found = [re.sub(r"tensor\((.*)\)", r"\1", name) for name in names]
    return [name for name in found if name in NUMBERS]


CASES = [(op, kind) for op in (*ONE, *TWO, *THREE) for kind in allowed(op)]


def draw(kind: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of which sums, products and powers fit into a byte, and by which can be divided."""
    if kind.kind == "b":
        return RNG.integers(0, 2, shape).astype(bool)
    return RNG.integers(1, 4, shape).astype(kind)


def inputs(op: str, kind: np.dtype, shape: tuple[int, ...]) -> list[np.ndarray]:
    if op == "Clip":
        return [draw(kind, shape), np.array(2).astype(kind), np.array(3).astype(kind)]
    if op == "Where":
        return [draw(np.dtype(bool), shape), draw(kind, shape[1:]), draw(kind, shape)]
    count = 1 if op in ONE else 2 if op in TWO else 3
    return [draw(kind, shape) for _ in range(count)]


def network(op: str, arrays: list[np.ndarray], opset: int = OPSET) -> Any:
    names = [f"x{i}" for i in range(len(arrays))]
    attrs = dict(ATTRS.get(op, {}))
    if op == "Clip" and opset < 11:
        attrs, arrays, names = {"min": arrays[1].item(), "max": arrays[2].item()}, arrays[:1], names[:1]
    kinds = [helper.np_dtype_to_tensor_dtype(a.dtype) for a in arrays]
    ports = [helper.make_tensor_value_info(n, k, a.shape) for n, k, a in zip(names, kinds, arrays, strict=True)]
    if op == "Mod" and arrays[0].dtype.kind not in "iu":
        attrs["fmod"] = 1
    schema = defs.get_schema(op, opset)
    made = {"tensor(int64)": TensorProto.INT64, "tensor(bool)": TensorProto.BOOL}
    result = schema.outputs[0].type_str
    fixed = next((c.allowed_type_strs for c in schema.type_constraints if c.type_param_str == result), [result])
    kind = made.get(fixed[0]) if len(fixed) == 1 else None
    shape = {"Shape": [2], "Size": []}.get(op, max((a.shape for a in arrays), key=len))
    output = helper.make_tensor_value_info("y", kind or kinds[-1 if op == "Where" else 0], shape)
    graph = helper.make_graph([helper.make_node(op, names, ["y"], **attrs)], op, ports, [output])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def compare(op: str, kind: str, shape: tuple[int, ...], opset: int) -> None:
    arrays = inputs(op, np.dtype(helper.tensor_dtype_to_np_dtype(NUMBERS[kind])), shape)
    model = network(op, arrays, opset)
    feeds = {value.name: a for value, a in zip(model.graph.input, arrays, strict=False)}
    (wanted,) = ReferenceEvaluator(model).run(None, feeds)
    (found,) = load(model).run(None, feeds)
    assert found.shape == np.shape(wanted)
    declared = model.graph.output[0].type.tensor_type.elem_type
    assert found.dtype == helper.tensor_dtype_to_np_dtype(declared)
    tolerance = {"float16": 1e-3, "bfloat16": 1e-2}.get(kind, 1e-6)
    np.testing.assert_allclose(found.astype(np.float64), np.asarray(wanted).astype(np.float64), rtol=tolerance)


@pytest.mark.parametrize("shape", [(3, 4), (2, 0)])
@pytest.mark.parametrize(("op", "kind"), CASES)
def test_element_type(op: str, kind: str, shape: tuple[int, ...]) -> None:
    compare(op, kind, shape, OPSET)


VERSIONS = [
    (schema.name, schema.since_version)
    for schema in defs.get_all_schemas_with_history()
    if schema.name in (*ONE, *TWO, *THREE) and not schema.domain and 6 <= schema.since_version < OPSET
]


@pytest.mark.parametrize(("op", "opset"), sorted(VERSIONS))
def test_version(op: str, opset: int) -> None:
    kinds = allowed(op, opset)
    compare(op, "float" if "float" in kinds else kinds[-1], (3, 4), opset)
