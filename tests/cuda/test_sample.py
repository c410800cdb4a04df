"""GridSample and DeformConv on a GPU, against PyTorch in float64, onnx's reference and finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gradcheck import directional
from harness import Case
from onnx import helper
from onnx.reference import ReferenceEvaluator

RNG = np.random.default_rng(11)
SHAPES = {
    "2-D": ((2, 5, 3, 4), (2, 2, 3, 2)),
    "one pixel": ((1, 3, 1, 1), (1, 2, 2, 2)),
    "3-D": ((1, 2, 2, 3, 3), (1, 2, 1, 2, 3)),
}
# (shape, mode, padding, aligned)
WAYS = [
    ("2-D", "bilinear", "zeros", 0),
    ("2-D", "bilinear", "border", 0),
    ("2-D", "bilinear", "reflection", 1),
    ("2-D", "nearest", "reflection", 0),
    ("2-D", "nearest", "border", 1),
    ("one pixel", "bilinear", "reflection", 0),
    ("one pixel", "nearest", "zeros", 1),
    ("3-D", "bilinear", "border", 1),
    ("3-D", "nearest", "zeros", 0),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "mode", "padding", "aligned"), WAYS)
def test_as_torch(name: str, mode: str, padding: str, aligned: int, dtype: Any) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: GridSample is not compared with it")
    x, grid = RNG.standard_normal(SHAPES[name][0]).astype(dtype), RNG.uniform(-2.5, 2.5, SHAPES[name][1]).astype(dtype)
    tensors = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (x, grid)]
    want = torch.nn.functional.grid_sample(*tensors, mode, padding, bool(aligned))
    dy = RNG.standard_normal(want.shape).astype(dtype)
    want.backward(torch.tensor(dy, dtype=torch.float64))
    attrs = {"mode": mode, "padding_mode": padding, "align_corners": aligned}
    (y,), grads = Case("GridSample", [x, grid], attrs, dtype=dtype, device="cuda").run_training([dy], (0, 1))
    for got, expected in zip((y, *grads), (want.detach(), *(t.grad for t in tensors)), strict=True):
        tolerance = (1e-4 if dtype is np.float32 else 1e-10) * max(1.0, float(expected.abs().max()))
        np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=tolerance)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_cubic_in_float64(padding: str) -> None:
    # At a border, onnx's reference moves samples that lie outside; PyTorch and onnxruntime hold taps inside.
    reach = 0.8 if padding == "border" else 1.5
    x, grid = RNG.standard_normal((1, 2, 4, 3)), RNG.uniform(-reach, reach, (1, 2, 1, 2))
    attrs = {"mode": "cubic", "padding_mode": padding, "align_corners": 1}
    node = helper.make_node("GridSample", ["x", "g"], ["y"], **attrs)
    want = ReferenceEvaluator(node).run(None, {"x": x, "g": grid})[0]
    dy = RNG.standard_normal(want.shape)

    def loss(*given: np.ndarray) -> float:
        (y,) = Case("GridSample", list(given), attrs, opset=20, dtype=np.float64, device="cpu").run()
        return float((y * dy).sum())

    case = Case("GridSample", [x, grid], attrs, opset=20, dtype=np.float64, device="cuda")
    (y,), grads = case.run_training([dy], (0, 1))
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-4)
    directional(loss, [x, grid], grads, RNG)


def test_many_samples_of_one_pixel() -> None:
    """Which the gradient by X adds up in more than one tile, in order."""
    x, grid = RNG.standard_normal((2, 3, 2, 2)), RNG.uniform(-0.9, 0.9, (2, 5, 9, 2))
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: GridSample is not compared with it")
    tensor = torch.tensor(x, requires_grad=True)
    want = torch.nn.functional.grid_sample(tensor, torch.tensor(grid), align_corners=False)
    dy = RNG.standard_normal(want.shape)
    want.backward(torch.tensor(dy))
    _, (dx,) = Case("GridSample", [x, grid], dtype=np.float64, device="cuda").run_training([dy])
    np.testing.assert_allclose(dx, tensor.grad.numpy(), rtol=1e-10, atol=1e-10)


def test_deform_conv_in_float64() -> None:
    group, parts = 2, 2
    x, w = RNG.standard_normal((1, 4, 3, 4)), RNG.standard_normal((2, 4 // group, 2, 2))
    offset, mask = RNG.uniform(-1.5, 1.5, (1, parts * 8, 2, 3)), RNG.uniform(0, 1, (1, parts * 4, 2, 3))
    attrs = {"group": group, "offset_group": parts}
    names = ["x", "w", "o", "b", "m"]
    node = helper.make_node("DeformConv", names, ["y"], kernel_shape=[2, 2], pads=[0] * 4, **attrs)
    given = [x, w, offset, RNG.standard_normal(2), mask]
    want = ReferenceEvaluator(node).run(None, dict(zip(names, given, strict=True)))[0]
    dy = RNG.standard_normal(want.shape)

    def loss(x: np.ndarray, offset: np.ndarray, mask: np.ndarray) -> float:
        changed: list[np.ndarray | None] = [x, w, offset, given[3], mask]
        (y,) = Case("DeformConv", changed, attrs, (1,), opset=19, dtype=np.float64, device="cpu").run()
        return float((y * dy).sum())

    case = Case("DeformConv", given, attrs, (1,), opset=19, dtype=np.float64, device="cuda")
    (y,), grads = case.run_training([dy], (0, 2, 4))
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)  # the reference takes positions in float32
    directional(loss, [x, offset, mask], grads, RNG)
