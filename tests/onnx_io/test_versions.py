"""Every operator by the rules of every version of it from opset 6 on.

Three ways to a model of an older (or newer) version: a node test of onnx with another opset written on it, which
onnxruntime then computes by that opset's rules; the same through onnx's converter, which must not change its results;
and nodes made by hand, in forms that later versions gave up.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from networks import onnxruntime_run, proto
from onnx import defs, helper

from nbcnn.errors import ModelError
from nbcnn.onnx_io import read_model, to_proto
from nbcnn.onnx_io.backend import Backend
from nbcnn.onnx_io.conversion import convert
from nbcnn.ops import REGISTRY

OLDEST, NEWEST = 6, defs.onnx_opset_version()
CASES, LARGEST = 2, 20_000
"""So many node tests for each operator and version, of at most so many elements."""

WRONG = {
    "MaxUnpool": "onnxruntime ignores output_shape",
    "PRelu": "onnx's converter keeps slopes that opset 6 does not know; onnxruntime has only opset 7",
    "CastLike": "the tests feed element types that NumPy does not have",
    "Dropout": "random",
    "RandomNormal": "random",
}
"""Operators for which the other side is no oracle."""


@cache
def versions() -> dict[str, list[int]]:
    """The opsets from which on an operator has other rules."""
    found = defaultdict(list)
    for schema in defs.get_all_schemas_with_history():
        if schema.domain == "":
            found[schema.name].append(schema.since_version)
    return {name: sorted(numbers) for name, numbers in found.items()}


@cache
def node_tests() -> dict[str, list[tuple[onnx.ModelProto, list[np.ndarray], list[np.ndarray], float, float]]]:
    """Operator -> onnx's tests of it: model, inputs, expected outputs, tolerances."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnx makes infinities on purpose
        from onnx.backend.test.loader import load_model_tests

        cases = load_model_tests(kind="node")
    found = defaultdict(list)
    for case in cases:
        nodes, sets = case.model.graph.node, case.data_sets
        if len(nodes) != 1 or nodes[0].domain or "_expanded" in case.name or not sets:
            continue
        inputs, outputs = sets[0]
        arrays = [*inputs, *outputs]
        if all(isinstance(a, np.ndarray) and a.dtype.kind in "fiub" and a.size <= LARGEST for a in arrays):
            found[nodes[0].op_type].append((case.model, list(inputs), list(outputs), case.rtol, case.atol))
    return found


def opsets(op: str, own: int) -> Iterator[int]:
    """An opset for each version of an operator, but for the one that a model is written in."""
    numbers = versions()[op]
    for version, following in zip(numbers, [*numbers[1:], NEWEST + 1], strict=True):
        if following > OLDEST and not version <= own < following:
            yield max(version, OLDEST)


def relabelled(model: onnx.ModelProto, opset: int) -> onnx.ModelProto | None:
    """The model as if it had been written for this opset; None where it says what that opset does not know."""
    other = onnx.ModelProto()
    other.CopyFrom(model)
    other.opset_import[0].version = opset
    other.ir_version = min(other.ir_version, 10)
    try:
        onnx.checker.check_model(other, full_check=True)
    except Exception:  # the checker is C++ and has several kinds of its own
        return None
    return other


def there(model: onnx.ModelProto, inputs: list[np.ndarray]) -> list[np.ndarray] | None:
    """What onnxruntime computes, if it can."""
    try:
        return onnxruntime_run(model, dict(zip((i.name for i in model.graph.input), inputs, strict=True)))
    except Exception:  # it has many kinds of its own
        return None


def assert_agrees(got: Any, want: Any, rtol: float, atol: float) -> None:
    for y, expected in zip(got, want, strict=True):
        assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_allclose(y, expected, rtol=max(rtol, 1e-5), atol=max(atol, 1e-5))


OPERATORS = sorted(n for n in REGISTRY if n not in WRONG and len([*opsets(n, 0)] if n in versions() else []) > 1)


@pytest.mark.parametrize("op", OPERATORS)
def test_by_the_rules_of_another_opset(op: str) -> None:
    counts: dict[int, int] = defaultdict(int)
    for model, inputs, _, rtol, atol in node_tests()[op]:
        for opset in opsets(op, model.opset_import[0].version):
            other = relabelled(model, opset) if counts[opset] < CASES else None
            want = there(other, inputs) if other is not None else None
            if other is not None and want is not None:
                counts[opset] += 1
                assert_agrees(Backend.run_model(other, inputs), want, rtol, atol)
    if not counts:
        pytest.skip(f"no node test of {op} says the same in another version, or onnxruntime has only one")


@pytest.mark.parametrize("op", OPERATORS)
def test_through_the_converter(op: str) -> None:
    counts: dict[int, int] = defaultdict(int)
    for model, inputs, outputs, rtol, atol in node_tests()[op]:
        for opset in opsets(op, model.opset_import[0].version):
            if counts[opset] >= CASES:
                continue
            try:
                other = to_proto(convert(read_model(model), opset))
                onnx.checker.check_model(other)
            except (ModelError, onnx.checker.ValidationError):
                continue
            counts[opset] += 1
            assert_agrees(Backend.run_model(other, inputs), outputs, rtol, atol)
    if not counts:
        pytest.skip(f"onnx's converter has no way for {op} from one version to another")


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


X = draw(2, 3, 5, 4)
PLANES = [np.abs(draw(3, seed=i)) + 0.5 for i in range(1, 5)]
OLD_FORMS: list[tuple[str, int, list[Any], dict[str, Any]]] = [
    ("BatchNormalization", 7, [X, *PLANES], {"spatial": 1}),
    ("BatchNormalization", 8, [X, *PLANES], {}),
    ("Dropout", 7, [X], {"ratio": 0.3}),
    ("Dropout", 10, [X], {"ratio": 0.3}),
    ("Clip", 6, [X], {"min": -0.2, "max": 0.5}),
    ("Clip", 6, [X], {"max": 0.5}),
    ("Pad", 7, [X], {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "mode": "reflect"}),
    ("Pad", 10, [X], {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "value": 0.5}),
    ("Slice", 9, [X], {"starts": [1, -3], "ends": [1000, -1], "axes": [1, 2]}),
    ("Slice", 9, [X], {"starts": [0, 1], "ends": [1, 3]}),
    ("Squeeze", 11, [draw(2, 1, 3, 1)], {"axes": [1]}),
    ("Squeeze", 9, [draw(2, 1, 3, 1)], {}),
    ("Unsqueeze", 11, [X], {"axes": [0, 3]}),
    ("Split", 11, [X], {"axis": 1, "split": [1, 2]}),
    ("Upsample", 7, [X], {"scales": [1.0, 1.0, 2.0, 3.0], "mode": "nearest"}),
    ("Upsample", 9, [X, np.float32([1, 1, 2, 2])], {"mode": "linear"}),
    ("Resize", 10, [X, np.float32([1, 1, 2, 0.5])], {"mode": "nearest"}),
    ("Resize", 10, [X, np.float32([1, 1, 1.5, 2])], {"mode": "linear"}),
    ("Softmax", 11, [X], {}),
    ("Softmax", 6, [X], {"axis": 2}),
    ("LogSoftmax", 11, [X], {"axis": 2}),
    ("TopK", 9, [X], {"k": 2, "axis": 2}),
    ("TopK", 10, [X, np.int64([2])], {"axis": 1}),
    ("MaxPool", 7, [X], {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("AveragePool", 7, [X], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("LpPool", 7, [X], {"kernel_shape": [2, 2], "p": 3}),
    ("Scatter", 9, [draw(3, 3), np.int64([[0, 2, 1]]), draw(1, 3, seed=1)], {"axis": 0}),
    ("InstanceNormalization", 6, [X, *PLANES[:2]], {}),
    ("Cast", 6, [X], {"to": 7}),
    ("Flatten", 6, [X], {"axis": 2}),
    ("Gather", 6, [X, np.int64([2, 0])], {"axis": 1}),
    *(
        (op, opset, [np.abs(X) + 0.1], {"axes": [1, 3], "keepdims": keep})
        for op in ("ReduceMean", "ReduceMax", "ReduceSum", "ReduceL2", "ReduceLogSumExp", "ReduceProd")
        for opset, keep in ((6, 1), (11, 0))
    ),
]
NORMALIZED = (X - PLANES[2][:, None, None]) / np.sqrt(PLANES[3][:, None, None] + 0.01)
OPSET_6: list[tuple[str, list[np.ndarray], dict[str, Any], np.ndarray]] = [
    ("Add", [X, draw(3)], {"broadcast": 1, "axis": 1}, X + draw(3, 1, 1)),
    ("Mul", [X, draw(5, 4)], {"broadcast": 1}, X * draw(5, 4)),
    ("Sub", [X, draw(3, 5)], {"broadcast": 1, "axis": 1}, X - draw(3, 5, 1)),
    ("Div", [X, np.array([2], np.float32)], {"broadcast": 1}, X / 2),
    ("Gemm", [draw(3, 4), draw(5, 4), draw(5)], {"broadcast": 1, "transB": 1}, draw(3, 4) @ draw(5, 4).T + draw(5)),
    ("PRelu", [X, PLANES[0]], {}, np.where(X < 0, X * PLANES[0][:, None, None], X)),
    ("Dropout", [X], {"is_test": 1, "ratio": 0.3}, X),
    (
        "BatchNormalization",
        [X, *PLANES],
        {"is_test": 1, "epsilon": 0.01},
        NORMALIZED * PLANES[0][:, None, None] + PLANES[1][:, None, None],
    ),
]
"""Forms that onnxruntime does not have any more, and what they are by ONNX's words."""
OUTPUTS = {"Split": 2, "TopK": 2}


def one_node(op: str, opset: int, arrays: list[Any], attrs: dict[str, Any]) -> onnx.ModelProto:
    """A network of this node, which is fed its first input."""
    names = [f"x{i}" for i in range(len(arrays))]
    outputs = [f"y{i}" for i in range(OUTPUTS.get(op, 1))]
    node = helper.make_node(op, names, outputs, op.lower(), **attrs)
    weights = dict(zip(names[1:], map(np.asarray, arrays[1:]), strict=True))
    model = proto([node], {"x0": list(arrays[0].shape)}, dict.fromkeys(outputs, None), weights, opset=opset)
    for info in model.graph.output:
        info.ClearField("type")
    return onnx.shape_inference.infer_shapes(model)


@pytest.mark.parametrize(("op", "opset", "arrays", "attrs"), OLD_FORMS, ids=lambda v: v if isinstance(v, str) else None)
def test_forms_that_later_opsets_gave_up(op: str, opset: int, arrays: list[Any], attrs: dict[str, Any]) -> None:
    model = one_node(op, opset, arrays, attrs)
    assert_agrees(Backend.run_model(model, arrays[:1]), onnxruntime_run(model, {"x0": arrays[0]}), 1e-5, 1e-5)


@pytest.mark.parametrize(("op", "arrays", "attrs", "want"), OPSET_6, ids=lambda v: v if isinstance(v, str) else None)
def test_forms_that_nobody_else_has(op: str, arrays: list[Any], attrs: dict[str, Any], want: np.ndarray) -> None:
    assert_agrees(Backend.run_model(one_node(op, 6, arrays, attrs), arrays[:1]), [want], 1e-5, 1e-5)
