"""Convolutions by Winograd's algorithm against the oracle, every direction (their errors: test_accuracy.py)."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from guards import run_guarded
from harness import Case, Forced

from nbcnn.graph import Graph, Node, Value
from nbcnn.kernels.cpu.cook_toom import filter_matrix, input_matrix, output_matrix
from nbcnn.kernels.cpu.tiling import lanes
from nbcnn.lower import lower_for_inference
from nbcnn.ops.winograd import POINTS
from nbcnn.passes.algorithms import by_cost

# x shape, output channels, pads (top, left, bottom, right)
SHAPES = {
    "square": ((2, 24, 8, 8), 40, (1, 1, 1, 1)),
    "no padding": ((1, 13, 9, 14), 33, (0, 0, 0, 0)),
    "uneven padding": ((2, 17, 5, 11), 35, (2, 0, 1, 3)),
    "smaller than a tile": ((3, 9, 2, 1), 19, (1, 1, 1, 1)),
    "many tiles": ((2, 11, 61, 67), 20, (1, 1, 1, 1)),
    "panels": ((1, 65, 10, 6), 130, (1, 1, 1, 1)),
}


def case_of(name: str, algorithm: str, dtype: type) -> tuple[Case, Forced, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    shape, channels, pads = SHAPES[name]
    x = rng.standard_normal(shape).astype(dtype)
    w = (rng.standard_normal((channels, shape[1], 3, 3)) / (9 * shape[1]) ** 0.5).astype(dtype)
    bias = rng.standard_normal(channels).astype(dtype)
    forced = Forced(algorithm)
    return Case("Conv", [x, w, bias], {"pads": list(pads)}, (1, 2), dtype=dtype, choose=forced), forced, x, w, bias


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("algorithm", POINTS)
@pytest.mark.parametrize("name", SHAPES)
def test_forward_and_gradients(name: str, algorithm: str, dtype: type) -> None:
    case, forced, x, w, bias = case_of(name, algorithm, dtype)
    want = reference.conv(x, w, bias, **case.attrs)
    dy = np.random.default_rng(1).standard_normal(want.shape).astype(dtype)
    grads = reference.conv_backward(dy, x, w, **case.attrs)
    (inferred,) = case.run()
    assert forced.count == 1
    (y,), found = case.run_training([dy], (0, 1, 2))
    # The gradient by the input has as many output channels as x: too few of them are computed directly.
    assert forced.count == 1 + 2 + (x.shape[1] > lanes(x.itemsize))
    for got, expected in zip((inferred, y, *found), (want, want, *grads), strict=True):
        bound = (3e-5 if dtype is np.float32 else 1e-12) * max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(got, expected, rtol=0, atol=bound)


@pytest.mark.parametrize("algorithm", POINTS)
@pytest.mark.parametrize("name", SHAPES)
def test_nothing_outside_the_arrays_is_touched(name: str, algorithm: str) -> None:
    case, *_ = case_of(name, algorithm, np.float32)
    shape = case.run()[0].shape
    plan = case.training_plan([np.ones(shape, np.float32)], (0, 1, 2))
    guarded = run_guarded(plan)
    case.execute(plan)
    for value, array in guarded.items():
        np.testing.assert_array_equal(array, plan.array(value))


@pytest.mark.parametrize("n", [4, 6])
@pytest.mark.parametrize("taps", [2, 3])
def test_matrices_are_a_minimal_filter(n: int, taps: int) -> None:
    """The defining identity, in one dimension, of F(n + 1 - taps, taps)."""
    rng = np.random.default_rng(n)
    samples, weights = rng.standard_normal(n), rng.standard_normal(taps)
    results = n + 1 - taps
    found = output_matrix(n, results) @ ((filter_matrix(n, taps) @ weights) * (input_matrix(n) @ samples))
    np.testing.assert_allclose(found, [samples[i : i + taps] @ weights for i in range(results)], atol=1e-12)


def test_residual_bias_and_clamp_are_applied() -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((2, 20, 9, 6)).astype(np.float32)
    w = (rng.standard_normal((20, 20, 3, 3)) / 13).astype(np.float32)
    bias = rng.standard_normal(20).astype(np.float32)
    graph = Graph(opset={"": 17}, initializers={"w": w, "bias": bias})
    graph.inputs, graph.outputs = [Value("x", x.dtype, x.shape)], [Value("y")]
    graph.nodes = [
        Node("Conv", ["x", "w", "bias"], ["c"], {"pads": [1, 1, 1, 1]}, name="conv"),
        Node("Add", ["c", "x"], ["s"], name="add"),
        Node("Relu", ["s"], ["y"], name="relu"),
    ]
    from nbcnn.model import Model

    model = Model(graph)
    model.chooser = lambda: Forced("winograd4")  # type: ignore[method-assign]
    (y,) = model.run(None, {"x": x})
    assert [n.attrs["algorithm"] for n in model.plan({"x": x}).nodes if n.op == "Conv"] == ["winograd4"]
    want = np.maximum(reference.conv(x, w, bias, pads=[1, 1, 1, 1]) + x, 0)
    np.testing.assert_allclose(y, want, atol=2e-5)


def algorithm_of(x: tuple[int, ...], w: tuple[int, ...], attrs: dict[str, object], exact: bool) -> str:
    """What a model of one convolution chooses on two threads."""
    from nbcnn.passes.algorithms import direct

    graph = Graph(opset={"": 17}, initializers={"w": np.zeros(w, np.float32)})
    graph.inputs, graph.outputs = [Value("x", np.dtype(np.float32), x)], [Value("y")]
    graph.nodes = [Node("Conv", ["x", "w"], ["y"], attrs, name="conv")]
    feeds = {"x": (x, np.dtype(np.float32))}
    lowered = lower_for_inference(graph, feeds, {}, np.dtype(np.float32), choose=direct if exact else by_cost)
    return next(n.attrs["algorithm"] for n in lowered.nodes if n.op == "Conv")


def test_large_3x3_layers_are_winograds_unless_they_must_be_exact() -> None:
    pads = {"pads": [1, 1, 1, 1]}
    assert algorithm_of((1, 128, 28, 28), (128, 128, 3, 3), pads, exact=False) == "winograd4"
    assert algorithm_of((1, 128, 28, 28), (128, 128, 3, 3), pads, exact=True) == "implicit-gemm"


@pytest.mark.parametrize(
    ("w", "attrs", "name"),
    [
        ((64, 64, 3, 3), {"strides": [2, 2]}, "implicit-gemm"),
        ((64, 64, 3, 3), {"dilations": [2, 2]}, "implicit-gemm"),
        ((64, 64, 5, 5), {}, "implicit-gemm"),
        ((64, 64, 1, 1), {}, "pointwise"),
        ((64, 32, 3, 3), {"group": 2}, "grouped"),
        ((64, 1, 3, 3), {"group": 64}, "depthwise"),
    ],
)
def test_other_convolutions_are_direct(w: tuple[int, ...], attrs: dict[str, object], name: str) -> None:
    assert algorithm_of((1, 64, 28, 28), w, attrs, exact=False) == name
