"""Operators that move, pick and bring together elements, at every version of ONNX from opset 6 on: files as each
version writes them, accepted by onnx's checker, against NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx.defs
import pytest
from onnx import helper, numpy_helper

import nbcnn
from nbcnn.ops import REGISTRY

OLDEST = 6
X = np.arange(24, dtype=np.float32).reshape(2, 3, 4) - 7.5
P = np.arange(32, dtype=np.float32).reshape(1, 8, 2, 2)
DEEP = P.reshape(1, 2, 2, 2, 2, 2).transpose(0, 3, 4, 1, 5, 2).reshape(1, 2, 4, 4)
NEWEST = onnx.defs.onnx_opset_version()


@dataclass
class Form:
    """How files write an operator from the first to the last opset. inputs: the first is fed, the others constants."""

    op: str
    first: int
    last: int
    expected: list[Any]
    inputs: list[np.ndarray | None] = field(default_factory=lambda: [X])
    attrs: dict[str, Any] = field(default_factory=dict)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def reductions() -> list[Form]:
    found = []
    rules = {
        "ReduceSum": lambda x: x.sum((1, 2)),
        "ReduceMean": lambda x: x.mean((1, 2)),
        "ReduceMax": lambda x: x.max((1, 2)),
        "ReduceMin": lambda x: x.min((1, 2)),
        "ReduceProd": lambda x: x.prod((1, 2)),
        "ReduceL1": lambda x: abs(x).sum((1, 2)),
        "ReduceL2": lambda x: np.sqrt((x * x).sum((1, 2))),
        "ReduceSumSquare": lambda x: (x * x).sum((1, 2)),
        "ReduceLogSum": lambda x: np.log(x.sum((1, 2))),
        "ReduceLogSumExp": lambda x: np.log(np.exp(x).sum((1, 2))),
    }
    x = abs(X) / 4
    for op, rule in rules.items():
        change = 13 if op == "ReduceSum" else 18
        found.append(Form(op, 1, change - 1, [rule(x)], [x], {"axes": [1, 2], "keepdims": 0}))
        found.append(Form(op, 11, change - 1, [rule(x)], [x], {"axes": [-1, 1], "keepdims": 0}))
        found.append(Form(op, change, NEWEST, [rule(x)], [x, ints(1, -1)], {"keepdims": 0}))
        found.append(Form(op, change, NEWEST, [rule(x[:1])[0]], [x[0], None], {"keepdims": 0}))
    found.append(Form("ReduceSum", 13, NEWEST, [X], [X], {"noop_with_empty_axes": 1}))
    found.append(Form("ReduceSumSquare", 18, NEWEST, [X * X], [X], {"noop_with_empty_axes": 1}))
    found.append(Form("ReduceMax", 20, NEWEST, [(X > 3).max(2, keepdims=True)], [X > 3, ints(2)]))
    return found


ORDER = np.argsort(-X, 2)[:, :, :2]
TIES = np.array([[1, 3, 3, 0, 1]], np.float32)
AT = ints(2, 0)
EACH = np.array([[[1, 0], [0, 2]]])
UPDATES = np.array([[[1, 2], [3, 4]]], np.float32)


def scattered() -> np.ndarray:
    y = X.copy()
    for place in np.ndindex(*EACH.shape):
        y[place[0], EACH[place], place[2]] = UPDATES[place]
    return y


def added() -> np.ndarray:
    y = X.copy()
    y[0, 1] += 1
    y[1, 2] += 2
    return y


ADDED = [X, np.array([[0, 1], [1, 2]]), np.array([[1] * 4, [2] * 4], np.float32)]
BOXES = np.array([[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 2, 1, 3]]], np.float32)
SCORES = np.array([[[0.5, 0.75, 0.6]]], np.float32)
A, B = X[0], X[1].T
C = ints(1, 2, 3).astype(np.float32)

FORMS = [
    *reductions(),
    Form("ArgMax", 1, NEWEST, [X.argmax(1)], attrs={"axis": 1, "keepdims": 0}),
    Form("ArgMax", 11, NEWEST, [X.argmax(2, keepdims=True)], attrs={"axis": -1}),
    Form("ArgMin", 1, NEWEST, [X.argmin(1)], attrs={"axis": 1, "keepdims": 0}),
    Form("ArgMax", 12, NEWEST, [[[2]]], [TIES], {"axis": 1, "select_last_index": 1}),
    Form("TopK", 1, 9, [np.take_along_axis(X, ORDER, 2), ORDER], [X], {"k": 2}),
    Form("TopK", 10, NEWEST, [np.take_along_axis(X, ORDER, 2), ORDER], [X, ints(2)]),
    Form(
        "TopK", 11, NEWEST, [X[:, :1], np.zeros((2, 1, 4), int)], [X, ints(1)], {"axis": 1, "largest": 0, "sorted": 0}
    ),
    Form("Gather", 1, NEWEST, [X[:, [2, 0]]], [X, AT], {"axis": 1}),
    Form("Gather", 11, NEWEST, [X[:, [2, 0]]], [X, ints(-1, 0)], {"axis": 1}),
    Form("GatherElements", 11, NEWEST, [np.take_along_axis(X[:1, :2, :2], EACH % 2, 1)], [X, EACH % 2], {"axis": 1}),
    Form("GatherND", 11, NEWEST, [X[[0, 1], [1, 2]]], [X, ADDED[1]]),
    Form("GatherND", 12, NEWEST, [X[[0, 1], [1, 2]]], [X, ints(1, 2)[:, None]], {"batch_dims": 1}),
    Form("Scatter", 9, 10, [scattered()], [X, EACH, UPDATES], {"axis": 1}),
    Form("ScatterElements", 11, NEWEST, [scattered()], [X, EACH, UPDATES], {"axis": 1}),
    Form("ScatterND", 11, NEWEST, [X - X], [X, ints(0, 1)[:, None], X - X]),
    Form("ScatterND", 16, NEWEST, [added()], ADDED, {"reduction": "add"}),
    Form(
        "ScatterND", 18, NEWEST, [np.maximum(added(), X)], [X, ADDED[1], added()[[0, 1], [1, 2]]], {"reduction": "max"}
    ),
    Form("Compress", 9, NEWEST, [X[:, [0, 2]]], [X, np.array([True, False, True])], {"axis": 1}),
    Form("NonZero", 9, NEWEST, [np.nonzero(X > 0)], [np.maximum(X, 0)]),
    Form("Unique", 11, NEWEST, [[0.0, 1.0, 3.0], [3, 0, 1], [1, 2, 2, 0, 1], [1, 2, 2]], [TIES[0]]),
    Form("NonMaxSuppression", 10, NEWEST, [[[0, 0, 1], [0, 0, 2]]], [BOXES, SCORES, ints(3), C[:1] / 2, C[:1] / 4]),
    Form("ReverseSequence", 10, NEWEST, [X[:, ::-1]], [X, ints(3, 3)], {"batch_axis": 0, "time_axis": 1}),
    Form("Tile", 6, NEWEST, [np.tile(X, (1, 2, 3))], [X, ints(1, 2, 3)]),
    Form("Expand", 8, NEWEST, [np.broadcast_to(X, (5, 2, 3, 4))], [X, ints(5, 1, 3, 1)]),
    Form("Split", 2, 12, [X[:, :1], X[:, 1:]], [X], {"axis": 1, "split": [1, 2]}),
    Form("Split", 2, 17, [X[..., :2], X[..., 2:]], [X], {"axis": 2}),
    Form("Split", 13, NEWEST, [X[:, :1], X[:, 1:]], [X, ints(1, 2)], {"axis": -2}),
    Form("Split", 18, NEWEST, [X[:, :2], X[:, 2:]], [X], {"axis": 1, "num_outputs": 2}),
    Form("Slice", 1, 9, [X[:, 1:3, :-1]], [X], {"axes": [1, 2], "starts": [1, 0], "ends": [99, -1]}),
    Form("Slice", 10, NEWEST, [X[:, ::-2]], [X, ints(-1), ints(-99), ints(1), ints(-2)]),
    Form("Slice", 10, NEWEST, [X[1:, 1:]], [X, ints(1, 1), ints(2, 9)]),
    Form("Concat", 4, NEWEST, [np.concatenate([X, X], 1)], [X, X], {"axis": 1}),
    Form("Concat", 11, NEWEST, [np.concatenate([X, X], 2)], [X, X], {"axis": -1}),
    Form(
        "Pad",
        2,
        10,
        [np.pad(X, ((0, 0), (1, 2), (0, 0)), constant_values=3)],
        [X],
        {"pads": [0, 1, 0, 0, 2, 0], "value": 3.0},
    ),
    Form(
        "Pad",
        2,
        10,
        [np.pad(X, ((0, 0), (1, 2), (0, 0)), "reflect")],
        [X],
        {"pads": [0, 1, 0, 0, 2, 0], "mode": "reflect"},
    ),
    Form(
        "Pad", 11, NEWEST, [np.pad(X, ((0, 0), (1, 2), (0, 0)), "edge")], [X, ints(0, 1, 0, 0, 2, 0)], {"mode": "edge"}
    ),
    Form(
        "Pad", 11, NEWEST, [np.pad(X, ((0, 0), (1, 2), (0, 0)), constant_values=2)], [X, ints(0, 1, 0, 0, 2, 0), C[1]]
    ),
    Form("Pad", 18, NEWEST, [np.pad(X, ((0, 0), (1, 2), (0, 0)))], [X, ints(1, 2), None, ints(-2)]),
    Form(
        "Pad",
        19,
        NEWEST,
        [np.pad(X, ((0, 0), (0, 0), (3, 5)), "wrap")],
        [X, ints(3, 5), None, ints(2)],
        {"mode": "wrap"},
    ),
    Form("Reshape", 5, NEWEST, [X.reshape(2, 2, 6)], [X, ints(0, -1, 6)]),
    Form("Reshape", 14, NEWEST, [np.zeros((3, 0))], [X[:0], ints(3, 0)], {"allowzero": 1}),
    Form("Flatten", 1, NEWEST, [X.reshape(6, 4)], [X], {"axis": 2}),
    Form("Flatten", 11, NEWEST, [X.reshape(6, 4)], [X], {"axis": -1}),
    Form("Squeeze", 1, 12, [X], [X[:, None]], {"axes": [1]}),
    Form("Squeeze", 11, 12, [X], [X[:, None]], {"axes": [-3]}),
    Form("Squeeze", 13, NEWEST, [X], [X[:, None], ints(-3)]),
    Form("Squeeze", 1, NEWEST, [X], [X[:, None, :, None]]),
    Form("Unsqueeze", 1, 12, [X[:, None, :, None]], [X], {"axes": [1, 3]}),
    Form("Unsqueeze", 11, 12, [X[..., None]], [X], {"axes": [-1]}),
    Form("Unsqueeze", 13, NEWEST, [X[:, None, ..., None]], [X, ints(-1, 1)]),
    Form("Transpose", 1, NEWEST, [X.transpose(1, 2, 0)], [X], {"perm": [1, 2, 0]}),
    Form("Transpose", 1, NEWEST, [X.T]),
    Form("DepthToSpace", 1, NEWEST, [DEEP], [P], {"blocksize": 2}),
    Form("SpaceToDepth", 1, NEWEST, [P], [DEEP], {"blocksize": 2}),
    Form("Einsum", 12, NEWEST, [A @ B], [A, B], {"equation": "ij,jk->ik"}),
    Form("MatMul", 1, NEWEST, [A @ B], [A, B]),
    Form("MatMul", 9, NEWEST, [(A @ B).astype(np.int32)], [(2 * A).astype(np.int32), (2 * B).astype(np.int32)]),
    Form("Gemm", 6, 6, [A @ B + C], [A, B, C], {"broadcast": 1}),
    Form("Gemm", 7, NEWEST, [2 * (A @ B) + C / 2], [A.T.copy(), B, C], {"transA": 1, "alpha": 2.0, "beta": 0.5}),
    Form("Gemm", 11, NEWEST, [A @ B], [A, B.T.copy()], {"transB": 1}),
]
FORMS[-4].expected = [(2 * A).astype(np.int32) @ (2 * B).astype(np.int32)]


def versions(op: str) -> list[int]:
    """The opsets from which on a definition of an operator holds, the first at least OLDEST."""
    schemas = [s for s in onnx.defs.get_all_schemas_with_history() if s.name == op and not s.domain]
    found = sorted(s.since_version for s in schemas if not s.deprecated)
    before = [v for v in found if v <= OLDEST]
    return [max(v, OLDEST) for v in found if v >= max(before, default=0)]


def kind_of(array: Any) -> int:
    """ONNX's number of an element type; Python's numbers are float32 and int64."""
    dtype = np.asarray(array).dtype
    return helper.np_dtype_to_tensor_dtype(np.dtype(np.float32) if dtype.kind == "f" else dtype)


CASES = [
    pytest.param(form, opset, id=f"{form.op}-{opset}-{index}")
    for index, form in enumerate(FORMS)
    for opset in versions(form.op)
    if form.first <= opset <= form.last
]


@pytest.mark.parametrize(("form", "opset"), CASES)
def test_form(form: Form, opset: int) -> None:
    names = ["" if x is None else f"i{k}" for k, x in enumerate(form.inputs)]
    outputs = [f"o{k}" for k in range(len(form.expected))]
    node = helper.make_node(form.op, names, outputs, name="node", **form.attrs)
    fed = form.inputs[0]
    assert fed is not None
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("i0", kind_of(fed), fed.shape)],
        [
            helper.make_tensor_value_info(n, kind_of(y), np.shape(y))
            for n, y in zip(outputs, form.expected, strict=True)
        ],
        [numpy_helper.from_array(x, f"i{k}") for k, x in enumerate(form.inputs) if k and x is not None],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    found = nbcnn.load(model).run(None, {"i0": fed})
    for y, expected in zip(found, form.expected, strict=True):
        assert y.shape == np.shape(expected)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("op", sorted({form.op for form in FORMS}))
def test_every_version_has_a_form(op: str) -> None:
    tested = {opset for form in FORMS if form.op == op for opset in versions(op) if form.first <= opset <= form.last}
    assert tested == set(versions(op))
    assert REGISTRY[op].since <= max(min(versions(op)), OLDEST)
