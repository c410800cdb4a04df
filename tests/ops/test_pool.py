"""Pooling, forward and backward, against the float64 oracle; indices against onnxruntime too."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
import reference
from guards import run_guarded
from harness import Case, to_onnx_order

from nbcnn.errors import ModelError, UnsupportedError
from nbcnn.kernels.cpu import stream

DTYPES = (np.float32, np.float64)
FUNCTIONS = {"MaxPool": "max_pool", "AveragePool": "average_pool", "LpPool": "lp_pool"}

# (input shape, attributes)
WINDOWS: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((1, 1, 1, 1), {"kernel_shape": [1, 1]}),
    ((2, 5, 6, 7), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ((2, 5, 6, 8), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ((1, 33, 9, 4), {"kernel_shape": [3, 2], "strides": [3, 2]}),
    ((2, 17, 12), {"kernel_shape": [4], "strides": [4]}),
    ((1, 3, 2, 4, 6), {"kernel_shape": [1, 2, 3], "strides": [1, 2, 3]}),
    ((1, 133, 4, 6), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ((2, 70, 6, 5), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((1, 70, 4, 5), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ((1, 2, 20, 19), {"kernel_shape": [17, 18]}),
    ((1, 17, 9, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((3, 3, 7, 5), {"kernel_shape": [3, 2], "strides": [1, 1], "pads": [0, 1, 2, 0]}),
    ((1, 33, 40, 3), {"kernel_shape": [5, 3], "strides": [2, 1], "pads": [2, 1, 2, 1]}),
    ((2, 3, 7, 8), {"kernel_shape": [3, 3], "strides": [2, 3], "ceil_mode": 1}),
    ((1, 3, 6, 6), {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
    ((1, 2, 9, 9), {"kernel_shape": [2, 3], "strides": [1, 2], "pads": [1, 2, 2, 1], "dilations": [3, 2]}),
    ((2, 3, 8, 5), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ((2, 3, 8, 5), {"kernel_shape": [2, 3], "strides": [2, 1], "auto_pad": "SAME_LOWER"}),
    ((1, 4, 8, 7), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "VALID"}),
    ((3, 5, 11), {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}),
    ((1, 3, 5, 4, 6), {"kernel_shape": [2, 3, 2], "strides": [2, 1, 3], "pads": [1, 1, 0, 0, 1, 1]}),
]


def rounding(dtype: Any) -> float:
    return 2e-5 if dtype == np.float32 else 1e-12


def picture(shape: tuple[int, ...], dtype: Any, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "attrs"), WINDOWS)
@pytest.mark.parametrize("op", FUNCTIONS)
def test_pool(op: str, shape: tuple[int, ...], attrs: dict[str, Any], dtype: Any) -> None:
    rng = np.random.default_rng(1)
    x = picture(shape, dtype, rng)
    y = getattr(reference, FUNCTIONS[op])(x, **attrs)
    dy = picture(y.shape, dtype, rng)
    dx = getattr(reference, f"{FUNCTIONS[op]}_backward")(dy, x, **attrs)
    case = Case(op, [x], attrs, opset=22, dtype=dtype)
    (got,) = case.run()
    np.testing.assert_allclose(got, y, rtol=rounding(dtype), atol=rounding(dtype))
    (got,), (got_dx,) = case.run_training([dy])
    np.testing.assert_allclose(got, y, rtol=rounding(dtype), atol=rounding(dtype))
    np.testing.assert_allclose(got_dx, dx, rtol=rounding(dtype), atol=rounding(dtype))


@pytest.mark.parametrize(("shape", "attrs"), WINDOWS)
@pytest.mark.parametrize("op", FUNCTIONS)
def test_between_guard_bands(op: str, shape: tuple[int, ...], attrs: dict[str, Any]) -> None:
    rng = np.random.default_rng(8)
    x = picture(shape, np.float32, rng)
    y = getattr(reference, FUNCTIONS[op])(x, **attrs)
    dy = picture(y.shape, np.float32, rng)
    plan = Case(op, [x], attrs).training_plan([dy])
    found = [to_onnx_order(run_guarded(plan)[v.name], v.layout) for v in plan.graph.outputs]
    np.testing.assert_allclose(found[0], y, rtol=2e-5, atol=2e-5)
    dx = getattr(reference, f"{FUNCTIONS[op]}_backward")(dy, x, **attrs)
    np.testing.assert_allclose(found[1], dx, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("shape", "attrs"), WINDOWS)
def test_average_counts_padding(shape: tuple[int, ...], attrs: dict[str, Any]) -> None:
    rng = np.random.default_rng(2)
    x, attrs = rng.standard_normal(shape), attrs | {"count_include_pad": 1}
    y = reference.average_pool(x, **attrs)
    dy = rng.standard_normal(y.shape)
    (got,), (dx,) = Case("AveragePool", [x], attrs, dtype=np.float64).run_training([dy])
    np.testing.assert_allclose(got, y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dx, reference.average_pool_backward(dy, x, **attrs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("op", ["LpPool", "GlobalLpPool"])
def test_norms(op: str, p: int) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 3, 6, 5))
    x[0, :, :3, :3] = 0  # a window of zeros has no gradient
    attrs: dict[str, Any] = {"p": p} | ({"kernel_shape": [3, 3], "strides": [3, 2]} if op == "LpPool" else {})
    name = "lp_pool" if op == "LpPool" else "global_lp_pool"
    y = getattr(reference, name)(x, **attrs)
    dy = rng.standard_normal(y.shape)
    (got,), (dx,) = Case(op, [x], attrs, dtype=np.float64).run_training([dy])
    np.testing.assert_allclose(got, y, rtol=1e-12)
    np.testing.assert_allclose(dx, getattr(reference, f"{name}_backward")(dy, x, **attrs), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_gradient_of_a_picture_larger_than_the_caches(op: str) -> None:
    """It is stored past them, by whole registers: 64 channels are some."""
    shape, window = (1, 64, 512, 514), {"kernel_shape": [2, 2], "strides": [2, 2]}
    assert 4 * prod(shape) >= stream.LARGE
    rng = np.random.default_rng(3)
    x = rng.permutation(prod(shape)).astype(np.float32).reshape(shape)
    dy = rng.random((1, 64, 256, 257), np.float32)
    (y,), (dx,) = Case(op, [x], window).run_training([dy])
    wide = [a.repeat(2, axis=2).repeat(2, axis=3) for a in (y, dy)]
    np.testing.assert_array_equal(dx, np.where(x == wide[0], wide[1], 0) if op == "MaxPool" else wide[1] / 4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 5, 7, 7), (1, 300, 5, 4), (3, 17, 9), (1, 3, 3, 2, 4)])
@pytest.mark.parametrize("name", ["max", "average"])
def test_global_pools(name: str, shape: tuple[int, ...], dtype: Any) -> None:
    rng = np.random.default_rng(4)
    x = picture(shape, dtype, rng)
    y = getattr(reference, f"global_{name}_pool")(x)
    dy = picture(y.shape, dtype, rng)
    (got,), (dx,) = Case(f"Global{name.title()}Pool", [x], dtype=dtype).run_training([dy])
    np.testing.assert_allclose(got, y, rtol=rounding(dtype), atol=rounding(dtype))
    expected = getattr(reference, f"global_{name}_pool_backward")(dy, x)
    np.testing.assert_allclose(dx, expected, rtol=rounding(dtype), atol=rounding(dtype))


@pytest.mark.parametrize("attrs", [{"kernel_shape": [3, 3]}, {"kernel_shape": [4, 4], "strides": [4, 4]}])
def test_gradient_goes_to_the_first_of_equals(attrs: dict[str, Any]) -> None:
    """Pictures of few different values, as after a Relu, tie often."""
    rng = np.random.default_rng(5)
    x = rng.integers(0, 3, (1, 20, 60, 12)).astype(np.float64)
    y = reference.max_pool(x, **attrs)
    dy = rng.standard_normal(y.shape)
    _, (dx,) = Case("MaxPool", [x], attrs, dtype=np.float64).run_training([dy])
    np.testing.assert_allclose(dx, reference.max_pool_backward(dy, x, **attrs), atol=1e-12)


@pytest.mark.parametrize(("size", "kind"), [(3, np.uint8), (16, np.uint8), (17, np.int32)])
def test_gradient_keeps_a_tap_of_each_window(size: int, kind: type) -> None:
    """A byte where that holds its number; neither the input nor the result of the forward pass is kept."""
    x = np.zeros((1, 2, size, size), np.float32)
    plan = Case("MaxPool", [x], {"kernel_shape": [size, size]}).training_plan([np.zeros((1, 2, 1, 1), np.float32)])
    (node,) = [n for n in plan.nodes if n.op == "PoolGrad"]
    assert [plan.graph.values[name].dtype for name in node.inputs] == [np.float32, kind]


def test_nan_and_infinity() -> None:
    x = np.zeros((1, 1, 2, 6), np.float32)
    x[0, 0, 0, 1], x[0, 0, :, 2:4] = np.nan, -np.inf
    case = Case("MaxPool", [x], {"kernel_shape": [2, 2], "strides": [2, 2]})
    (y,), (dx,) = case.run_training([np.ones((1, 1, 1, 3), np.float32)])
    np.testing.assert_array_equal(y[0, 0, 0], [np.nan, -np.inf, 0])
    np.testing.assert_array_equal(dx[0, 0], [[0, 1, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0]])


@pytest.mark.parametrize(("shape", "attrs"), WINDOWS)
def test_indices(shape: tuple[int, ...], attrs: dict[str, Any]) -> None:
    x = np.random.default_rng(6).integers(0, 9, shape).astype(np.float32)
    y, indices = Case("MaxPool", [x], attrs, outputs=2).run()
    np.testing.assert_array_equal(y, reference.max_pool(x, **attrs))
    np.testing.assert_array_equal(indices, reference.max_pool_indices(x, **attrs))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize(("shape", "attrs"), WINDOWS)
def test_whole_numbers(shape: tuple[int, ...], attrs: dict[str, Any], dtype: Any) -> None:
    x = np.random.default_rng(8).integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, shape).astype(dtype)
    y, indices = Case("MaxPool", [x], attrs, outputs=2).run()
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, reference.max_pool(x, **attrs))
    np.testing.assert_array_equal(Case("MaxPool", [x], attrs).run()[0], y)
    np.testing.assert_array_equal(indices, reference.max_pool_indices(x, **attrs))
    columns = Case("MaxPool", [x], attrs | {"storage_order": 1}, outputs=2).run()[1]
    as_floats = Case("MaxPool", [x.astype(np.float32)], attrs | {"storage_order": 1}, outputs=2).run()[1]
    np.testing.assert_array_equal(columns, as_floats)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 3, 5, 7), (1, 2, 4, 5, 6)])
def test_indices_as_onnxruntime(shape: tuple[int, ...], order: int) -> None:
    import onnxruntime
    from onnx import TensorProto, helper

    x = np.random.default_rng(7).standard_normal(shape).astype(np.float32)
    attrs = {"kernel_shape": [2] * (x.ndim - 2), "strides": [2] * (x.ndim - 2), "storage_order": order}
    graph = helper.make_graph(
        [helper.make_node("MaxPool", ["x"], ["y", "i"], **attrs)],
        "pool",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("i", TensorProto.INT64, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    _, indices = Case("MaxPool", [x], attrs, outputs=2).run()
    np.testing.assert_array_equal(indices, session.run(None, {"x": x})[0])


def test_refusals() -> None:
    x = np.zeros((1, 2, 4, 4), np.float32)
    with pytest.raises(ModelError, match=r"MaxPool 'node'.*kernel_shape"):
        Case("MaxPool", [x]).run()
    with pytest.raises(ModelError, match=r"MaxPool 'node'.*larger than the input"):
        Case("MaxPool", [x], {"kernel_shape": [5, 5]}).run()
    with pytest.raises(UnsupportedError, match=r"spatial dimensions"):
        Case("MaxPool", [x[0, 0]], {"kernel_shape": []}).run()
    with pytest.raises(UnsupportedError, match=r"int8"):
        Case("AveragePool", [x.astype(np.int8)], {"kernel_shape": [2, 2]}).run()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("width", "stride"), [(9, 1), (10, 1), (23, 2), (40, 1), (40, 3)])
@pytest.mark.parametrize("channels", [3, 17, 64])
def test_lines_of_many_whole_windows(width: int, stride: int, channels: int, dtype: type) -> None:
    """Tiles of several pixels, with NaN and both infinities among them, and nothing read or written outside."""
    rng = np.random.default_rng(width)
    x = rng.standard_normal((2, channels, 5, width)).astype(dtype)
    flat = x.reshape(-1)
    for value in (np.nan, -np.nan, np.inf, -np.inf):
        flat[rng.integers(0, flat.size, flat.size // 60)] = value
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))[:, :, ::stride, ::stride]
    attrs = {"kernel_shape": [3, 3], "strides": [stride, stride]}
    case = Case("MaxPool", [x], attrs, dtype=dtype)
    (y,) = case.run()
    np.testing.assert_array_equal(y, windows.max((-2, -1)))
    plan = case.training_plan([np.zeros_like(y)])
    result = plan.graph.outputs[0]
    np.testing.assert_array_equal(to_onnx_order(run_guarded(plan)[result.name], result.layout), y)
    finite = np.nan_to_num(x, nan=0.5, posinf=2, neginf=-2)
    (mean,) = Case("AveragePool", [finite], attrs, dtype=dtype).run()
    means = np.lib.stride_tricks.sliding_window_view(finite, (3, 3), (2, 3))[:, :, ::stride, ::stride].mean((-2, -1))
    np.testing.assert_allclose(mean, means, rtol=0, atol=1e-6 if dtype is np.float32 else 1e-14)
