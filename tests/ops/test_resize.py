"""Resize and Upsample: against the oracle, and where that has no answer, onnx's reference and onnxruntime."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
import reference
from channels_last import ChannelsLast
from harness import Case
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from nbcnn.errors import ModelError, UnsupportedError

rng = np.random.default_rng(10)
COORDINATES = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]
NEAREST = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]


def normal(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    return rng.normal(size=shape).astype(dtype)


def check(x: np.ndarray, attrs: dict[str, Any], case: type[Case] = Case, dtype: Any = np.float32, **size: Any) -> None:
    """Forward and backward with ONNX's attributes; size: scales=... or sizes=..."""
    given = {k: np.array(v, np.float32 if k == "scales" else np.int64) for k, v in size.items()}
    expected = reference.resize(x, **size, **attrs)
    dy = normal(expected.shape, dtype)
    made = case(
        "Resize", [x, None, given.get("scales"), given.get("sizes")], attrs, weights=(2, 3), opset=19, dtype=dtype
    )
    (y,), (dx,) = made.run_training([dy])
    tolerance = 2e-6 if dtype is np.float32 else 1e-12
    np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(dx, reference.resize_backward(dy, x, **size, **attrs), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", [Case, ChannelsLast])
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["linear", *NEAREST])
def test_modes(mode: str, coordinates: str, case: type[Case]) -> None:
    attrs = {"mode": "linear" if mode == "linear" else "nearest", "coordinate_transformation_mode": coordinates}
    if mode != "linear":
        attrs["nearest_mode"] = mode
    x = normal((2, 3, 5, 4))
    check(x, attrs, case, scales=[1, 1, 2, 4])
    check(x, attrs, case, scales=[1, 1, 0.5, 2.5])
    if mode == "linear":
        check(x, attrs, case, sizes=[2, 3, 7, 3])
        check(x, attrs, case, sizes=[2, 3, 1, 9])


@pytest.mark.parametrize("case", [Case, ChannelsLast])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((1, 1, 1, 1), (1, 1, 4, 3)),
        ((3, 17, 5), (3, 17, 11)),
        ((2, 33, 4, 6), (2, 33, 3, 13)),
        ((1, 5, 2, 3, 4), (1, 5, 5, 2, 7)),
        ((2, 5, 3, 4), (2, 3, 3, 4)),
        ((2, 3, 4, 5), (2, 3, 4, 5)),
        ((4, 6), (8, 3)),
    ],
)
def test_shapes(shape: tuple[int, ...], sizes: tuple[int, ...], dtype: Any, case: type[Case]) -> None:
    for mode in ("linear", "nearest"):
        check(normal(shape, dtype), {"mode": mode}, case, dtype, sizes=list(sizes))


INPUTS = (("roi", np.float32), ("scales", np.float32), ("sizes", np.int64))


def onnx_reference(x: np.ndarray, attrs: dict[str, Any], size: dict[str, Any]) -> np.ndarray:
    feeds = {"x": x} | {name: np.array(size[name], dtype) for name, dtype in INPUTS if name in size}
    names = [name if name in feeds else "" for name in ("x", "roi", "scales", "sizes")]
    return ReferenceEvaluator(helper.make_node("Resize", names, ["y"], **attrs)).run(None, feeds)[0]


@pytest.mark.parametrize(
    ("attrs", "size"),
    [
        ({"mode": "cubic"}, {"scales": [1, 1, 2, 1.5]}),
        ({"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1}, {"sizes": [1, 2, 9, 3]}),
        ({"mode": "cubic", "coordinate_transformation_mode": "align_corners"}, {"sizes": [1, 2, 3, 11]}),
        ({"mode": "linear", "axes": [3, 2]}, {"scales": [2, 0.6]}),
        ({"mode": "linear", "antialias": 1}, {"scales": [1, 1, 0.6, 0.3]}),
        ({"mode": "linear", "antialias": 1, "exclude_outside": 1}, {"sizes": [1, 2, 2, 9]}),
        ({"mode": "cubic", "antialias": 1}, {"scales": [1, 1, 0.8, 0.4]}),
        ({"mode": "linear", "coordinate_transformation_mode": "align_corners"}, {"scales": [1, 1, 0.5, 0.9]}),
        ({"mode": "linear", "axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"}, {"sizes": [12, 12]}),
        ({"mode": "linear", "axes": [2, 3], "keep_aspect_ratio_policy": "not_smaller"}, {"sizes": [12, 12]}),
        ({"mode": "linear", "axes": [2, 3], "coordinate_transformation_mode": "tf_crop_and_resize",
          "extrapolation_value": 10.0}, {"sizes": [4, 5], "roi": [0.4, 0.6, 1.2, 0.8]}),
        ({"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"},
         {"sizes": [1, 2, 1, 6], "roi": [0, 0, 0.25, 0.1, 1, 1, 0.5, 0.9]}),
    ],
)  # fmt: skip
def test_against_onnx(attrs: dict[str, Any], size: dict[str, Any]) -> None:
    x = normal((1, 2, 5, 6))
    expected = onnx_reference(x, attrs, size)
    inputs = [x, *(np.array(size[k], t) if k in size else None for k, t in INPUTS)]
    for case in (Case, ChannelsLast):
        (y,) = case("Resize", list(inputs), dict(attrs), weights=(1, 2, 3), opset=19).run()
        np.testing.assert_allclose(y, expected, rtol=3e-5, atol=3e-6)


@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"])
@pytest.mark.parametrize("nearest", NEAREST)
def test_ties_fall_as_in_onnxruntime(nearest: str, coordinates: str) -> None:
    x = np.arange(30, dtype=np.float32).reshape(1, 1, 5, 6)
    attrs = {"mode": "nearest", "coordinate_transformation_mode": coordinates, "nearest_mode": nearest}
    for scales in ([1, 1, 2, 3], [1, 1, 0.5, 0.7], [1, 1, 1.2, 0.35], [1, 1, 2.6, 3.3]):
        given = np.array(scales, np.float32)
        node = helper.make_node("Resize", ["x", "", "s"], ["y"], **attrs)
        infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("x", "s", "y")]
        graph = helper.make_graph([node], "g", infos[:2], infos[2:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        (expected,) = session.run(None, {"x": x, "s": given})
        (y,) = Case("Resize", [x, None, given], attrs, weights=(2,), opset=13).run()
        np.testing.assert_array_equal(y, expected, err_msg=str(scales))


@pytest.mark.parametrize("case", [Case, ChannelsLast])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample_and_resize_10(mode: str, case: type[Case]) -> None:
    x, scales = normal((2, 3, 4, 5)), [1.0, 1.0, 2.0, 1.5]
    expected = reference.upsample(x, scales, mode)
    dy = normal(expected.shape)
    given, first_name = np.array(scales, np.float32), {"linear": "bilinear"}.get(mode, mode)
    for made in (
        case("Upsample", [x], {"height_scale": 2.0, "width_scale": 1.5, "mode": first_name}, opset=6),
        case("Upsample", [x], {"scales": scales, "mode": mode}, opset=7),
        case("Upsample", [x, given], {"mode": mode}, weights=(1,), opset=9),
        case("Resize", [x, given], {"mode": mode}, weights=(1,), opset=10),
    ):
        (y,), (dx,) = made.run_training([dy])
        np.testing.assert_allclose(y, expected, rtol=2e-6, atol=2e-6)
        np.testing.assert_allclose(dx, reference.upsample_backward(dy, x, scales, mode), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_whole_numbers(mode: str, dtype: Any) -> None:
    x = rng.integers(0, 256, (1, 2, 5, 6)).astype(dtype)
    expected = onnx_reference(x, {"mode": mode}, {"sizes": [1, 2, 9, 4]})
    (y,) = Case("Resize", [x, None, None, np.array([1, 2, 9, 4])], {"mode": mode}, weights=(3,), opset=19).run()
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, expected)


def test_an_infinite_neighbour_of_weight_zero_does_not_matter() -> None:
    x = np.array([1, np.inf, np.nan, 2], np.float32).reshape(1, 1, 4)
    (y,) = Case("Resize", [x, None, None, np.array([1, 1, 4])], {"mode": "linear"}, weights=(3,), opset=13).run()
    np.testing.assert_array_equal(y, x)


def test_what_cannot_be_resized() -> None:
    x, sizes = np.zeros((1, 1, 2, 2), np.float32), np.array([1, 1, 3, 3])
    with pytest.raises(UnsupportedError, match="antialias=1 has no meaning for mode 'nearest'"):
        Case("Resize", [x, None, None, sizes], {"antialias": 1}, weights=(3,), opset=19).run()
    with pytest.raises(UnsupportedError, match="mode 'area' is none of"):
        Case("Resize", [x, None, None, sizes], {"mode": "area"}, weights=(3,), opset=19).run()
    with pytest.raises(ModelError, match="do not fit axes"):
        Case("Resize", [x, None, None, sizes[:3]], weights=(3,), opset=19).run()
    with pytest.raises(ModelError, match="cannot be resized to 3"):
        Case("Resize", [x[:, :, :0], None, None, sizes], weights=(3,), opset=19).run()
