"""What is saved: the newest weights, in the very file that was loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from networks import assert_close, batch, onnxruntime_run, proto, small_resnet, stir
from onnx import TensorProto, helper, numpy_helper

import nbcnn
from nbcnn.errors import FileError
from nbcnn.onnx_io import to_proto

X, T = batch((4, 3, 12, 12), 5)


@pytest.fixture(scope="module")
def source() -> onnx.ModelProto:
    """A small ResNet with all that a file can say besides its network."""
    model = to_proto(stir(small_resnet()))
    model.producer_name, model.producer_version, model.doc_string = "somebody", "7", "a network"
    helper.set_model_props(model, {"author": "me"})
    model.graph.node[0].doc_string = "the stem"
    model.graph.value_info.append(helper.make_tensor_value_info("/conv1/Conv_output_0", 1, ["N", 8, 12, 12]))
    return model


def trainer_of(model: nbcnn.Model, **options: Any) -> nbcnn.Trainer:
    return nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=0.05, momentum=0.9), **options)


def test_run_step_and_save_in_any_order_see_the_newest_weights(source: onnx.ModelProto, tmp_path: Path) -> None:
    """After each action, run agrees with what onnxruntime computes from the file as it would be saved then."""
    model = nbcnn.load(source)
    trainer = trainer_of(model)
    rng = np.random.default_rng(0)
    path, seen = tmp_path / "m.onnx", []
    for action in ("run", "step", "run", "save", "step", "step", "save", "small step", "run", "trainer", "step", "run"):
        if action == "trainer":
            trainer = trainer_of(model, freeze=["conv1.*"])
        elif "step" in action:
            n = 3 if action == "small step" else 4
            trainer.step(X[:n], T[:n])
        elif action == "save":
            model.save(path)
            assert_close(onnxruntime_run(path, {"input": X})[0], model(X), 1e-4)
        n = int(rng.integers(1, 5))
        seen.append(model(X))
        want = onnxruntime_run(to_proto(model.trained_graph()), {"input": X})[0]
        assert_close(seen[-1], want, 1e-4)
        assert_close(model(X[:n]), want[:n], 1e-4)
        changed = len(seen) == 1 or not np.array_equal(seen[-1], seen[-2])
        assert changed == ("step" in action or len(seen) == 1), action


def without(model: onnx.ModelProto, names: set[str]) -> onnx.ModelProto:
    """The model with these initializers emptied."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.name in names:
            tensor.ClearField("raw_data")
    return copy


def arrays(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_saved_without_training_is_the_same_file(source: onnx.ModelProto, tmp_path: Path) -> None:
    model = nbcnn.load(source)
    model(X)
    model.save(tmp_path / "m.onnx")
    assert onnx.load(tmp_path / "m.onnx") == source
    trainer_of(model)
    model.save(tmp_path / "m.onnx")
    assert onnx.load(tmp_path / "m.onnx") == source


def test_only_weights_and_statistics_differ_after_training(source: onnx.ModelProto, tmp_path: Path) -> None:
    model = nbcnn.load(source)
    trainer_of(model).step(X, T)
    model.save(tmp_path / "m.onnx")
    saved = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(saved, full_check=True)
    names = {tensor.name for tensor in source.graph.initializer}
    assert without(saved, names) == without(source, names)
    for name, array in arrays(source).items():
        assert not np.array_equal(arrays(saved)[name], array), name


def test_frozen_weights_are_the_files_own_bytes(source: onnx.ModelProto, tmp_path: Path) -> None:
    model = nbcnn.load(source)
    trainer = trainer_of(model, freeze=["layer*", "/layer*", "*bn1*", "conv1.*"])
    assert trainer.trained == ["fc.weight", "fc.bias"]
    trainer.step(X, T)
    model.save(tmp_path / "m.onnx")
    names = {"fc.weight", "fc.bias"}
    assert without(onnx.load(tmp_path / "m.onnx"), names) == without(source, names)


def test_running_statistics_as_onnx_defines_them(source: onnx.ModelProto) -> None:
    """running = 0.9 running + 0.1 batch, with the population's variance; the first layer's can be told by hand."""
    model = nbcnn.load(source)
    mean, var = (model.parameters[f"bn1.running_{what}"].value for what in ("mean", "var"))
    x = onnxruntime_inner(source, "/conv1/Conv_output_0").astype(np.float64)
    trainer_of(model).step(X, T)
    assert_close(model.parameters["bn1.running_mean"].value, 0.9 * mean + 0.1 * x.mean((0, 2, 3)), 1e-5)
    assert_close(model.parameters["bn1.running_var"].value, 0.9 * var + 0.1 * x.var((0, 2, 3)), 1e-5)


def onnxruntime_inner(model: onnx.ModelProto, name: str) -> np.ndarray:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return onnxruntime_run(copy, {"input": X})[0]


def in_training_mode(flag_as: str) -> onnx.ModelProto:
    """As exported in training mode: batch norm with training_mode=1 and its extra outputs, and an active dropout."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["n", "m2", "v2"], "bn", training_mode=1),
        helper.make_node("Dropout", ["n", "ratio", "on"], ["d", "mask"], "dropout"),
        helper.make_node("Gemm", ["d", "w"], ["y"], "gemm"),
    ]
    on = numpy_helper.from_array(np.array(True), "on")
    if flag_as == "node":
        nodes.insert(0, helper.make_node("Constant", [], ["on"], "flag", value=on))
    values = {k: rng.uniform(0.5, 1.5, 4).astype(np.float32) for k in ("s", "b", "m", "v")}
    values |= {"ratio": np.array(0.5, np.float32), "w": rng.standard_normal((4, 3)).astype(np.float32)}
    model = proto(nodes, {"x": ["N", 4]}, {"y": ["N", 3]}, values)
    if flag_as == "initializer":
        model.graph.initializer.append(on)
    return model


@pytest.mark.parametrize("flag_as", ["initializer", "node"])
def test_a_network_in_training_mode_is_saved_as_at_inference(flag_as: str, tmp_path: Path) -> None:
    source = in_training_mode(flag_as)
    model = nbcnn.load(source)
    assert to_proto(model.trained_graph()) == source
    trainer_of(model).step(*batch((8, 4), 3))
    model.save(tmp_path / "m.onnx")
    saved = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(saved, full_check=True)
    norm, dropout, gemm = saved.graph.node
    assert [(a.name, a.i) for a in norm.attribute] == [("training_mode", 0)] and list(norm.output) == ["n"]
    assert list(dropout.input) == ["n", "ratio"] and list(dropout.output) == ["d", "mask"]
    assert gemm == source.graph.node[-1] and "on" not in arrays(saved)
    x, _ = batch((5, 4), 3, seed=1)
    assert_close(onnxruntime_run(saved, {"x": x})[0], model(x), 1e-5)


def test_a_frozen_batch_norm_in_training_mode_uses_running_statistics() -> None:
    model = nbcnn.load(in_training_mode("initializer"))
    kept = {name: model.parameters[name].value for name in ("s", "b", "m", "v")}
    x, t = batch((8, 4), 3)
    y = (x - kept["m"]) / np.sqrt(kept["v"] + 1e-5) * kept["s"] + kept["b"]
    y = y @ model.parameters["w"].value
    want = np.mean(np.log(np.exp(y).sum(1)) - y[np.arange(8), t])
    assert trainer_of(model, freeze=["bn", "dropout"]).step(x, t) == pytest.approx(want, abs=1e-5)
    for name, array in kept.items():
        np.testing.assert_array_equal(model.parameters[name].value, array)


def test_run_computes_what_a_file_in_training_mode_says() -> None:
    """Batch statistics, until a Trainer takes the network over."""
    source = in_training_mode("initializer")
    del source.graph.node[1]
    source.graph.node[-1].input[0] = "n"
    x, _ = batch((8, 4), 3)
    assert_close(nbcnn.load(source)(x), onnxruntime_run(source, {"x": x})[0])


@pytest.mark.parametrize("kind", ["float16", "float64"])
def test_weights_keep_the_files_type(kind: str, tmp_path: Path) -> None:
    """Computed in float32, saved as they were stored."""
    rng = np.random.default_rng(0)
    onnx_kind = TensorProto.FLOAT16 if kind == "float16" else TensorProto.DOUBLE
    w = rng.standard_normal((4, 3)).astype(kind)
    node = helper.make_node("Gemm", ["x", "w"], ["y"])
    source = proto([node], {"x": ["N", 4]}, {"y": ["N", 3]}, {"w": w}, kind=onnx_kind)
    model = nbcnn.load(source)
    x, t = batch((8, 4), 3)
    assert model(x).dtype == kind
    trainer_of(model).step(x, t)
    model.save(tmp_path / "m.onnx")
    saved = onnx.load(tmp_path / "m.onnx")
    assert without(saved, {"w"}) == without(source, {"w"})
    assert_close(arrays(saved)["w"], model.parameters["w"].value.astype(kind), 0)


# --- weights beside the file


@pytest.mark.parametrize("location", ["m.onnx.data", "weights.bin"])
def test_external_data(source: onnx.ModelProto, tmp_path: Path, location: str) -> None:
    """Loaded, trained and saved elsewhere and over itself, the weights stay outside."""
    copy = onnx.ModelProto()
    copy.CopyFrom(source)
    path = tmp_path / "m.onnx"
    onnx.save(copy, path, save_as_external_data=True, location=location, size_threshold=256)
    model = nbcnn.load(path)
    assert_close(model(X), onnxruntime_run(path, {"input": X})[0], 1e-4)
    trainer = trainer_of(model)
    for target in (tmp_path / "elsewhere" / "n.onnx", path):
        target.parent.mkdir(exist_ok=True)
        trainer.step(X, T)
        model.save(target)
        shell = onnx.load(target, load_external_data=False)
        outside = {t.name for t in shell.graph.initializer if t.data_location == TensorProto.EXTERNAL}
        assert "layer1.conv1.weight" in outside
        assert_close(onnxruntime_run(target, {"input": X})[0], model(X), 1e-4)
        assert_close(nbcnn.load(target)(X), model(X), 0)


# --- what cannot be written


def test_unwritable_paths_are_one_line(source: onnx.ModelProto, tmp_path: Path) -> None:
    model = nbcnn.load(source)
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "nowhere" / "m.onnx", tmp_path, tmp_path / "file" / "m.onnx"):
        with pytest.raises(FileError) as error:
            model.save(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_save_that_fails_leaves_the_old_file_whole(
    source: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbcnn.onnx_io import writer

    path = tmp_path / "m.onnx"
    onnx.save(source, path)
    before = path.read_bytes()
    model = nbcnn.load(path)
    trainer_of(model).step(X, T)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    failing: Callable[..., None] = full
    monkeypatch.setattr(writer.os, "replace", failing)
    with pytest.raises(FileError, match="No space left on device"):
        model.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"], "no half-written file is left"
