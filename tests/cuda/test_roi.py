"""RoiAlign and MaxRoiPool on a GPU: against onnx's reference and NumPy, gradients against finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gradcheck import directional
from harness import Case
from onnx import helper
from onnx.reference import ReferenceEvaluator

RNG = np.random.default_rng(13)
SETTINGS: dict[str, dict[str, Any]] = {
    "samples": {"output_height": 2, "output_width": 2, "sampling_ratio": 2},
    "adaptive": {"output_height": 2, "output_width": 1, "spatial_scale": 0.5},
    "one bin": {"coordinate_transformation_mode": "output_half_pixel", "sampling_ratio": 1},
}


def arrays(channels: int, dtype: Any) -> list[np.ndarray]:
    """Pictures, regions inside of them, across their borders and beyond, and where each lies."""
    x = RNG.standard_normal((2, channels, 4, 5)).astype(dtype)
    corners = RNG.uniform(-3, 5, (4, 2))
    rois = np.concatenate([corners, corners + RNG.uniform(0.1, 5, (4, 2))], axis=1).astype(dtype)
    rois[3] = [30, 30, 40, 40]
    return [x, rois, np.array([1, 0, 1, 0])]


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("name", SETTINGS)
def test_align(name: str, mode: str) -> None:
    attrs = SETTINGS[name] | {"mode": mode}
    x, rois, images = arrays(5, np.float32)
    node = helper.make_node("RoiAlign", ["x", "r", "i"], ["y"], **attrs)
    want = ReferenceEvaluator(node).run(None, {"x": x, "r": rois, "i": images})[0]
    case = Case("RoiAlign", [x, rois, images], attrs, opset=16, device="cuda")
    (y,), (got,), _ = case.run(), *case.run_training([want])
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("name", SETTINGS)
def test_align_gradient_in_float64(name: str, mode: str) -> None:
    x, rois, images = arrays(5, np.float64)
    attrs = SETTINGS[name] | {"mode": mode}
    node = helper.make_node("RoiAlign", ["x", "r", "i"], ["y"], **attrs)
    reference = ReferenceEvaluator(node)

    def run(x: np.ndarray) -> np.ndarray:
        result: np.ndarray = reference.run(None, {"x": x, "r": rois, "i": images})[0]
        return result

    dy = RNG.standard_normal(run(x).shape)
    case = Case("RoiAlign", [x, rois, images], attrs, opset=16, dtype=np.float64, device="cuda")
    directional(lambda x: float((run(x) * dy).sum()), [x], case.run_training([dy])[1], RNG)


def test_max_roi_pool() -> None:
    x = RNG.standard_normal((2, 3, 6, 6)).astype(np.float32)
    rois = np.array([[1, 0, 0, 3, 5], [0, 2, 1, 5, 4], [1, 4, 4, 4, 4]], np.float32)
    x[1, 0, 0, 0] = np.nan
    case = Case("MaxRoiPool", [x, rois], {"pooled_shape": [2, 2]}, device="cuda")
    (y,) = case.run()
    for region, image, bins_h, bins_w in ((0, 1, (0, 3, 6), (0, 2, 4)), (1, 0, (1, 3, 5), (2, 4, 6))):
        for ph, pw in np.ndindex(2, 2):
            inside = x[image, :, bins_h[ph] : bins_h[ph + 1], bins_w[pw] : bins_w[pw + 1]]
            np.testing.assert_array_equal(y[region, :, ph, pw], inside.max((1, 2)))
    np.testing.assert_array_equal(y[2], np.broadcast_to(x[1, :, 4, 4][:, None, None], (3, 2, 2)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_max_roi_pool_gradient(dtype: Any) -> None:
    """To the pixel that each bin's result was taken from; the first, where there are several."""
    x, corners, images = arrays(3, dtype)
    x[0, 1], x[1, 0] = 2, np.nan
    rois = np.column_stack([images, corners]).astype(dtype)
    rois[2] = [1, 0, 0, 4, 3]
    case = Case("MaxRoiPool", [x, rois], {"pooled_shape": [2, 3]}, dtype=dtype, device="cuda")
    dy = RNG.standard_normal((4, 3, 2, 3)).astype(dtype)
    _, (dx,) = case.run_training([dy])
    want = np.zeros_like(x)
    for region, (image, left, top, right, bottom) in enumerate(np.floor(np.abs(rois) + 0.5) * np.sign(rois)):
        for ph, pw in np.ndindex(2, 3):
            spans = []
            for first, last, number, bins, size in ((top, bottom, ph, 2, 4), (left, right, pw, 3, 5)):
                length = max(last - first + 1, 1) / bins
                ends = np.floor(number * length) + first, np.ceil((number + 1) * length) + first
                spans.append(slice(*(int(np.clip(end, 0, size)) for end in ends)))
            for channel in range(3):
                inside = x[int(image), channel][tuple(spans)]
                if inside.size:
                    at = np.unravel_index(inside.argmax(), inside.shape)
                    want[int(image), channel][tuple(spans)][at] += dy[region, channel, ph, pw]
    assert np.abs(want).sum() > 0
    np.testing.assert_allclose(dx, want, rtol=1e-5, atol=1e-6)


def test_what_is_no_region_is_nan() -> None:
    x, rois, images = arrays(3, np.float32)
    rois[1, 2], images[2] = np.nan, 7
    (y,) = Case("RoiAlign", [x, rois, images], SETTINGS["samples"], opset=16, device="cuda").run()
    np.testing.assert_array_equal(np.isnan(y).all(axis=(1, 2, 3)), [False, True, True, False])
    pooled = np.column_stack([images, rois]).astype(np.float32)
    (y,) = Case("MaxRoiPool", [x, pooled], {"pooled_shape": [2, 2]}, device="cuda").run()
    np.testing.assert_array_equal(np.isnan(y).all(axis=(1, 2, 3)), [False, True, True, False])
