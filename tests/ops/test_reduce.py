"""Reductions against the oracle, in both layouts, and the sums that gradients need."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from channels_last import ChannelsLast
from gradcheck import directional
from harness import Case

from nbcnn import executor
from nbcnn.errors import ModelError
from nbcnn.graph import Graph, Node
from nbcnn.placement import Arena
from nbcnn.plan import build_plan

RNG = np.random.default_rng(3)
KINDS = [(Case, np.float32), (Case, np.float64), (ChannelsLast, np.float32)]
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}
NAMES = {"ReduceSum": "reduce_sum", "ReduceMean": "reduce_mean", "ReduceMax": "reduce_max"}
SHAPES_AND_AXES = [
    ((2, 5, 3, 4), (2, 3)),
    ((2, 5, 3, 4), (1,)),
    ((2, 5, 3, 4), (0,)),
    ((2, 33, 3, 4), (0, 2, 3)),
    ((2, 5, 3, 4), (-1, 0)),
    ((2, 5, 3, 4), None),
    ((3, 1, 17), (2,)),
    ((7,), (0,)),
    ((2, 3, 4, 3, 2), (0, 2, 4)),
    ((1, 3, 1, 1), (2, 3)),
    ((70, 3, 20, 20), (0, 2, 3)),
]


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize(("shape", "axes"), SHAPES_AND_AXES)
@pytest.mark.parametrize("op", list(NAMES))
def test_against_the_oracle(
    op: str, shape: tuple[int, ...], axes: tuple[int, ...] | None, keepdims: int, kind: type[Case], dtype: Any
) -> None:
    x = RNG.standard_normal(shape).astype(dtype)
    forward, backward = getattr(reference, NAMES[op]), getattr(reference, f"{NAMES[op]}_backward")
    y = forward(x, axes, keepdims)
    dy = RNG.standard_normal(y.shape).astype(dtype)
    attrs: dict[str, Any] = {"keepdims": keepdims} | ({"axes": list(axes)} if axes else {})
    case = kind(op, [x], attrs, opset=11, dtype=dtype)
    near: dict[str, Any] = {"rtol": TOLERANCE[dtype], "atol": 10 * TOLERANCE[dtype]}
    np.testing.assert_allclose(case.run()[0], y, **near)
    (found,), (dx,) = case.run_training([dy])
    np.testing.assert_allclose(found, y, **near)
    np.testing.assert_allclose(dx, backward(dy, x, axes, keepdims), **near)


def test_minimum() -> None:
    x = RNG.standard_normal((3, 5, 7)).astype(np.float32)
    (y,), (dx,) = Case("ReduceMin", [x], {"axes": [1], "keepdims": 0}, opset=11).run_training(
        [np.ones((3, 7), np.float32)]
    )
    np.testing.assert_array_equal(y, x.min(axis=1))
    np.testing.assert_array_equal(dx, x == x.min(axis=1, keepdims=True))


@pytest.mark.parametrize(("op", "opset"), [("ReduceSum", 13), ("ReduceMean", 18), ("ReduceMax", 20)])
def test_axes_as_an_input(op: str, opset: int) -> None:
    x = RNG.standard_normal((2, 3, 4)).astype(np.float32)
    forward = getattr(reference, NAMES[op])
    (y,) = Case(op, [x, np.array([0, -1])], {"keepdims": 0}, weights=(1,), opset=opset).run()
    np.testing.assert_allclose(y, forward(x, (0, 2), 0), rtol=1e-6)
    (y,) = Case(op, [x], opset=opset).run()
    np.testing.assert_allclose(y, forward(x), rtol=1e-6)
    (y,) = Case(op, [x], {"noop_with_empty_axes": 1}, opset=opset).run()
    np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize("kind", [Case, ChannelsLast])
def test_ties_go_to_the_first_in_onnx_order(kind: type[Case]) -> None:
    x = RNG.integers(0, 3, (2, 5, 3, 4)).astype(np.float32)
    dy = RNG.standard_normal((2, 1, 1, 1)).astype(np.float32)
    _, (dx,) = kind("ReduceMax", [x], {"axes": [1, 2, 3]}, opset=11).run_training([dy])
    np.testing.assert_array_equal(dx, reference.reduce_max_backward(dy, x, (1, 2, 3)))


@pytest.mark.parametrize("shape", [(1, 5), (1, 5, 1), (1, 50)])
def test_nan_stays(shape: tuple[int, ...]) -> None:
    x = np.ones(shape, np.float32)
    x[0, 3] = np.nan
    for op in NAMES:
        assert np.isnan(Case(op, [x], {"axes": [1]}, opset=11).run()[0]).all()


def test_sums_do_not_depend_on_the_layout_of_blocks() -> None:
    """A long sum of float32 keeps close to the exact one."""
    x = RNG.standard_normal((300_007,)).astype(np.float32)
    np.testing.assert_allclose(
        Case("ReduceSum", [x], opset=11).run()[0], [x.sum(dtype=np.float64)], rtol=1e-4, atol=1e-2
    )


def test_integers_are_folded() -> None:
    x = np.array([[1, 2], [3, 5]])
    np.testing.assert_array_equal(Case("ReduceSum", [x], {"axes": [0]}, weights=(0,), opset=11).run()[0], [[4, 7]])


def test_axes_out_of_range_are_named() -> None:
    with pytest.raises(ModelError, match=r"ReduceMean 'node': axes \[3\] are outside"):
        Case("ReduceMean", [np.ones((2, 3), np.float32)], {"axes": [3]}, opset=11).run()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("layout", ["plain", "last"])
@pytest.mark.parametrize(
    "shape", [(1, 1), (7, 10), (1000, 6, 5, 5), (2, 3, 61, 67), (3, 17, 1, 1), (2, 130, 9), (1, 1030, 2, 2)]
)
def test_channel_sum(shape: tuple[int, ...], layout: str, dtype: Any) -> None:
    if len(shape) == 2 and layout == "last":
        return  # matrices have one layout
    dy = RNG.standard_normal(shape).astype(dtype)
    graph = Graph()
    graph.new_value("dy", dtype, shape, layout)
    graph.new_value("db", dtype, shape[1:2])
    graph.inputs, graph.outputs = [graph.values["dy"]], [graph.values["db"]]
    graph.nodes = [Node("ChannelSum", ["dy"], ["db"])]
    results = []
    for threads in (1, 3):
        plan = build_plan(graph, {}, np.dtype(dtype), Arena(), threads=threads)
        plan.array("dy")[...] = np.moveaxis(dy, 1, -1) if layout == "last" else dy
        executor.execute(plan)
        results.append(plan.array("db").copy())
    wanted = dy.sum(axis=tuple(i for i in range(dy.ndim) if i != 1), dtype=np.float64)
    np.testing.assert_allclose(results[0], wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * dy.size**0.5)
    np.testing.assert_array_equal(results[0], results[1])


# --- the reductions whose elements are changed first ----------------------------------------------------------------

TORCH_LIKE = {
    "ReduceL1": lambda x, axes, keep: np.abs(x).sum(axes, keepdims=keep),
    "ReduceL2": lambda x, axes, keep: np.sqrt((x * x).sum(axes, keepdims=keep)),
    "ReduceSumSquare": lambda x, axes, keep: (x * x).sum(axes, keepdims=keep),
    "ReduceProd": lambda x, axes, keep: x.prod(axes, keepdims=keep),
    "ReduceLogSum": lambda x, axes, keep: np.log(x.sum(axes, keepdims=keep)),
    "ReduceLogSumExp": lambda x, axes, keep: np.log(np.exp(x).sum(axes, keepdims=keep)),
}
MAPPED_SHAPES = [
    ((2, 5, 3, 4), (2, 3)),
    ((2, 5, 3, 4), (1,)),
    ((2, 17, 3, 2), (0, 3)),
    ((3, 1, 7), (2,)),
    ((6,), (0,)),
    ((2, 3), ()),
]


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize(("shape", "axes"), MAPPED_SHAPES)
@pytest.mark.parametrize("op", list(TORCH_LIKE))
def test_mapped(op: str, shape: tuple[int, ...], axes: tuple[int, ...], keepdims: int, kind: Any, dtype: Any) -> None:
    x = (RNG.random(shape) + 0.5).astype(dtype)
    wide = x.astype(np.float64)
    f = TORCH_LIKE[op]
    y = f(wide, axes, bool(keepdims))
    dy = RNG.standard_normal(y.shape).astype(dtype)
    attrs: dict[str, Any] = {"keepdims": keepdims, "noop_with_empty_axes": 1}
    near: dict[str, Any] = {"rtol": TOLERANCE[dtype], "atol": 10 * TOLERANCE[dtype]}
    case = kind(op, [x, np.array(axes, np.int64)], attrs, weights=(1,), opset=18, dtype=dtype)
    np.testing.assert_allclose(case.run()[0], y, **near)
    if op == "ReduceProd" and not axes:
        return  # nothing to differentiate: the output is the input
    (found,), (dx,) = case.run_training([dy])
    np.testing.assert_allclose(found, y, **near)
    if dtype is np.float64:
        directional(lambda x: float((dy * f(x, axes, bool(keepdims))).sum()), [wide], [dx], RNG)


def test_products_with_zeros_have_gradients() -> None:
    x = np.array([[2.0, 0.0, 3.0], [0.0, 4.0, 0.0], [1.0, 2.0, 3.0]])
    _, (dx,) = Case("ReduceProd", [x], {"axes": [1]}, opset=13, dtype=np.float64).run_training([np.ones((3, 1))])
    np.testing.assert_array_equal(dx, [[0, 6, 0], [0, 0, 0], [6, 3, 2]])


def test_the_length_of_nothing_has_no_direction() -> None:
    x = np.zeros((2, 3), np.float32)
    (y,), (dx,) = Case("ReduceL2", [x], {"axes": [1]}, opset=13).run_training([np.ones((2, 1), np.float32)])
    assert not y.any() and not dx.any()


def test_sums_of_exponentials_of_anything() -> None:
    x = np.array([[1e4, 1e4 + 1], [-1e4, -1e4], [-np.inf, -np.inf], [np.inf, 0], [np.nan, 0]], np.float32)
    (y,) = Case("ReduceLogSumExp", [x], {"axes": [1], "keepdims": 0}, opset=13).run()
    np.testing.assert_allclose(y, [1e4 + 1.3132617, -1e4 + np.log(2), -np.inf, np.inf, np.nan], rtol=1e-6)


@pytest.mark.parametrize(
    ("op", "nothing"),
    [
        ("ReduceSum", 0),
        ("ReduceProd", 1),
        ("ReduceMax", -np.inf),
        ("ReduceMin", np.inf),
        ("ReduceL2", 0),
        ("ReduceLogSum", -np.inf),
        ("ReduceLogSumExp", -np.inf),
    ],
)
def test_nothing(op: str, nothing: float) -> None:
    for weights in ((1,), (0, 1)):
        case = Case(op, [np.zeros((2, 0, 3), np.float32), np.array([1])], weights=weights, opset=20)
        np.testing.assert_array_equal(case.run()[0], np.full((2, 1, 3), nothing, np.float32))


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceSumSquare"])
def test_integers_that_are_fed(op: str) -> None:
    x = RNG.integers(-5, 5, (3, 4, 2)).astype(np.int32)
    (y,) = Case(op, [x, np.array([0, 2])], {"keepdims": 0}, weights=(1,), opset=20).run()
    f = {"ReduceSum": np.sum, "ReduceMax": np.max, "ReduceMin": np.min}.get(op)
    assert y.dtype == np.int32
    np.testing.assert_array_equal(y, f(x, (0, 2)) if f else TORCH_LIKE[op](x, (0, 2), False))
