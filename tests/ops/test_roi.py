"""RoiAlign against onnx's reference, MaxRoiPool against onnxruntime, gradients against finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from channels_last import ChannelsLast
from gradcheck import directional
from guards import run_guarded
from harness import Case
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from nbcnn.errors import ModelError, UnsupportedError

RNG = np.random.default_rng(13)
SETTINGS = {
    "whole": {"output_height": 3, "output_width": 2, "sampling_ratio": 2},
    "adaptive": {"output_height": 2, "output_width": 3, "spatial_scale": 0.5},
    "one bin": {"coordinate_transformation_mode": "output_half_pixel", "sampling_ratio": 1},
}


def arrays(channels: int, dtype: Any = np.float32) -> list[np.ndarray]:
    """Pictures, regions inside of them, across their borders and beyond, and where each lies."""
    x = RNG.standard_normal((2, channels, 7, 9)).astype(dtype)
    corners = RNG.uniform(-4, 9, (5, 2))
    rois = np.concatenate([corners, corners + RNG.uniform(0.1, 9, (5, 2))], axis=1).astype(dtype)
    rois[4] = [30, 30, 40, 40]
    return [x, rois, np.array([1, 0, 1, 1, 0])]


@pytest.mark.parametrize("case", [Case, ChannelsLast])
@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("name", SETTINGS)
def test_align(name: str, mode: str, case: type[Case]) -> None:
    attrs = SETTINGS[name] | {"mode": mode}
    for channels in (1, 33):
        x, rois, images = arrays(channels)
        node = helper.make_node("RoiAlign", ["x", "r", "i"], ["y"], **attrs)
        want = ReferenceEvaluator(node).run(None, {"x": x, "r": rois, "i": images})[0]
        (y,) = case("RoiAlign", [x, rois, images], dict(attrs), weights=(1,), opset=16).run()
        np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("name", SETTINGS)
def test_align_gradient(name: str, mode: str) -> None:
    x, rois, images = arrays(3, np.float64)
    attrs = SETTINGS[name] | {"mode": mode}
    case = Case("RoiAlign", [x, rois, images], attrs, opset=16, dtype=np.float64)
    dy = RNG.standard_normal(case.run()[0].shape)

    def loss(x: np.ndarray) -> float:
        return float((Case("RoiAlign", [x, rois, images], attrs, opset=16, dtype=np.float64).run()[0] * dy).sum())

    directional(loss, [x], case.run_training([dy])[1], RNG)


def test_align_before_opset_16() -> None:
    """onnxruntime; corners are not moved by half a pixel there."""
    x, rois, images = arrays(5)
    attrs = {"output_height": 2, "output_width": 2, "sampling_ratio": 2}
    (want,) = onnxruntime_runs("RoiAlign", [x, rois, images], attrs, 10)
    (y,) = Case("RoiAlign", [x, rois, images], attrs, opset=10).run()
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)


def onnxruntime_runs(op: str, given: list[np.ndarray], attrs: dict[str, Any], opset: int) -> list[np.ndarray]:
    names = [f"i{k}" for k in range(len(given))]
    kinds = [helper.np_dtype_to_tensor_dtype(a.dtype) for a in given]
    inputs = [helper.make_tensor_value_info(n, k, a.shape) for n, k, a in zip(names, kinds, given, strict=True)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph([helper.make_node(op, names, ["y"], **attrs)], "g", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, dict(zip(names, given, strict=True)))


@pytest.mark.parametrize("scale", [1.0, 0.37])
@pytest.mark.parametrize("channels", [1, 17])
def test_max_roi_pool(channels: int, scale: float) -> None:
    x, corners, images = arrays(channels)
    rois = np.column_stack([images, corners]).astype(np.float32)
    attrs = {"pooled_shape": [3, 2], "spatial_scale": scale}
    (want,) = onnxruntime_runs("MaxRoiPool", [x, rois], attrs, 17)
    (y,) = Case("MaxRoiPool", [x, rois], attrs).run()
    np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("case", [Case, ChannelsLast])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("channels", "scale"), [(1, 1.0), (33, 0.37)])
def test_max_roi_pool_gradient(channels: int, scale: float, dtype: Any, case: type[Case]) -> None:
    """Against a search, bin after bin, for the pixel that onnxruntime's result was taken from."""
    x, corners, images = arrays(channels, np.float32)
    rois, attrs = (
        np.column_stack([images, corners]).astype(np.float32),
        {"pooled_shape": [3, 2], "spatial_scale": scale},
    )
    (y,) = onnxruntime_runs("MaxRoiPool", [x, rois], attrs, 17)
    dy = RNG.standard_normal(y.shape)
    want = np.zeros(x.shape)
    for region, channel, ph, pw in np.ndindex(*y.shape):
        picture = want[images[region], channel]
        picture[x[images[region], channel] == y[region, channel, ph, pw]] += dy[region, channel, ph, pw]
    given = [x.astype(dtype), rois.astype(dtype)]
    _, (dx,) = case("MaxRoiPool", given, attrs, dtype=dtype).run_training([dy.astype(dtype)])
    np.testing.assert_allclose(dx, want, rtol=1e-5, atol=1e-5)


def test_max_roi_pool_gradient_by_finite_differences() -> None:
    x, corners, images = arrays(3, np.float64)
    given, attrs = np.column_stack([images, corners]), {"pooled_shape": [2, 3], "spatial_scale": 0.8}
    case = Case("MaxRoiPool", [x, given], attrs, dtype=np.float64)
    dy = RNG.standard_normal(case.run()[0].shape)

    def loss(x: np.ndarray) -> float:
        return float((Case("MaxRoiPool", [x, given], attrs, dtype=np.float64).run()[0] * dy).sum())

    directional(loss, [x], case.run_training([dy])[1], RNG)


def test_max_roi_pool_gradient_of_ties_and_overlaps() -> None:
    """The first of equal pixels gets it; bins of three pixels in two share the one in the middle. NaN is a maximum, and
    what is no region, or lies outside, gives nothing.
    """
    x = np.array([[[[1, 3, 3], [0, 3, 2]]], [[[0, np.nan, 5], [7, 1, np.nan]]]], np.float32)
    rois = np.array([[0, 0, 0, 2, 1], [1, 0, 0, 2, 1], [0, 0, 0, np.nan, 1], [1, 20, 20, 30, 30]], np.float32)
    dy = np.array([[1, 10], [100, 1000], [7, 7], [7, 7]], np.float32).reshape(4, 1, 1, 2)
    _, (dx,) = Case("MaxRoiPool", [x, rois], {"pooled_shape": [1, 2]}).run_training([dy])
    np.testing.assert_array_equal(dx, [[[[0, 11, 0], [0, 0, 0]]], [[[0, 1100, 0], [0, 0, 0]]]])


def test_nothing_outside_the_arrays_is_touched() -> None:
    for mode in ("avg", "max"):
        attrs = SETTINGS["adaptive"] | {"mode": mode}
        case = Case("RoiAlign", arrays(17), attrs, opset=16)
        plan = case.training_plan([RNG.standard_normal((5, 17, 2, 3))])
        found = run_guarded(plan)
        case.execute(plan)
        for name, array in found.items():
            np.testing.assert_array_equal(array, plan.array(name))
    x, corners, images = arrays(17)
    case = Case("MaxRoiPool", [x, np.column_stack([images, corners]).astype(np.float32)], {"pooled_shape": [2, 3]})
    plan = case.training_plan([RNG.standard_normal((5, 17, 2, 3))])
    found = run_guarded(plan)
    case.execute(plan)
    for name, array in found.items():
        np.testing.assert_array_equal(array, plan.array(name))


def test_corners_that_are_no_numbers() -> None:
    x, rois, images = arrays(3)
    rois[1, 2] = np.nan
    (y,) = Case("RoiAlign", [x, rois, images], SETTINGS["whole"], opset=16).run()
    np.testing.assert_array_equal(np.isnan(y).all(axis=(1, 2, 3)), [False, True, False, False, False])
    pooled = np.column_stack([images, rois]).astype(np.float32)
    (y,) = Case("MaxRoiPool", [x, pooled], {"pooled_shape": [2, 2]}).run()
    np.testing.assert_array_equal(np.isnan(y).all(axis=(1, 2, 3)), [False, True, False, False, False])


def test_what_does_not_fit() -> None:
    x, rois, images = arrays(3)
    with pytest.raises(ModelError, match=r"RoiAlign 'node': regions lie in images \[1, 0, 1, 1, 2\], but there are 2"):
        Case("RoiAlign", [x, rois, np.array([1, 0, 1, 1, 2])], opset=16, device="cpu").run()
    with pytest.raises(ModelError, match=r"regions \(5, 3\)"):
        Case("RoiAlign", [x, rois[:, :3], images], opset=16).run()
    with pytest.raises(UnsupportedError, match="mode 'sum' is none of"):
        Case("RoiAlign", [x, rois, images], {"mode": "sum"}, opset=16).run()
    with pytest.raises(ModelError, match="is not two positive numbers"):
        Case("MaxRoiPool", [x, np.zeros((2, 5), np.float32)], {"pooled_shape": [2]}).run()
