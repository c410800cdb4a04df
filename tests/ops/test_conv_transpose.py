"""ConvTranspose and its gradients against PyTorch in float64, its paddings against onnxruntime, and what is fused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from guards import run_guarded
from harness import Case, Forced
from onnx import TensorProto, helper

from nbcnn.autotune import Tuner
from nbcnn.errors import ModelError
from nbcnn.graph import Graph, Node, Value
from nbcnn.lower import lower_for_inference
from nbcnn.model import Model
from nbcnn.optim import SGD
from nbcnn.passes.algorithms import by_cost
from nbcnn.trainer import Trainer

torch = pytest.importorskip("torch", reason="PyTorch is not installed: ConvTranspose is not compared with it")

RNG = np.random.default_rng(7)

# name -> x shape, w shape, attributes
CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "doubles": ((2, 17, 5, 4), (17, 33, 2, 2), {"strides": [2, 2]}),
    "doubles, overlapping": ((1, 33, 4, 5), (33, 17, 4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "output padding": (
        (2, 5, 4, 3),
        (5, 6, 3, 3),
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
    ),
    "output padding of a stride": (
        (1, 5, 4, 3),
        (5, 6, 3, 3),
        {"strides": [2, 1], "dilations": [3, 2], "output_padding": [2, 1]},
    ),
    "stride over kernel": ((1, 3, 3, 4), (3, 5, 2, 1), {"strides": [3, 2]}),
    "one pixel": ((3, 1, 1, 1), (1, 1, 1, 1), {}),
    "few channels out": ((2, 17, 5, 5), (17, 3, 5, 5), {"strides": [2, 2], "pads": [2, 2, 2, 2]}),
    "one channel out": (
        (1, 18, 6, 5),
        (18, 1, 9, 9),
        {"strides": [3, 3], "pads": [4, 4, 4, 4], "output_padding": [2, 2]},
    ),
    "few channels out, dilated": ((2, 7, 4, 5), (7, 2, 3, 3), {"dilations": [2, 3], "pads": [3, 1, 3, 1]}),
    "few channels out, 1-D": ((2, 5, 9), (5, 4, 6), {"strides": [4], "pads": [1, 1]}),
    "few channels out, 3-D": ((1, 5, 3, 4, 2), (5, 3, 3, 2, 3), {"strides": [2, 1, 4], "pads": [1, 0, 1, 1, 0, 1]}),
    "stride 1": ((2, 16, 6, 7), (16, 64, 3, 3), {"pads": [1, 1, 1, 1]}),
    "dilated": ((1, 9, 5, 6), (9, 10, 3, 3), {"dilations": [2, 3], "pads": [1, 2, 1, 2]}),
    "groups": ((2, 12, 5, 5), (12, 5, 3, 3), {"group": 4, "strides": [2, 2]}),
    "depthwise": ((2, 17, 6, 5), (17, 1, 4, 4), {"group": 17, "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "depthwise, two each": ((1, 6, 3, 3), (6, 2, 3, 3), {"group": 6}),
    "1-D": ((2, 5, 9), (5, 7, 4), {"strides": [3], "pads": [1, 1]}),
    "3-D": ((1, 5, 3, 4, 2), (5, 9, 3, 2, 3), {"strides": [2, 1, 2], "pads": [1, 0, 1, 1, 0, 1]}),
}


def arrays(name: str, dtype: Any) -> list[np.ndarray]:
    x, w, attrs = CASES[name]
    shapes = [x, w, (w[1] * attrs.get("group", 1),)]
    return [RNG.standard_normal(shape).astype(dtype) for shape in shapes]


def torch_layer(x: Any, w: Any, b: Any, attrs: dict[str, Any]) -> Any:
    rank = x.ndim - 2
    layer = (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)[rank - 1]
    strides, dilations = attrs.get("strides", [1] * rank), attrs.get("dilations", [1] * rank)
    pads, more = attrs.get("pads", [0] * 2 * rank)[:rank], attrs.get("output_padding", [0] * rank)
    return layer(x, w, b, strides, pads, more, attrs.get("group", 1), dilations)


def assert_close(got: np.ndarray, want: Any, dtype: Any) -> None:
    want = want.detach().numpy()
    assert got.shape == want.shape
    tolerance = (2e-5 if dtype is np.float32 else 1e-11) * max(1.0, float(np.abs(want).max()))
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CASES)
def test_forward_and_gradients(name: str, dtype: Any) -> None:
    given, attrs = arrays(name, dtype), CASES[name][2]
    tensors = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in given]
    want = torch_layer(*tensors, attrs)
    dy = RNG.standard_normal(want.shape).astype(dtype)
    want.backward(torch.tensor(dy, dtype=torch.float64))
    case = Case("ConvTranspose", given, attrs, weights=(1, 2), dtype=dtype)
    assert_close(case.run()[0], want, dtype)
    (y,), grads = case.run_training([dy], (0, 1, 2))
    assert_close(y, want, dtype)
    for got, tensor in zip(grads, tensors, strict=True):
        assert_close(got, tensor.grad, dtype)


def test_by_winograd() -> None:
    given, attrs = arrays("stride 1", np.float32), CASES["stride 1"][2]
    want = torch_layer(*(torch.tensor(a, dtype=torch.float64) for a in given), attrs)
    choose = Forced("winograd2")
    (y,) = Case("ConvTranspose", given, attrs, weights=(1, 2), choose=choose).run()
    assert choose.count == 1
    assert_close(y, want, np.float32)


@pytest.mark.parametrize("choice", ["cost", "timing"])
def test_an_algorithm_is_chosen(choice: str, tmp_path: Path) -> None:
    given, attrs = arrays("stride 1", np.float32), CASES["stride 1"][2]
    given[1] *= 0.1
    choose = by_cost if choice == "cost" else Tuner(1, tmp_path)
    (y,) = Case("ConvTranspose", given, attrs, weights=(1, 2), choose=choose).run()
    assert_close(y, torch_layer(*(torch.tensor(a, dtype=torch.float64) for a in given), attrs), np.float32)


@pytest.mark.parametrize("name", CASES)
def test_nothing_outside_the_arrays_is_touched(name: str) -> None:
    given, attrs = arrays(name, np.float32), CASES[name][2]
    case = Case("ConvTranspose", given, attrs, weights=(1, 2))
    plan = case.training_plan([RNG.standard_normal(case.run()[0].shape)], (0, 1, 2))
    found = run_guarded(plan)
    case.execute(plan)
    for value, array in found.items():
        np.testing.assert_array_equal(array, plan.array(value))


@pytest.mark.parametrize(
    "attrs",
    [
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 3], "output_padding": [1, 1]},
        {"auto_pad": "VALID", "strides": [2, 1]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2], "output_shape": [8, 9]},
        {"strides": [2, 2], "output_shape": [8, 9]},
        {"strides": [3, 2], "output_shape": [13, 12], "output_padding": [1, 1]},
    ],
)
def test_paddings(attrs: dict[str, Any]) -> None:
    x, w = RNG.standard_normal((1, 2, 4, 5)).astype(np.float32), RNG.standard_normal((2, 3, 3, 4)).astype(np.float32)
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], **attrs)
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in (("x", x), ("w", w))]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    model = helper.make_model(helper.make_graph([node], "g", inputs, outputs), ir_version=8)
    del model.opset_import[:]
    model.opset_import.add().version = 17
    (want,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x, "w": w})
    (y,) = Case("ConvTranspose", [x, w], attrs, weights=(1,)).run()
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-5)


def test_more_output_than_windows_is_bias() -> None:
    """ONNX: a total padding that would be negative. Its gradients read what the windows reach."""
    x, w, b = (RNG.standard_normal(shape) for shape in ((1, 2, 3, 3), (2, 4, 2, 2), (4,)))
    attrs = {"strides": [2, 2], "output_shape": [9, 6]}
    dy = RNG.standard_normal((1, 4, 9, 6))
    (y,), grads = Case("ConvTranspose", [x, w, b], attrs, (1, 2), dtype=np.float64).run_training([dy], (0, 1, 2))
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, w, b)]
    want = torch.nn.functional.pad(torch_layer(tensors[0], tensors[1], None, {"strides": [2, 2]}), (0, 0, 0, 3))
    want = want + tensors[2][:, None, None]
    want.backward(torch.tensor(dy))
    assert_close(y, want, np.float64)
    for got, tensor in zip(grads, tensors, strict=True):
        assert_close(got, tensor.grad, np.float64)


@pytest.mark.parametrize("name", ["groups", "few channels out"])
def test_batch_norm_residual_and_activation_are_fused(name: str) -> None:
    given = arrays(name, np.float32)
    shape = Case("ConvTranspose", given, CASES[name][2], weights=(1, 2)).run()[0].shape
    norm = [np.abs(RNG.standard_normal(shape[1])).astype(np.float32) + 0.5 for _ in range(4)]
    graph = Graph(opset={"": 17}, outputs=[Value("y")])
    graph.inputs = [Value("x", np.dtype(np.float32), given[0].shape), Value("r", np.dtype(np.float32), shape)]
    graph.initializers = dict(zip(("w", "b", "s", "t", "m", "v"), [*given[1:], *norm], strict=True))
    graph.nodes = [
        Node("ConvTranspose", ["x", "w", "b"], ["a"], dict(CASES[name][2])),
        Node("BatchNormalization", ["a", "s", "t", "m", "v"], ["n"]),
        Node("Add", ["n", "r"], ["z"]),
        Node("Relu", ["z"], ["y"]),
    ]
    feeds = {"x": given[0], "r": RNG.standard_normal(shape).astype(np.float32)}
    lowered = lower_for_inference(graph, {k: (a.shape, a.dtype) for k, a in feeds.items()}, {}, np.dtype(np.float32))
    assert [n.op for n in lowered.nodes if n.op in ("Add", "Relu", "BatchNormalization")] == []
    tensors = [torch.tensor(a, dtype=torch.float64) for a in (*given, feeds["r"], *norm)]
    x, w, b, r, scale, shift, mean, variance = tensors
    y = torch_layer(x, w, b, CASES[name][2])
    y = torch.relu(torch.nn.functional.batch_norm(y, mean, variance, scale, shift) + r)
    assert_close(Model(graph).run(None, feeds)[0], y, np.float32)


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({"pads": [3, 3, 3, 3]}, "leaves nothing"),
        ({"pads": [-1, 0, 0, 0]}, "must not be negative"),
        ({"strides": [1]}, "do not fit 2 dimensions"),
        ({"group": 2}, "does not fit weights"),
        ({"kernel_shape": [3, 3]}, "is not that of the weights"),
    ],
)
def test_what_does_not_fit(attrs: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Case("ConvTranspose", [np.zeros((1, 3, 2, 2), np.float32), np.zeros((3, 2, 2, 2), np.float32)], attrs).run()


@pytest.mark.parametrize("channels", [2, 12])
def test_trains_as_torch(channels: int) -> None:
    """Steps of a network that draws pictures: an upsampling layer, an activation and one that ends in few channels."""
    shapes = {"w": (5, 12, 4, 4), "b": (12,), "v": (12, channels, 3, 3)}
    arrays = {name: RNG.standard_normal(shape) * 0.2 for name, shape in shapes.items()}
    graph = Graph(opset={"": 17}, outputs=[Value("y")], initializers=dict(arrays))
    graph.inputs = [Value("x", np.dtype(np.float64), ("N", 5, 4, 3))]
    double = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
    graph.nodes = [
        Node("ConvTranspose", ["x", "w", "b"], ["h"], dict(double)),
        Node("LeakyRelu", ["h"], ["a"], {"alpha": 0.1}),
        Node("ConvTranspose", ["a", "v"], ["y"], double | {"output_padding": [1, 1]}),
    ]
    model = Model(graph, "float64")
    trainer = Trainer(model, "squared_error", SGD(lr=0.05, momentum=0.9))
    weights = {name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()}
    peer = torch.optim.SGD(weights.values(), lr=0.05, momentum=0.9)
    x, t = RNG.standard_normal((3, 5, 4, 3)), RNG.standard_normal((3, channels, 16, 12))
    for _ in range(4):
        h = torch.nn.functional.leaky_relu(torch_layer(torch.tensor(x), weights["w"], weights["b"], double), 0.1)
        y = torch_layer(h, weights["v"], None, double | {"output_padding": [1, 1]})
        loss = ((y - torch.tensor(t)) ** 2).mean()
        peer.zero_grad()
        loss.backward()
        peer.step()
        np.testing.assert_allclose(trainer.step(x, t), loss.item(), rtol=1e-10)
    for name, tensor in weights.items():
        assert_close(model.parameters[name].value, tensor, np.float64)


def test_no_pictures() -> None:
    x, w = np.zeros((0, 3, 4, 4), np.float32), np.zeros((3, 5, 2, 2), np.float32)
    assert Case("ConvTranspose", [x, w], {"strides": [2, 2]}, weights=(1,)).run()[0].shape == (0, 5, 8, 8)
