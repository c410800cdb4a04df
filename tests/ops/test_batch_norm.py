"""BatchNormalization against the float64 oracle and onnxruntime: batch and running statistics, alone and fused."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np
import onnxruntime
import pytest
import reference
from guards import run_guarded
from harness import Case, to_onnx_order
from onnx import TensorProto, helper

from nbcnn import executor
from nbcnn.autodiff import differentiate
from nbcnn.errors import ModelError, UnsupportedError
from nbcnn.graph import Graph, Node, Value
from nbcnn.lower import lower_for_inference, lower_for_training
from nbcnn.parameter import Parameter
from nbcnn.passes.pack import pack_weights
from nbcnn.passes.specialize import Mode
from nbcnn.plan import Arena, build_plan

DTYPES = (np.float32, np.float64)
SHAPES = [
    (1, 1, 2, 1),
    (2, 5, 3, 4),
    (3, 17, 9, 11),
    (1, 33, 25, 30),
    (2, 300, 4, 3),
    (4, 3),
    (3, 3, 301),
    (2, 3, 2, 3, 2),
]
EPSILON = 1e-3


def rounding(dtype: Any) -> float:
    return 3e-5 if dtype == np.float32 else 1e-10


def arguments(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> list[np.ndarray]:
    """x with channels far from zero, scale, bias, running mean, running variance."""
    rng = np.random.default_rng(seed)
    c = shape[1]
    x = rng.standard_normal(shape) * 2 + rng.standard_normal((1, c, *[1] * (len(shape) - 2))) * 5
    arrays = (x, rng.uniform(-2, 2, c), rng.standard_normal(c), rng.standard_normal(c), rng.uniform(0.3, 2, c))
    return [a.astype(dtype) for a in arrays]


def close(got: np.ndarray, expected: np.ndarray, dtype: Any) -> None:
    """Differences beside the largest value: gradients are sums of terms that cancel."""
    tolerance = rounding(dtype) * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_running_statistics(shape: tuple[int, ...], dtype: Any) -> None:
    inputs = arguments(shape, dtype)
    (y,) = Case("BatchNormalization", [*inputs], {"epsilon": EPSILON}, (1, 2, 3, 4), dtype=dtype).run()
    close(y, reference.batch_normalization(*inputs, epsilon=EPSILON), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_training(shape: tuple[int, ...], dtype: Any) -> None:
    inputs = arguments(shape, dtype)
    dy = np.random.default_rng(1).standard_normal(shape).astype(dtype)
    case = Case("BatchNormalization", [*inputs], {"epsilon": EPSILON}, (1, 2, 3, 4), dtype=dtype)
    (y,), grads = case.run_training([dy], (0, 1, 2))
    close(y, reference.batch_normalization_training(*inputs, epsilon=EPSILON)[0], dtype)
    expected = reference.batch_normalization_training_backward(dy, *inputs[:2], epsilon=EPSILON)
    for got, want in zip(grads, expected, strict=True):
        close(got, want, dtype)


def test_long_sums_are_accurate_in_float32() -> None:
    """Errors beside the values, root mean squares of dx, dscale, dbias. With 256 terms added up one by one they
    were 8e-8, 19e-7 and 10e-8 here; PyTorch's, which adds up in float64, are 6e-8, 5e-7 and 3e-8.
    """
    shape, dtype = (32, 256, 7, 7), np.float32
    inputs = arguments(shape, dtype)
    dy = (np.random.default_rng(1).standard_normal(shape) + 0.2).astype(dtype)
    case = Case("BatchNormalization", [*inputs], {"epsilon": EPSILON}, (1, 2, 3, 4), dtype=dtype)
    _, grads = case.run_training([dy], (0, 1, 2))
    expected = reference.batch_normalization_training_backward(dy, *inputs[:2], epsilon=EPSILON)
    errors = [np.sqrt(np.mean((g - e) ** 2) / np.mean(e**2)) for g, e in zip(grads, expected, strict=True)]
    assert np.all(np.array(errors) < [6e-8, 1e-6, 6e-8]), errors


@pytest.mark.parametrize("shape", SHAPES)
def test_training_between_guard_bands(shape: tuple[int, ...]) -> None:
    inputs = arguments(shape, np.float32)
    dy = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    case = Case("BatchNormalization", [*inputs], {}, (1, 2, 3, 4))
    plan = case.training_plan([dy], (0, 1, 2))
    found = list(run_guarded(plan).values())
    (y,), grads = case.run_training([dy], (0, 1, 2))
    for got, want, value in zip(found, [y, *grads], plan.graph.outputs, strict=True):
        np.testing.assert_array_equal(to_onnx_order(got, value.layout), want)


def onnxruntime_training(inputs: list[np.ndarray], opset: int) -> list[np.ndarray]:
    attrs = {"epsilon": EPSILON, "momentum": 0.7, "training_mode": 1}
    names, outputs = ["x", "scale", "b", "mean", "var"], ["y", "new_mean", "new_var"]
    graph = helper.make_graph(
        [helper.make_node("BatchNormalization", names, outputs, **attrs)],
        "norm",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in zip(names, inputs, strict=True)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip(names, inputs, strict=True)))


@pytest.mark.parametrize("opset", [14, 15])
def test_training_mode_as_onnxruntime(opset: int) -> None:
    inputs = arguments((3, 5, 4, 6), np.float32)
    attrs = {"epsilon": EPSILON, "momentum": 0.7, "training_mode": 1}
    case = Case("BatchNormalization", [*inputs], attrs, (1, 2, 3, 4), outputs=3, opset=opset)
    for got, want in zip(case.run(), onnxruntime_training(inputs, opset), strict=True):
        close(got, want, np.float32)


@pytest.mark.parametrize("opset", [7, 9, 14])
def test_trainer_moves_running_statistics(opset: int) -> None:
    """In place, as ONNX defines: with the population variance."""
    inputs = arguments((3, 5, 4, 6), np.float64)
    case = Case("BatchNormalization", [*inputs], {"momentum": 0.7}, (1, 2, 3, 4), opset=opset, dtype=np.float64)
    parameters = case.parameters()
    feeds = {"i0": (inputs[0].shape, inputs[0].dtype)}
    for parameter in parameters.values():
        parameter.own()
    graph = lower_for_training(case.graph(), feeds, np.dtype(np.float64), ["o0"], Mode(train=True))
    plan = build_plan(graph, parameters, np.dtype(np.float64), Arena(), threads=2)
    mean, var = inputs[3], inputs[4]
    for _ in range(2):
        plan.array("i0")[...] = inputs[0]
        executor.execute(plan)
        _, mean, var = reference.batch_normalization_training(*inputs[:3], mean, var, momentum=0.7)
        np.testing.assert_allclose(parameters["i3"].value, mean, rtol=1e-12)
        np.testing.assert_allclose(parameters["i4"].value, var, rtol=1e-12)


def test_run_leaves_the_statistics_alone() -> None:
    inputs = arguments((2, 3, 4, 4), np.float64)
    case = Case("BatchNormalization", [*inputs], {"training_mode": 1}, (1, 2, 3, 4), dtype=np.float64)
    parameters = case.parameters()
    graph = lower_for_inference(case.graph(), {"i0": (inputs[0].shape, inputs[0].dtype)}, parameters, np.dtype("f8"))
    plan = build_plan(graph, parameters, np.dtype("f8"), Arena(), threads=2)
    plan.array("i0")[...] = inputs[0]
    executor.execute(plan)
    np.testing.assert_array_equal(parameters["i3"].value, inputs[3])
    np.testing.assert_array_equal(parameters["i4"].value, inputs[4])


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_statistics_of_many_rows(offset: float) -> None:
    """A long sum in float32 stays as exact as its inputs, also far from zero."""
    x = (np.random.default_rng(2).standard_normal((2, 3, 200, 301)) + offset).astype(np.float32)
    inputs = [x, *arguments(x.shape, np.float32)[1:]]
    attrs = {"training_mode": 1, "momentum": 0.0}
    _, mean, var = Case("BatchNormalization", [*inputs], attrs, (1, 2, 3, 4), outputs=3).run()
    np.testing.assert_allclose(mean, x.mean(axis=(0, 2, 3), dtype=np.float64), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(var, x.var(axis=(0, 2, 3), dtype=np.float64), rtol=1e-5 if offset == 0 else 1e-4)


# --- fused ------------------------------------------------------------------------------------------------------------


def network(
    shape: tuple[int, ...], dtype: Any, addition: bool, activation: bool
) -> tuple[Graph, dict[str, np.ndarray]]:
    """BatchNormalization (+ Add of another input) (+ Relu)."""
    arrays = dict(zip(("x", "scale", "bias", "mean", "var"), arguments(shape, dtype), strict=True))
    arrays["r"] = np.random.default_rng(3).standard_normal(shape).astype(dtype)
    graph = Graph(opset={"": 17}, inputs=[Value(n, np.dtype(dtype), shape) for n in ("x", "r")])
    graph.initializers = {n: arrays[n] for n in ("scale", "bias", "mean", "var")}
    graph.nodes = [Node("BatchNormalization", ["x", "scale", "bias", "mean", "var"], ["y0"], {"epsilon": EPSILON})]
    if addition:
        graph.nodes.append(Node("Add", ["y0", "r"], ["y1"]))
    if activation:
        graph.nodes.append(Node("Relu", [graph.nodes[-1].outputs[0]], ["y2"]))
    graph.outputs = [Value(graph.nodes[-1].outputs[0])]
    return graph, arrays


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("activation", [False, True])
@pytest.mark.parametrize("addition", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_fused(dtype: Any, addition: bool, activation: bool, frozen: bool) -> None:
    shape = (2, 19, 13, 11)
    source, arrays = network(shape, dtype, addition, activation)
    kind = np.dtype(dtype)
    feeds = {n: (shape, kind) for n in (("x", "r") if addition else ("x",))}
    mode = Mode(train=True, frozen=lambda node: frozen)
    graph = lower_for_training(source, feeds, kind, source.output_names(), mode)
    wanted = ["x", "scale", "bias", *(["r"] if addition else [])]
    (output,) = graph.outputs
    graph.inputs.append(Value("dy", kind, shape))
    graph.values["dy"] = graph.inputs[-1]
    found = differentiate(graph, {output.name: "dy"}, wanted)
    graph.outputs = [output, *(graph.values[found[name]] for name in wanted)]
    parameters = {n: Parameter(n, a, kind) for n, a in source.initializers.items()}
    pack_weights(graph, parameters)
    ops = [n.op for n in graph.nodes]
    assert "Relu" not in ops, "the activation is fused"
    assert frozen or "Add" not in ops, "the addition is fused"
    plan = build_plan(graph, parameters, kind, Arena(), threads=2)
    dy = np.random.default_rng(4).standard_normal(shape).astype(dtype)
    for name, array in (("x", arrays["x"]), ("dy", dy), *([("r", arrays["r"])] if addition else [])):
        plan.array(name)[...] = array
    executor.execute(plan)
    got = [to_onnx_order(plan.array(v.name), v.layout) for v in graph.outputs]

    five = [arrays[n] for n in ("x", "scale", "bias", "mean", "var")]
    if frozen:
        y = reference.batch_normalization(*five, epsilon=EPSILON)
    else:
        y = reference.batch_normalization_training(*five, epsilon=EPSILON)[0]
    y = y + arrays["r"] if addition else y
    dz = dy * (y > 0) if activation else dy.astype(np.float64)
    if frozen:
        grads = reference.batch_normalization_backward(dz, five[0], five[1], *five[3:], epsilon=EPSILON)
    else:
        grads = reference.batch_normalization_training_backward(dz, *five[:2], epsilon=EPSILON)
    expected = [np.maximum(y, 0) if activation else y, *grads, *([dz] if addition else [])]
    for name, a, b in zip(["y", *wanted], got, expected, strict=True):
        assert np.isfinite(a).all(), name
        close(a, b, dtype)


@pytest.mark.parametrize("layer", ["Conv", "grouped Conv", "Gemm", "transposed Gemm"])
@pytest.mark.parametrize("with_bias", [False, True])
def test_folded_into_a_layer(layer: str, with_bias: bool) -> None:
    rng = np.random.default_rng(5)
    conv = layer.endswith("Conv")
    shape = (2, 4, 5, 6) if conv else (3, 4)
    out = 6
    w_shape = {"Conv": (out, 4, 3, 3), "grouped Conv": (out, 2, 3, 3), "Gemm": (4, out), "transposed Gemm": (out, 4)}
    attrs = {"Conv": {}, "grouped Conv": {"group": 2}, "Gemm": {}, "transposed Gemm": {"transB": 1}}[layer]
    x, w, b = rng.standard_normal(shape), rng.standard_normal(w_shape[layer]), rng.standard_normal(out)
    norm = arguments((1, out, 1), np.float64)[1:]
    graph = Graph(opset={"": 17}, inputs=[Value("x", x.dtype, shape)], outputs=[Value("y")])
    graph.initializers = dict(zip(("scale", "bias", "mean", "var"), norm, strict=True)) | {"w": w} | {"b": b}
    graph.nodes = [
        Node(layer.rsplit(maxsplit=1)[-1], ["x", "w", "b"] if with_bias else ["x", "w"], ["z"], attrs),
        Node("BatchNormalization", ["z", "scale", "bias", "mean", "var"], ["y"]),
    ]
    kind = np.dtype(np.float64)
    parameters = {n: Parameter(n, a, kind) for n, a in graph.initializers.items()}
    parameters["scale"].own()  # the master is written to below
    lowered = lower_for_inference(graph, {"x": (shape, kind)}, parameters, kind)
    assert "BatchNormalization" not in [n.op for n in lowered.nodes]
    plan = build_plan(lowered, parameters, kind, Arena(), threads=2)
    shift = b if with_bias else np.zeros(out)
    for _ in range(2):
        plan.array("x")[...] = x
        executor.execute(plan)
        z = reference.conv(x, w, shift, **attrs) if conv else reference.gemm(x, w, shift, **attrs)
        np.testing.assert_allclose(
            plan.array(lowered.outputs[0].name), reference.batch_normalization(z, *norm), rtol=1e-10, atol=1e-10
        )
        norm[0] = parameters["scale"].value = norm[0] + 1  # the fold follows a changed weight


def test_bounds_of_clip() -> None:
    """A clamp with two bounds, on running statistics, for inference."""
    inputs = arguments((2, 3, 4, 5), np.float64)
    graph = Case("BatchNormalization", [*inputs], {}, (1, 2, 3, 4), dtype=np.float64)
    source = graph.graph()
    source.initializers |= {"low": np.array(-0.5), "high": np.array(1.5)}
    source.nodes.append(Node("Clip", ["o0", "low", "high"], ["y"]))
    source.outputs = [Value("y")]
    kind = np.dtype(np.float64)
    lowered = lower_for_inference(source, {"i0": (inputs[0].shape, kind)}, graph.parameters(), kind)
    norm = next(n for n in lowered.nodes if n.op == "BatchNormalization")
    assert (norm.attrs["low"], norm.attrs["high"]) == (-0.5, 1.5)
    assert norm.attrs["high"] < inf
    plan = build_plan(lowered, graph.parameters(), kind, Arena(), threads=2)
    plan.array("i0")[...] = inputs[0]
    executor.execute(plan)
    np.testing.assert_allclose(
        plan.array(lowered.outputs[0].name), np.clip(reference.batch_normalization(*inputs), -0.5, 1.5), atol=1e-12
    )


def test_refusals() -> None:
    inputs = arguments((2, 3, 4, 4), np.float32)
    with pytest.raises(ModelError, match=r"BatchNormalization 'node': mean has shape \(2,\)"):
        Case("BatchNormalization", [*inputs[:3], inputs[3][:2], inputs[4]], {}, (1, 2, 3, 4)).run()
    with pytest.raises(UnsupportedError, match=r"spatial=0"):
        Case("BatchNormalization", [*inputs], {"spatial": 0}, (1, 2, 3, 4), opset=7).run_training([inputs[0]])
    with pytest.raises(ModelError, match=r"scale has shape \(3,\)"):
        Case("BatchNormalization", [*inputs], {"spatial": 0}, (1, 2, 3, 4), opset=7).run()
    with pytest.raises(UnsupportedError, match=r"output 'o1' exists only while training"):
        Case("BatchNormalization", [*inputs], {}, (1, 2, 3, 4), outputs=2, opset=15).run()
    with pytest.raises(UnsupportedError, match=r"running statistics are initializers"):
        dy = np.ones_like(inputs[0])
        Case("BatchNormalization", [*inputs], {}, (1, 2)).run_training([dy])


@pytest.mark.parametrize(
    ("opset", "attrs", "outputs"),
    [(1, {"is_test": 0}, 1), (6, {}, 5), (7, {}, 5), (9, {}, 3), (14, {"training_mode": 1}, 3)],
)
def test_training_mode_of_old_files(opset: int, attrs: dict[str, Any], outputs: int) -> None:
    """Until opset 6 it is what is_test does not forbid; until opset 13 what more than one output asks for."""
    inputs = arguments((2, 5, 3, 4), np.float64)
    attrs = {**attrs, "epsilon": EPSILON, "momentum": 0.7}
    found = Case("BatchNormalization", [*inputs], attrs, (1, 2, 3, 4), outputs, opset, np.float64).run()
    wanted = reference.batch_normalization_training(*inputs, EPSILON, 0.7)
    axes = (0, 2, 3)
    for y, value in zip(found, (*wanted, inputs[0].mean(axes), inputs[0].var(axes)), strict=False):
        np.testing.assert_allclose(y, value, rtol=1e-10)


@pytest.mark.parametrize("opset", [1, 6])
def test_is_test_of_old_files(opset: int) -> None:
    inputs = arguments((2, 5, 3, 4), np.float64)
    attrs = {"is_test": 1, "epsilon": EPSILON}
    (y,) = Case("BatchNormalization", [*inputs], attrs, (1, 2, 3, 4), opset=opset, dtype=np.float64).run()
    np.testing.assert_allclose(y, reference.batch_normalization(*inputs, EPSILON), rtol=1e-10)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (4, 3), (2, 3, 7)])
def test_statistics_of_each_pixel(shape: tuple[int, ...]) -> None:
    """spatial=0, until opset 8."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal(shape)
    scale, bias, mean, var = rng.uniform(0.5, 2, (4, *shape[1:]))
    attrs = {"spatial": 0, "epsilon": EPSILON}
    case = Case("BatchNormalization", [x, scale, bias, mean, var], attrs, (1, 2, 3, 4), opset=7, dtype=np.float64)
    np.testing.assert_allclose(case.run()[0], (x - mean) / np.sqrt(var + EPSILON) * scale + bias, rtol=1e-10)
