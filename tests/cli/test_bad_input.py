"""Whatever is wrong with what the user gives: one clear line that says what and where, exit code 1, no traceback."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import onnx
import pytest
from click.testing import Result
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from nbcnn.onnx_io import write_model
from nbcnn.zoo import graph_of

Fails = Callable[..., str]


# --- the model


@pytest.mark.parametrize("name", ["summary", "check", "validate"])
def test_no_such_model(fails: Fails, tmp_path: Path, name: str) -> None:
    assert "m.onnx: no such file" in fails(name, tmp_path / "m.onnx")


def test_not_onnx(fails: Fails, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_text("<html>Not found</html>")
    assert "m.onnx: is not an ONNX file" in fails("check", path)


def test_truncated(fails: Fails, tmp_path: Path, lenet: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(lenet.read_bytes()[:-1000])
    assert "m.onnx: is cut short" in fails("summary", path)


def odd_model(nodes: list[onnx.NodeProto], **arrays: np.ndarray) -> onnx.ModelProto:
    """x (N, 3) -> y."""
    graph = helper.make_graph(
        nodes,
        "odd",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", "M"])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def test_refused_by_the_checker(fails: Fails, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(odd_model([helper.make_node("Relu", ["nowhere"], ["y"])]).SerializeToString())
    line = fails("check", path)
    assert "m.onnx: onnx's checker refuses it" in line and "nowhere" in line


@pytest.fixture
def unsupported(tmp_path: Path) -> Path:
    """Two of its four operators are not the engine's."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "first"),
        helper.make_node("Binarizer", ["a"], ["b"], "second", domain="ai.onnx.ml"),
        helper.make_node("Softmax", ["b"], ["c"], "third"),
        helper.make_node("Normalizer", ["c"], ["y"], "fourth", domain="ai.onnx.ml"),
    ]
    path = tmp_path / "unsupported.onnx"
    path.write_bytes(odd_model(nodes).SerializeToString())
    return path


def test_unsupported_operators_are_all_named(fails: Fails, unsupported: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 3), np.float32))
    for args in (["infer", unsupported, tmp_path / "x.npy"], ["summary", unsupported], ["validate", unsupported]):
        line = fails(*args)
        assert "not supported" in line and "Binarizer 'second'" in line and "Normalizer 'fourth'" in line
    assert "unsupported.onnx: operators that are not supported: ai.onnx.ml.Binarizer 'second'" in fails(
        "summary", unsupported
    )


def test_nothing_to_train(fails: Fails, unsupported: Path, tmp_path: Path) -> None:
    (tmp_path / "relu.onnx").write_bytes(odd_model([helper.make_node("Relu", ["x"], ["y"])]).SerializeToString())
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 3), np.float32), y=np.arange(4) % 2)
    assert "ai.onnx.ml.Binarizer 'second'" in train(fails, unsupported, tmp_path / "d.npz")
    assert "no operator of this network has weights" in train(fails, tmp_path / "relu.onnx", tmp_path / "d.npz")


# --- arrays and pictures to run on


def infer_on(fails: Fails, lenet: Path, path: Path, array: np.ndarray) -> str:
    np.save(path, array)
    return fails("infer", lenet, path)


def test_wrong_shape(fails: Fails, lenet: Path, tmp_path: Path) -> None:
    line = infer_on(fails, lenet, tmp_path / "x.npy", np.zeros((1, 1, 9, 8), np.float32))
    assert "input 'input' takes shape ['N', 1, 8, 8]" in line and "not [1, 1, 9, 8]" in line


def test_wrong_type(fails: Fails, lenet: Path, tmp_path: Path) -> None:
    line = infer_on(fails, lenet, tmp_path / "x.npy", np.zeros((1, 1, 8, 8), np.int64))
    assert "input 'input' takes float32, not int64" in line


def test_wrong_name(fails: Fails, lenet: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", a=np.zeros((1, 1, 8, 8), np.float32), b=np.zeros(1))
    assert "holds 'a', which is no input; this network takes ['input']" in fails("infer", lenet, tmp_path / "x.npz")


def test_wrong_name_of_the_only_array(fails: Fails, lenet: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", picture=np.zeros((1, 1, 8, 8), np.float32))
    line = fails("infer", lenet, tmp_path / "x.npz")
    assert "holds 'picture', which is no input; this network takes ['input']" in line


def test_unknown_dimension(fails: Fails, lenet: Path) -> None:
    assert "no dimension 'Q'; the open ones are ['N']" in fails("validate", lenet, "--dim", "Q=2")


def test_metadata_that_cannot_be_read(cli: Callable[..., Result], fails: Fails, tmp_path: Path) -> None:
    """It is in the way only where pictures are to be prepared."""
    graph, path = graph_of("lenet", size=8), tmp_path / "m.onnx"
    graph.metadata["nbcnn.mean"] = "a lot"
    write_model(graph, path)
    for name in ("summary", "check", "validate"):
        assert cli(name, path).exit_code == 0
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    assert f"{path}: the metadata nbcnn.mean = 'a lot' cannot be read" in fails("infer", path, tmp_path / "a.png")


def test_wrong_number_of_arrays(fails: Fails, lenet: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 8, 8), np.float32))
    line = fails("infer", lenet, tmp_path / "x.npy", tmp_path / "x.npy")
    assert "2 arrays are given, but this network takes 1 inputs: ['input']" in line


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.pb"])
def test_arrays_that_are_none(fails: Fails, lenet: Path, tmp_path: Path, name: str) -> None:
    assert f"cannot read {tmp_path / name}" in fails("infer", lenet, tmp_path / name)
    (tmp_path / name).write_bytes(b"\x93NUMnonsense")
    line = fails("infer", lenet, tmp_path / name)
    assert f"{tmp_path / name}: not a whole" in line and "pickle" not in line


def test_corrupt_picture(fails: Fails, lenet: Path, tmp_path: Path) -> None:
    assert f"cannot read {tmp_path / 'a.png'}" in fails("infer", lenet, tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
    assert "a.png: not a whole picture" in fails("infer", lenet, tmp_path / "a.png")


def test_labels(fails: Fails, lenet: Path, tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "labels.txt").write_text("one\ntwo\n")
    line = fails("infer", lenet, tmp_path / "a.png", "--labels", tmp_path / "labels.txt")
    assert "there are 2 labels, but the network has 10 classes" in line
    assert "cannot read" in fails("infer", lenet, tmp_path / "a.png", "--labels", tmp_path / "none.txt")


# --- data to train on


def train(fails: Fails, model: Path, data: object, *args: object) -> str:
    return fails("train", model, "--data", data, "--epochs", 1, "--out", model.parent / "out.onnx", *args)


def test_no_data(fails: Fails, lenet: Path, tmp_path: Path) -> None:
    assert "there is no such file or folder" in train(fails, lenet, tmp_path / "none")


def test_label_out_of_range(fails: Fails, lenet: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 1, 8, 8), np.float32), y=np.array([0, 1, 12, 3]))
    line = train(fails, lenet, tmp_path / "d.npz", "--validation", 0)
    assert "label 12 of sample 2 is outside 0..9" in line and "--classes" in line


def test_label_out_of_range_where_the_file_does_not_say(fails: Fails, tmp_path: Path) -> None:
    graph = graph_of("lenet", size=8)
    graph.outputs[0].shape = ("N", None)
    write_model(graph, tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 1, 8, 8), np.float32), y=np.array([0, 1, 12, 3]))
    assert "label 12 " in train(fails, tmp_path / "m.onnx", tmp_path / "d.npz", "--validation", 0)


def test_label_beyond_the_classes_that_were_asked_for(fails: Fails, lenet: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 1, 8, 8), np.float32), y=np.array([0, 1, 2, 3]))
    line = train(fails, lenet, tmp_path / "d.npz", "--validation", 0, "--classes", 3)
    assert "label 3 of sample 3" in line and line.endswith("correct the labels, --classes 3 is what was asked for")


def test_one_class(fails: Fails, lenet: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 1, 8, 8), np.float32), y=np.full(4, 7))
    assert "one class teaches nothing: every training sample has the label 7" in train(fails, lenet, tmp_path / "d.npz")


def test_empty_folder(fails: Fails, lenet: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert "data: is empty" in train(fails, lenet, tmp_path / "data")
    (tmp_path / "data" / "cat").mkdir()
    assert "hold no pictures" in train(fails, lenet, tmp_path / "data")


def test_mixed_sizes(fails: Fails, tmp_path: Path, pictures: Path) -> None:
    """Only a network that takes any size leaves the size open."""
    graph = graph_of("lenet", size=8)
    graph.inputs[0].shape = ("N", 1, "H", "W")
    write_model(graph, tmp_path / "m.onnx")
    Image.new("L", (20, 10)).save(pictures / "dark" / "odd.png")
    line = train(fails, tmp_path / "m.onnx", pictures)
    assert "pictures of 2 sizes" in line and "odd.png" in line


def test_corrupt_training_picture(fails: Fails, lenet: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / "dark" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
    line = train(fails, lenet, pictures, "--classes", 2)
    assert "bad.png: not a whole picture" in line and "--skip-bad" in line


def test_a_picture_that_breaks_off(fails: Fails, lenet: Path, pictures: Path, tmp_path: Path) -> None:
    """Its header is whole, so training begins: what was learned until then is saved."""
    bad, out = pictures / "dark" / "9.jpg", tmp_path / "out.onnx"
    Image.effect_noise((90, 90), 50).save(bad)
    bad.write_bytes(bad.read_bytes()[:2000])
    args = ("--classes", 2, "--batch-size", 1, "--validation", 0.1, "--out", out)
    line = fails("train", lenet, "--data", pictures, *args)
    assert "9.jpg: not a whole picture" in line and line.endswith(f"the weights so far are saved in {out}")
    assert not np.array_equal(*(numpy_helper.to_array(onnx.load(m).graph.initializer[0]) for m in (lenet, out)))


def test_wrong_sample_shape(fails: Fails, lenet: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 3, 8, 8), np.float32), y=np.zeros(4, np.int64))
    line = train(fails, lenet, tmp_path / "d.npz")
    assert "a sample has the shape [3, 8, 8], but input 'input' takes [1, 8, 8]" in line


def test_pattern_that_fits_nothing(fails: Fails, lenet: Path, few_digits: Path) -> None:
    assert "pattern 'nothing.*' fits no weight" in train(fails, lenet, few_digits, "--freeze", "nothing.*")
    assert "nothing is left to train" in train(fails, lenet, few_digits, "--freeze", "*")


def test_no_new_head(fails: Fails, unsupported: Path, few_digits: Path) -> None:
    line = train(fails, unsupported, few_digits, "--classes", 3)
    assert "no new head: Normalizer 'fourth' stands between" in line


def test_not_a_number(fails: Fails, lenet: Path, few_digits: Path, tmp_path: Path) -> None:
    """The run stops, and the last good weights are in the file."""
    out = tmp_path / "out.onnx"
    line = fails("train", lenet, "--data", few_digits, "--lr", 1e30, "--epochs", 3, "--out", out)
    assert "the loss is" in line and "at step 2 with learning rate 1e+30" in line and f"saved in {out}" in line
    model = onnx.load(out)
    weights = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    assert all(np.isfinite(weight).all() for weight in weights)
    before = {t.name: numpy_helper.to_array(t) for t in onnx.load(lenet).graph.initializer}
    assert all(np.array_equal(before[t.name], numpy_helper.to_array(t)) for t in model.graph.initializer)


def test_not_a_number_after_the_last_step(fails: Fails, lenet: Path, few_digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    args = ("--data", few_digits, "--epochs", 1, "--batch-size", 64, "--out", out)
    assert "not finite after step 1 with learning rate 1e+40" in fails("train", lenet, *args, "--lr", 1e40)
    arrays = (numpy_helper.to_array(tensor) for tensor in onnx.load(out).graph.initializer)
    assert all(np.isfinite(array).all() for array in arrays)


# --- where to write


def test_out_cannot_be_written(fails: Fails, lenet: Path, few_digits: Path, tmp_path: Path) -> None:
    for out, words in ((tmp_path, "it is not a file"), (tmp_path / "none" / "m.onnx", "there is no folder")):
        line = fails("train", lenet, "--data", few_digits, "--out", out)
        assert f"{out}: cannot be written: {words}" in line
        assert f"{out}: cannot be written: {words}" in fails("train", "--out", out)
        assert f"{out}: cannot be written: {words}" in fails("infer", lenet, "a.npy", "--out", out)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_out_in_a_folder_that_is_read_only(fails: Fails, lenet: Path, few_digits: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "Permission denied" in fails("train", lenet, "--data", few_digits, "--out", tmp_path / "m.onnx")


def test_disk_full(
    fails: Fails, lenet: Path, few_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.onnx"
    out.write_bytes(b"the old file")

    def full(descriptor: int) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    line = fails("train", lenet, "--data", few_digits, "--epochs", 1, "--out", out)
    assert "out.onnx: cannot be written: No space left on device; nothing was changed" in line
    assert out.read_bytes() == b"the old file"
    assert [path.name for path in tmp_path.iterdir()] == ["out.onnx"]


def test_momentum_is_of_sgd(cli: Callable[..., Result], tmp_path: Path) -> None:
    result = cli("train", "--optimizer", "adam", "--momentum", "0.5", "--out", tmp_path / "out.onnx")
    assert result.exit_code == 2
    assert "--momentum is sgd's; adam has none" in result.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("train", "--lr", "nan"), "nan is not a finite number"),
        (("train", "--validation", "2"), "2 is no fraction from 0 to below 1"),
        (("train", "--crop", "999999"), "999999 is not in the range"),
        (("infer", "m.onnx", "a.png", "--std", "0"), "'0' must be greater than zero"),
        (("infer", "m.onnx", "a.png", "--mean", "inf"), "'inf' is not finite"),
        (("export", "m.onnx", "n.onnx", "--batch", "0"), "'0' is not a number from 1"),
        (("bench", "m.onnx", "--html", "-"), "only --json can be printed"),
    ],
)
def test_numbers_out_of_range(cli: Callable[..., Result], args: tuple[str, ...], words: str) -> None:
    result = cli(*args)
    assert result.exit_code == 2
    assert words in result.stderr


def test_the_batch_twice(fails: Fails, lenet: Path) -> None:
    line = fails("bench", lenet, "--batch", 2, "--dim", "N=3", "--no-files")
    assert "the batch is 2, and dimension 'N', which it is called by, 3" in line


def test_no_folder_for_what_is_not_trained(
    fails: Fails, lenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fails("train", lenet, "--data", tmp_path / "missing")
    assert list(tmp_path.iterdir()) == []
