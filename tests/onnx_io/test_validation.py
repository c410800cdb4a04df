"""The comparison with onnxruntime, driven with engines of which it is known how wrong they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from nbcnn.errors import FileError, InputError, ModelError, UnsupportedError
from nbcnn.onnx_io import validate
from nbcnn.onnx_io.validation import Run, compare

Maker = Callable[..., onnx.ModelProto]


def engine(weight: np.ndarray, error: float = 0.0, seen: list[dict[str, np.ndarray]] | None = None) -> Run:
    def run(names: list[str], feeds: dict[str, np.ndarray]) -> Sequence[np.ndarray]:
        assert names == ["y"]
        if seen is not None:
            seen.append(feeds)
        y = np.maximum(feeds["x"] @ weight * 0.5 + np.array([1, -1, 0.5], np.float32), 0)
        return [(y + error).astype(feeds["x"].dtype)]

    return run


WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3) / 8


def test_agreement(linear: Maker, tmp_path: Path) -> None:
    onnx.save(linear(), tmp_path / "m.onnx")
    for source in (linear(), linear().SerializeToString(), tmp_path / "m.onnx"):
        report = validate(source, None, engine(WEIGHT))
        assert report.ok and report.max_abs < 1e-6
        assert "agrees with onnxruntime" in str(report)
        assert "y 2x3 float32: max abs" in str(report)


def test_disagreement_is_measured(linear: Maker) -> None:
    report = validate(linear(), {"x": [[np.float32(1), np.float32(2)]]}, engine(WEIGHT, 0.25))
    assert not report.ok and not report.outputs[0].ok
    assert report.max_abs == pytest.approx(0.25)
    # x @ w / 2 + b = [1.375, -0.4375, 1.3125], the second cut to 0: relative to 1e-3 of the largest
    assert report.outputs[0].max_rel == pytest.approx(0.25 / 1.375e-3, rel=1e-5)
    assert "1 of 1 outputs differ from onnxruntime" in str(report)
    assert validate(linear(), None, engine(WEIGHT, 0.25), atol=0.3).ok


def test_seed_and_dims(linear: Maker) -> None:
    seen: list[dict[str, np.ndarray]] = []
    for seed in (0, 0, 1):
        validate(linear(), None, engine(WEIGHT, seen=seen), seed=seed)
    validate(linear(), None, engine(WEIGHT, seen=seen), dims={"N": 5})
    assert [feeds["x"].shape for feeds in seen] == [(2, 2)] * 3 + [(5, 2)]
    np.testing.assert_array_equal(seen[0]["x"], seen[1]["x"])
    assert not np.array_equal(seen[0]["x"], seen[2]["x"])


def test_half_precision_has_its_own_tolerance(linear: Maker) -> None:
    assert validate(linear("float16"), None, engine(WEIGHT.astype(np.float16), 2e-3)).ok
    assert not validate(linear("float32"), None, engine(WEIGHT, 2e-3)).ok


def test_wrong_shape_or_type(linear: Maker) -> None:
    report = validate(linear(), None, lambda names, feeds: [np.zeros(3, np.float32)])
    assert not report.ok and "the engine gave shape (3,)" in str(report)
    report = validate(linear(), None, lambda names, feeds: [np.zeros((2, 3))])
    assert not report.ok and "the engine gave float64" in str(report)


def test_numbers_that_are_none() -> None:
    nan, inf = np.nan, np.inf
    assert compare("y", [nan, inf, -inf, 1.0], [nan, inf, -inf, 1.0]).ok
    for actual in ([1.0, inf], [nan, nan], [nan, -inf], [nan, 1.0]):
        report = compare("y", actual, [nan, inf])
        assert not report.ok and report.max_abs == inf
    assert compare("y", np.zeros((0, 3)), np.zeros((0, 3))).ok
    assert not compare("y", np.array([1]), np.array([2])).ok
    assert compare("y", np.array(["a"], object), np.array(["a"], object)).ok
    assert not compare("y", np.array(["a"], object), np.array(["b"], object)).ok


def test_refusals(linear: Maker, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the model takes inputs \['x'\], but \['z'\] were given"):
        validate(linear(), {"z": np.zeros(3)}, engine(WEIGHT))
    with pytest.raises(ModelError, match=r"onnxruntime cannot run the model on these inputs: .*x"):
        validate(linear(), {"x": np.zeros((2, 7), np.float32)}, engine(WEIGHT))
    with pytest.raises(FileError, match="no such file"):
        validate(tmp_path / "m.onnx", None, engine(WEIGHT))
    with pytest.raises(ModelError, match="onnxruntime refuses the model") as info:
        validate(b"not a model", None, engine(WEIGHT))
    assert "\n" not in str(info.value)


def test_guessed_dimensions_are_named(identity_model: Maker) -> None:
    model = identity_model([helper.make_node("Reshape", ["x", "s"], ["y"])])
    model.graph.initializer.append(helper.make_tensor("s", 7, [2], [7, 11]))
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", 1, ["batch", "channels", "height", None]))
    with pytest.raises(ModelError, match=r"\(guessed {'batch': 2, 'channels': 3, 'height': 224, 'x\[3\]': 224}: pass"):
        validate(model, None, engine(WEIGHT))


def test_unknown_dimensions(linear: Maker) -> None:
    model = linear()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    with pytest.raises(InputError, match=r"no dimension 'Q'; the open ones are \['N'\]"):
        validate(model, None, engine(WEIGHT), dims={"Q": 2})


def test_inputs_that_cannot_be_made(identity_model: Maker) -> None:
    model = identity_model([helper.make_node("StringNormalizer", ["x"], ["y"])])
    for info in (model.graph.input[0], model.graph.output[0]):
        info.CopyFrom(helper.make_tensor_value_info(info.name, 8, ["N"]))
    with pytest.raises(UnsupportedError, match=r"input 'x' is a tensor\(string\)"):
        validate(model, None, engine(WEIGHT))


def test_without_onnxruntime(linear: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbcnn.onnx_io.validation.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="onnxruntime is not installed: pip install"):
        validate(linear(), None, lambda names, feeds: [])
