"""The oracle's forwards against ONNX: its own node tests, and onnxruntime on odd shapes."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx.reference
import onnxruntime
import pytest
import reference
from onnx import helper, numpy_helper

Arrays = list[Any]
Attrs = dict[str, Any]
Adapter = Callable[[Arrays, Attrs], Any]


def ints(inputs: Arrays, index: int) -> list[int] | None:
    """An input that holds integers, such as axes; None when it is left out."""
    return None if index >= len(inputs) or inputs[index] is None else np.asarray(inputs[index]).ravel().tolist()


def scalar(inputs: Arrays, index: int) -> float | None:
    return None if index >= len(inputs) or inputs[index] is None else float(inputs[index])


def plain(f: Callable[..., Any]) -> Adapter:
    """All inputs are arrays, all attributes keywords."""
    return lambda inputs, attrs: f(*inputs, **attrs)


def conv(inputs: Arrays, attrs: Attrs) -> Any:
    return reference.conv(*inputs, **{k: v for k, v in attrs.items() if k != "kernel_shape"})


def axes_input(f: Callable[..., Any]) -> Adapter:
    return lambda inputs, attrs: f(inputs[0], axes=ints(inputs, 1), **attrs)


def batch_normalization(inputs: Arrays, attrs: Attrs) -> Any:
    attrs = dict(attrs)
    if attrs.pop("training_mode", 0):
        return reference.batch_normalization_training(*inputs, **attrs)
    attrs.pop("momentum", None)
    return reference.batch_normalization(*inputs, **attrs)


def max_pool(inputs: Arrays, attrs: Attrs) -> Any:
    attrs = {k: v for k, v in attrs.items() if k != "storage_order"}
    return reference.max_pool(*inputs, **attrs), reference.max_pool_indices(*inputs, **attrs)


def pad(inputs: Arrays, attrs: Attrs) -> Any:
    return reference.pad(inputs[0], ints(inputs, 1) or [], scalar(inputs, 2) or 0.0, ints(inputs, 3), **attrs)


def resize(inputs: Arrays, attrs: Attrs) -> Any:
    scales = inputs[2].tolist() if len(inputs) > 2 and inputs[2] is not None and inputs[2].size else None
    return reference.resize(inputs[0], scales, ints(inputs, 3), **attrs)


def split(inputs: Arrays, attrs: Attrs) -> Any:
    return reference.split(inputs[0], ints(inputs, 1), **attrs)


def slice_(inputs: Arrays, attrs: Attrs) -> Any:
    return reference.slice_(inputs[0], *(ints(inputs, i) for i in range(1, 5)))  # type: ignore[arg-type]


# Operators whose inputs are all arrays and whose attributes are the oracle's keywords, and the oracle's name for them.
LOWER = """
Add Concat Div Elu Exp Flatten Gather Gemm Log LRN MatMul Mul Neg PRelu Relu Selu Sigmoid Sign Softmax Softplus
Erf Softsign Sqrt Sub Tanh Transpose
"""
PLAIN = {
    **{op: op.lower() for op in LOWER.split()},
    **{op: op.lower() + "_" for op in ("Abs", "Max", "Min", "Pow", "Sum")},
    "AveragePool": "average_pool",
    "GlobalAveragePool": "global_average_pool",
    "GlobalLpPool": "global_lp_pool",
    "GlobalMaxPool": "global_max_pool",
    "HardSigmoid": "hard_sigmoid",
    "LeakyRelu": "leaky_relu",
    "LogSoftmax": "log_softmax",
    "LpPool": "lp_pool",
}

ADAPTERS: dict[str, Adapter] = {
    **{op: plain(getattr(reference, name)) for op, name in PLAIN.items()},
    "BatchNormalization": batch_normalization,
    "Clip": lambda inputs, attrs: reference.clip(inputs[0], scalar(inputs, 1), scalar(inputs, 2)),
    "Conv": conv,
    "MaxPool": max_pool,
    "Pad": pad,
    "ReduceMax": axes_input(reference.reduce_max),
    "ReduceMean": axes_input(reference.reduce_mean),
    "ReduceSum": axes_input(reference.reduce_sum),
    "Reshape": lambda inputs, attrs: reference.reshape(inputs[0], ints(inputs, 1) or [], **attrs),
    "Resize": resize,
    "Slice": slice_,
    "Split": split,
    "Squeeze": axes_input(reference.squeeze),
    "Unsqueeze": axes_input(reference.unsqueeze),
    "Upsample": lambda inputs, attrs: reference.upsample(inputs[0], inputs[1].tolist(), **attrs),
}

# onnx's node tests that the oracle is not meant to pass: a pattern of their names, and why.
LEFT_OUT = {
    r"div_.*int": "integers divide without a remainder, the oracle is float64",
    r"reduce_max_empty": "nothing to reduce",
    r"maxpool_with_argmax_2d_precomputed_strides": "storage_order 1: column-major indices",
    r"resize_.*(cubic|tf_crop_and_resize|antialias|not_larger|not_smaller)": "outside what the engine offers",
}


@pytest.fixture(scope="module")
def node_cases() -> dict[str, list[Any]]:
    """Operator -> onnx's node tests of one node."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnx computes some of its cases with overflows
        from onnx.backend.test.case.node import collect_testcases

        cases = collect_testcases(None)
    by_op: dict[str, list[Any]] = {}
    for case in cases:
        nodes = case.model.graph.node if case.model else []
        if len(nodes) == 1 and nodes[0].domain == "":
            by_op.setdefault(nodes[0].op_type, []).append(case)
    return by_op


def to_array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def compute(node: onnx.NodeProto, given: Arrays) -> list[Any]:
    """The oracle's outputs for a node, given the arrays of those inputs that it names."""
    arrays = iter(given)
    inputs = [next(arrays) if name else None for name in node.input]
    attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    attrs = {name: value.decode() if isinstance(value, bytes) else value for name, value in attrs.items()}
    if node.op_type == "Split":
        attrs.setdefault("num_outputs", len(node.output))
    y = ADAPTERS[node.op_type](inputs, attrs)
    return list(y) if isinstance(y, list | tuple) else [y]


@pytest.mark.parametrize("op", sorted(set(ADAPTERS) - {"GlobalLpPool", "Upsample"}))
def test_node_tests_of_onnx(op: str, node_cases: dict[str, list[Any]]) -> None:
    compared = 0
    for case in node_cases[op]:
        if any(re.search(pattern, case.name) for pattern in LEFT_OUT):
            continue
        for inputs, outputs in case.data_sets:
            y = compute(case.model.graph.node[0], [to_array(value) for value in inputs])
            for actual, expected in zip(y, outputs, strict=False):  # MaxPool's indices are optional
                np.testing.assert_allclose(
                    actual, np.asarray(to_array(expected), np.float64), rtol=case.rtol, atol=1e-6, err_msg=case.name
                )
            compared += 1
    assert compared, f"onnx has no node test for {op}"


def run_onnxruntime(op: str, inputs: Arrays, attrs: Attrs, opset: int, outputs: int) -> tuple[onnx.NodeProto, Arrays]:
    """One node in onnxruntime; None among the inputs is an optional one left out."""
    names = [f"x{i}" if value is not None else "" for i, value in enumerate(inputs)]
    node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], **attrs)
    feeds = {name: value for name, value in zip(names, inputs, strict=True) if name}
    graph = helper.make_graph(
        [node],
        op,
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in feeds.items()],
        [helper.make_empty_tensor_value_info(f"y{i}") for i in range(outputs)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return node, list(session.run(None, feeds))


def f32(*values: float) -> Any:
    return np.array(values, np.float32)


def i64(*values: int) -> Any:
    return np.array(values, np.int64)


# (op, inputs: a shape means random numbers, attributes[, opset[, number of outputs]])
ORT_CASES: list[tuple[Any, ...]] = [
    ("Conv", [(1, 1, 1, 1), (1, 1, 1, 1)], {}),
    ("Conv", [(2, 3, 11), (5, 3, 3), (5,)], {"strides": [2], "pads": [1, 3], "dilations": [2]}),
    ("Conv", [(2, 6, 9, 7), (4, 3, 3, 2), (4,)], {"strides": [2, 1], "pads": [0, 1, 2, 0], "group": 2}),
    ("Conv", [(1, 5, 8, 9), (10, 1, 3, 3)], {"group": 5, "pads": [1, 1, 1, 1], "dilations": [1, 2]}),
    ("Conv", [(1, 2, 5, 6, 7), (3, 2, 2, 3, 1), (3,)], {"strides": [1, 2, 3], "pads": [1, 0, 0, 0, 1, 2]}),
    ("Conv", [(1, 3, 10, 7), (2, 3, 4, 3)], {"auto_pad": "SAME_UPPER", "strides": [3, 2]}),
    ("Conv", [(1, 3, 10, 7), (2, 3, 4, 3)], {"auto_pad": "SAME_LOWER", "strides": [3, 2]}),
    ("Conv", [(1, 3, 10, 7), (2, 3, 4, 3)], {"auto_pad": "VALID", "strides": [3, 2]}),
    ("MaxPool", [(2, 3, 11)], {"kernel_shape": [3], "strides": [2], "ceil_mode": 1, "pads": [1, 0]}, 12, 2),
    ("MaxPool", [(2, 3, 8, 6)], {"kernel_shape": [3, 2], "strides": [2, 3], "ceil_mode": 1}, 12, 2),
    ("MaxPool", [(2, 3, 9, 8)], {"kernel_shape": [2, 3], "dilations": [3, 2], "pads": [1, 1, 0, 2]}, 12, 2),
    (
        "MaxPool",
        [(1, 3, 6, 5)],
        {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1},
        12,
        2,
    ),
    ("MaxPool", [(1, 2, 5, 6, 7)], {"kernel_shape": [2, 3, 2], "strides": [2, 2, 3], "ceil_mode": 1}, 12, 2),
    ("MaxPool", [(1, 2, 7, 8)], {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"}, 12, 2),
    (
        "MaxPool",
        [(1, 2, 8, 7)],
        {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "VALID", "ceil_mode": 1},
        12,
        2,
    ),
    ("AveragePool", [(2, 3, 11)], {"kernel_shape": [4], "strides": [3], "ceil_mode": 1, "pads": [1, 1]}),
    *(
        ("AveragePool", [(1, 2, 9, 8)], {"kernel_shape": [3, 4], "strides": [2, 3], "pads": [1, 2, 1, 0], **attrs})
        for attrs in ({"count_include_pad": 1}, {"ceil_mode": 1}, {"count_include_pad": 1, "ceil_mode": 1})
    ),
    ("AveragePool", [(1, 2, 9, 8)], {"kernel_shape": [2, 3], "dilations": [3, 2], "pads": [1, 1, 1, 1]}),
    ("AveragePool", [(1, 2, 5, 6, 7)], {"kernel_shape": [2, 3, 2], "strides": [2, 2, 3], "ceil_mode": 1}),
    ("AveragePool", [(1, 2, 7, 8)], {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    *(("LpPool", [(1, 2, 7, 9)], {"kernel_shape": [3, 2], "strides": [2, 2], "p": p}) for p in (1, 2, 3)),
    ("LpPool", [(1, 2, 7, 9)], {"kernel_shape": [3, 2], "pads": [1, 0, 2, 1], "dilations": [2, 1], "ceil_mode": 1}),
    *(
        (op, [(2, 3, *shape)], {})
        for op in ("GlobalAveragePool", "GlobalMaxPool")
        for shape in ((5,), (3, 5), (2, 3, 5))
    ),
    *(("GlobalLpPool", [(2, 3, 3, 5)], {"p": p}) for p in (1, 2, 3)),
    *(("LRN", [(2, 7, 3, 2)], {"size": size, "alpha": 0.3, "beta": 0.6, "bias": 1.5}) for size in (1, 3, 5, 9)),
    ("BatchNormalization", [(2, 3, 5), (3,), (3,), (3,), np.abs(f32(1.0, -2.0, 0.3))], {"epsilon": 1e-3}),
    (
        "BatchNormalization",
        [(4, 3, 2, 5), (3,), (3,), (3,), np.abs(f32(1.0, -2.0, 0.3))],
        {"training_mode": 1, "momentum": 0.7, "epsilon": 1e-3},
        15,
        3,
    ),
    ("Gemm", [(5, 3), (7, 5), (7,)], {"transA": 1, "transB": 1, "alpha": 0.5, "beta": 2.0}),
    ("Gemm", [(3, 5), (5, 7), (3, 1)], {}),
    ("MatMul", [(3, 1, 2, 5), (4, 5, 3)], {}),
    ("MatMul", [(5,), (4, 5, 3)], {}),
    ("MatMul", [(4, 3, 5), (5,)], {}),
    ("PRelu", [(2, 3, 4, 5), (3, 1, 1)], {}),
    ("Sum", [(3, 1, 2), (4, 1), (1, 4, 2)], {}),
    ("Max", [(3, 1, 2), (4, 1), (1, 4, 2)], {}),
    ("Pad", [(2, 3, 4), i64(0, 1, 2, 1, 0, 3)], {"mode": "reflect"}),
    ("Pad", [(2, 3, 4), i64(0, 5, 2, 1, 0, 9)], {"mode": "edge"}),
    ("Pad", [(2, 3, 4), i64(0, -1, 2, 1, 0, -2), f32(2.5).reshape(())], {}),
    ("Slice", [(7, 5), i64(-1, 4), i64(-100, 0), i64(0, 1), i64(-2, -3)], {}),
    ("Split", [(7, 4)], {"num_outputs": 3}, 18, 3),
    ("Transpose", [(2, 3, 4, 5)], {"perm": [3, 1, 0, 2]}),
    ("Gather", [(4, 5, 3), i64(0, -1, 2, 2)], {"axis": 1}),
    ("ReduceMax", [(3, 4, 5), i64(0, -1)], {"keepdims": 0}, 18),
    *(("Upsample", [(1, 2, 3, 4), f32(1, 1, 2.5, 3)], {"mode": mode}, 9) for mode in ("nearest", "linear")),
    *(
        (
            "Resize",
            [(1, 2, *shape), None, scales, sizes],
            {"mode": "linear", "coordinate_transformation_mode": mode},
            19,
        )
        for mode in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")
        for shape, scales, sizes in (
            ((5, 7), f32(1, 1, 1.75, 0.625), None),
            ((5, 7), None, i64(1, 2, 1, 11)),
            ((1, 3), None, i64(1, 2, 4, 5)),
        )
        # There onnxruntime takes 5 * 1.75 pixels for 8, onnx for 8.75.
        if mode != "align_corners" or scales is None
    ),
    *(
        (
            "Resize",
            [(1, 2, 5, 7), None, f32(1, 1, 1.75, 0.625), None],
            {"mode": "nearest", "coordinate_transformation_mode": mode, "nearest_mode": nearest},
            19,
        )
        for mode in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")
        for nearest in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    ),
    ("Resize", [(1, 2, 4, 5, 3), None, f32(1, 1, 2, 0.75, 1.5), None], {"mode": "linear"}, 19),
    ("Resize", [(2, 3, 6), None, f32(1, 1, 2.5), None], {"mode": "linear"}, 19),
]


@pytest.mark.parametrize("case", ORT_CASES, ids=lambda case: f"{case[0]}-{case[2]}")
def test_onnxruntime_on_odd_shapes(case: tuple[Any, ...]) -> None:
    op, specs, attrs = case[:3]
    opset = case[3] if len(case) > 3 else 19
    outputs = case[4] if len(case) > 4 else 1
    rng = np.random.default_rng(7)
    inputs = [rng.standard_normal(s).astype(np.float32) if isinstance(s, tuple) else s for s in specs]
    node, expected = run_onnxruntime(op, inputs, attrs, opset, outputs)
    actual = compute(node, [value for value in inputs if value is not None])
    for ours, theirs in zip(actual, expected, strict=False):  # MaxPool's indices are optional
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


def test_training_dropout_of_onnxruntime() -> None:
    x = np.random.default_rng(3).standard_normal((4, 5, 6)).astype(np.float32)
    inputs = [x, np.array(0.3, np.float32), np.array(True)]
    _, (y, mask) = run_onnxruntime("Dropout", inputs, {"seed": 5}, 13, 2)
    assert 0 < mask.sum() < mask.size
    np.testing.assert_allclose(reference.dropout(x, mask, 0.3), y, rtol=1e-5)


def test_lrn_of_even_size() -> None:
    """Which onnxruntime does not have: against onnx's reference evaluator, right only where N = C."""
    x = np.random.default_rng(5).standard_normal((7, 7, 3, 2)).astype(np.float32)
    node = helper.make_node("LRN", ["x"], ["y"], size=4, alpha=0.3)
    expected: Any = onnx.reference.ReferenceEvaluator(node).run(None, {"x": x})
    np.testing.assert_allclose(reference.lrn(x, 4, 0.3), expected[0], rtol=1e-5)
