"""GridSample and AffineGrid against PyTorch in float64, cubic GridSample against onnx's reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from channels_last import ChannelsLast
from gradcheck import directional
from guards import run_guarded
from harness import Case
from onnx import helper
from onnx.reference import ReferenceEvaluator

from nbcnn.errors import ModelError, UnsupportedError

RNG = np.random.default_rng(11)
SHAPES = {
    "2-D": ((2, 5, 6, 7), (2, 4, 3, 2)),
    "one pixel": ((1, 3, 1, 1), (1, 3, 5, 2)),
    "many channels": ((2, 70, 4, 5), (2, 9, 8, 2)),
    "3-D": ((2, 3, 3, 4, 5), (2, 3, 2, 4, 3)),
}
PADDINGS = ("zeros", "border", "reflection")


def arrays(name: str, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    x, grid = SHAPES[name]
    return RNG.standard_normal(x).astype(dtype), RNG.uniform(-2.5, 2.5, grid).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("name", SHAPES)
def test_as_torch(name: str, mode: str, padding: str, aligned: int, dtype: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: GridSample is not compared with it")
    x, grid = arrays(name, dtype)
    tensors = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, grid)]
    want = torch.nn.functional.grid_sample(*tensors, mode, padding, bool(aligned))
    dy = RNG.standard_normal(want.shape).astype(dtype)
    want.backward(torch.tensor(dy, dtype=torch.float64))
    attrs = {"mode": mode, "padding_mode": padding, "align_corners": aligned}
    (y,), grads = Case("GridSample", [x, grid], attrs, opset=16, dtype=dtype).run_training([dy], (0, 1))
    for got, expected in zip((y, *grads), (want.detach(), *(t.grad for t in tensors)), strict=True):
        tolerance = (1e-4 if dtype is np.float32 else 1e-10) * max(1.0, float(expected.abs().max()))
        np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=tolerance)


@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("name", ["2-D", "3-D", "1-D"])
def test_cubic(name: str, padding: str, aligned: int) -> None:
    shapes = SHAPES | {"1-D": ((2, 3, 6), (2, 5, 1))}
    # At a border, onnx's reference moves samples that lie outside; PyTorch and onnxruntime hold taps inside.
    reach = 0.8 if padding == "border" else 1.5
    x, grid = RNG.standard_normal(shapes[name][0]), RNG.uniform(-reach, reach, shapes[name][1])
    attrs = {"mode": "cubic", "padding_mode": padding, "align_corners": aligned}
    node = helper.make_node("GridSample", ["x", "grid"], ["y"], **attrs)
    want = ReferenceEvaluator(node).run(None, {"x": x, "grid": grid})[0]
    for case in (Case, ChannelsLast):
        (y,) = case("GridSample", [x, grid], dict(attrs), opset=20, dtype=np.float64).run()
        np.testing.assert_allclose(y, want, rtol=0, atol=2e-5)  # the reference rounds positions to float32
    dy = RNG.standard_normal(want.shape)

    def loss(*given: np.ndarray) -> float:
        return float((Case("GridSample", list(given), attrs, opset=20, dtype=np.float64).run()[0] * dy).sum())

    _, grads = Case("GridSample", [x, grid], attrs, opset=20, dtype=np.float64).run_training([dy], (0, 1))
    directional(loss, [x, grid], grads, RNG, tolerance=1e-5)


@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("padding", PADDINGS)
def test_bicubic_as_torch(padding: str, aligned: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: GridSample is not compared with it")
    x, grid = arrays("2-D", np.float64)
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, grid)]
    want = torch.nn.functional.grid_sample(*tensors, "bicubic", padding, bool(aligned))
    dy = RNG.standard_normal(want.shape)
    want.backward(torch.tensor(dy))
    attrs = {"mode": "bicubic", "padding_mode": padding, "align_corners": aligned}
    (y,), grads = Case("GridSample", [x, grid], attrs, opset=16, dtype=np.float64).run_training([dy], (0, 1))
    for got, expected in zip((y, *grads), (want.detach(), *(t.grad for t in tensors)), strict=True):
        np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=1e-9)


def test_far_out_and_not_a_number() -> None:
    x = np.arange(1, 5, dtype=np.float32).reshape(1, 1, 2, 2)
    grid = np.array([[1e30, 0], [-np.inf, 1e12], [np.nan, 0], [0, 0]], np.float32).reshape(1, 1, 4, 2)
    for mode in ("linear", "nearest"):
        (y,) = Case("GridSample", [x, grid], {"mode": mode}, opset=20).run()
        np.testing.assert_array_equal(np.isnan(y).reshape(-1), [False, False, True, False])
        np.testing.assert_array_equal(y.reshape(-1)[:2], 0)
    (y,) = Case("GridSample", [x, grid], {"mode": "nearest", "padding_mode": "border"}, opset=20).run()
    np.testing.assert_array_equal(y.reshape(-1)[1], 3)


def test_nothing_outside_the_arrays_is_touched() -> None:
    for mode in ("linear", "cubic"):
        x, grid = arrays("many channels", np.float32)
        case = Case("GridSample", [x, grid], {"mode": mode, "padding_mode": "reflection"}, opset=20)
        plan = case.training_plan([RNG.standard_normal((2, 70, 9, 8))], (0, 1))
        found = run_guarded(plan)
        case.execute(plan)
        for name, array in found.items():
            np.testing.assert_array_equal(array, plan.array(name))


def test_results_do_not_depend_on_threads() -> None:
    import nbcnn

    x, grid = arrays("many channels", np.float32)
    dy, found = RNG.standard_normal((2, 70, 9, 8)).astype(np.float32), []
    for threads in (1, 2):
        nbcnn.set_num_threads(threads)
        (y,), grads = Case("GridSample", [x, grid], opset=20).run_training([dy], (0, 1))
        found.append([y, *grads])
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("size", [(2, 3, 4, 5), (1, 1, 3, 4, 2)])
def test_affine_grid(size: tuple[int, ...], aligned: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: AffineGrid is not compared with it")
    rank = len(size) - 2
    theta = torch.tensor(RNG.standard_normal((size[0], rank, rank + 1)), requires_grad=True)
    want = torch.nn.functional.affine_grid(theta, list(size), bool(aligned))
    dy = RNG.standard_normal(want.shape)
    want.backward(torch.tensor(dy))
    inputs = [theta.detach().numpy(), np.array(size)]
    case = Case("AffineGrid", inputs, {"align_corners": aligned}, weights=(1,), opset=20, dtype=np.float64)
    (y,), (dtheta,) = case.run_training([dy])
    np.testing.assert_allclose(y, want.detach().numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(dtheta, theta.grad.numpy(), rtol=0, atol=1e-11)


def test_what_cannot_be_sampled() -> None:
    x, grid = np.zeros((1, 2, 3, 3), np.float32), np.zeros((1, 2, 2, 2), np.float32)
    with pytest.raises(ModelError, match=r"GridSample 'node'.*does not fit"):
        Case("GridSample", [x, grid[..., :1]], opset=20).run()
    with pytest.raises(UnsupportedError, match=r"mode 'area'"):
        Case("GridSample", [x, grid], {"mode": "area"}, opset=20).run()
    with pytest.raises(ModelError, match=r"no pixels"):
        Case("GridSample", [x[:, :, :0], grid], opset=20).run()
    with pytest.raises(ModelError, match=r"AffineGrid 'node'.*does not fit size"):
        Case("AffineGrid", [x[0, :, :, :2], np.array([2, 1, 4, 4])], weights=(1,), opset=20).run()
