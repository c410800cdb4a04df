"""Reductions against the oracle, in both layouts, and the sums that gradients need."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from channels_last import ChannelsLast
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
