"""Pad in every mode and opset."""

from typing import Any

import numpy as np
import pytest
import reference
from channels_last import ChannelsLast
from harness import Case
from onnx import helper
from onnx.reference import ReferenceEvaluator

from nbcnn.errors import ModelError, UnsupportedError

rng = np.random.default_rng(8)

CASES = [
    # shape, pads, axes
    ((2, 3, 5, 4), [0, 0, 1, 2, 0, 0, 2, 1], None),
    ((2, 3, 5, 4), [0, 2, 0, 0, 0, 1, 0, 0], None),
    ((2, 17, 5, 4), [0, 0, -1, -2, 0, 0, -2, 0], None),
    ((2, 3, 5, 4), [1, 0, -1, 2, 0, 1, 2, -1], None),
    ((2, 3, 5, 4), [2, 1, 1, 3], [-1, 2]),
    ((1, 33, 6, 7), [1, 1, 1, 1], [2, 3]),
    ((2, 3, 9), [0, 0, 4, 0, 0, 3], None),
    ((1, 1, 3, 4, 5), [0, 0, 1, 2, 1, 0, 0, 2, 0, 1], None),
    ((5,), [2, 2], None),
    ((2, 3, 5, 4), [0] * 8, None),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", [Case, ChannelsLast])
@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize(("shape", "pads", "axes"), CASES)
def test_pad(
    shape: tuple[int, ...], pads: list[int], axes: list[int] | None, mode: str, case: type[Case], dtype: type
) -> None:
    x = rng.normal(size=shape).astype(dtype)
    value = np.array(1.5, dtype) if mode == "constant" else None
    expected = reference.pad(x, pads, 1.5, axes, mode)
    dy = rng.normal(size=expected.shape).astype(dtype)
    given = [x, np.array(pads), value, None if axes is None else np.array(axes)]
    made = case("Pad", given, {"mode": mode}, weights=(1, 2, 3), opset=19, dtype=dtype)
    (y,), (dx,) = made.run_training([dy])
    np.testing.assert_array_equal(y, expected)
    tolerance = 1e-6 if dtype is np.float32 else 1e-14
    np.testing.assert_allclose(dx, reference.pad_backward(dy, x, pads, axes, mode), rtol=tolerance, atol=tolerance)


def test_opset_2_has_attributes() -> None:
    x = rng.normal(size=(2, 3, 4)).astype(np.float32)
    (y,) = Case("Pad", [x], {"pads": [0, 1, 2, 1, 0, -1], "value": -2.0}, opset=9).run()
    np.testing.assert_array_equal(y, reference.pad(x, [0, 1, 2, 1, 0, -1], -2.0))


def test_nothing_is_left_or_was_there() -> None:
    x = rng.normal(size=(2, 3, 4)).astype(np.float32)
    assert Case("Pad", [x, np.array([0, 0, -4, 0, 0, 0])], weights=(1,)).run()[0].shape == (2, 3, 0)
    made = Case("Pad", [x, np.array([0, 0, -9, 0, 0, 6]), np.array(3.0, np.float32)], weights=(1, 2))
    (y,), (dx,) = made.run_training([np.ones((2, 3, 1), np.float32)])
    np.testing.assert_array_equal(y, np.full((2, 3, 1), 3.0))
    np.testing.assert_array_equal(dx, np.zeros((2, 3, 4)))
    (y,) = Case("Pad", [x[:, :0], np.array([0, 1, 0, 0, 1, 0])], weights=(1,)).run()
    np.testing.assert_array_equal(y, np.zeros((2, 2, 4)))


def test_a_picture_of_one_pixel() -> None:
    x, pads = np.full((1, 2, 1, 1), 7, np.float32), np.array([0, 0, 2, 1, 0, 0, 1, 1])
    for mode in ("reflect", "edge", "wrap"):
        (y,) = Case("Pad", [x, pads], {"mode": mode}, weights=(1,)).run()
        np.testing.assert_array_equal(y, np.full((1, 2, 4, 3), 7))


def test_what_cannot_be_padded() -> None:
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(ModelError, match=r"pads \[0, -2, 0, -2\] cut more from \(2, 3\) than there is"):
        Case("Pad", [x, np.array([0, -2, 0, -2])], weights=(1,)).run()
    with pytest.raises(ModelError, match=r"pads \[1, 1\] do not fit axes \[0, 1\]"):
        Case("Pad", [x, np.array([1, 1])], weights=(1,)).run()
    with pytest.raises(UnsupportedError, match="mode 'mirror' is none of"):
        Case("Pad", [x, np.array([1, 1, 1, 1])], {"mode": "mirror"}, weights=(1,)).run()
    with pytest.raises(ModelError, match="nothing to fill the border"):
        Case("Pad", [x[:0], np.array([1, 0, 1, 0])], {"mode": "edge"}, weights=(1,)).run()


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
@pytest.mark.parametrize(
    ("shape", "attrs"),
    [([3, 8, 2], {}), ([4, 5, 6], {}), ([2, 7], {"axes": [-1, 0]}), ([9], {"axes": [1]}), ([0, 1, 11], {})],
)
def test_center_crop_pad(shape: list[int], attrs: dict[str, Any], dtype: Any) -> None:
    x = np.arange(120).reshape(4, 5, 6).astype(dtype)
    node = helper.make_node("CenterCropPad", ["x", "s"], ["y"], **attrs)
    want = ReferenceEvaluator(node).run(None, {"x": x, "s": np.array(shape)})[0]
    (y,) = Case("CenterCropPad", [x, np.array(shape)], attrs, weights=(1,), opset=18).run()
    np.testing.assert_array_equal(y, want)
