"""Training from the command line: the demonstration, fine-tuning with a new head, freezing, and being interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import Result
from onnx import numpy_helper
from PIL import Image

import nbcnn.onnx_io.validation
from nbcnn.data import Preprocessing
from nbcnn.onnx_io import read_model

from .conftest import real

Cli = Callable[..., Result]
MAIN = [sys.executable, "-c", "from nbcnn.cli.main import main; main()"]


def weights(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def test_demo(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `make demo` runs it, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    result = cli("train")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    percent = next(float(line.split()[2].rstrip("%:")) for line in lines if line.startswith("test accuracy"))
    assert percent > 97
    assert "onnxruntime" in result.stdout and "computes the same" in result.stdout and "on 360 samples" in result.stdout
    assert "runs/digits.onnx" in result.stdout
    onnx.checker.check_model(tmp_path / "runs" / "digits.onnx")
    picture = Image.fromarray(np.zeros((20, 16), np.uint8))
    picture.save("a.png")
    shown = json.loads(cli("infer", "runs/digits.onnx", "a.png", "--json").stdout)
    assert {choice["label"] for choice in shown[0]["classes"]} <= set("0123456789")


def test_demo_heeds_its_options(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    args = ("--epochs", 1, "--batch-size", 64, "--lr", 0.5, "--optimizer", "adamw", "--seed", 3, "--out", out)
    result = cli("train", *args)
    assert result.exit_code == 0, result.output
    assert "epoch 1/1" in result.stdout and "AdamW(lr=0.5" in result.stdout
    assert out.is_file()


def test_the_demo_refuses_what_it_has_not(cli: Cli) -> None:
    result = cli("train", "--classes", 3)
    assert result.exit_code == 2 and "demonstration, which has no --classes" in result.stderr


def test_arrays(cli: Cli, lenet: Path, few_digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    result = cli("train", lenet, "--data", few_digits, "--epochs", 2, "--lr", 0.1, "--out", out)
    assert result.exit_code == 0, result.output
    assert "training 10 tensors of 21,386 numbers; none is frozen" in result.stdout
    assert "on 64 samples, 16 held back for validation" in result.stdout
    assert "epoch 2/2" in result.stdout and "validation accuracy" in result.stdout
    before, after = weights(lenet), weights(out)
    assert before.keys() == after.keys()
    assert all(not np.array_equal(before[name], after[name]) for name in before)


def test_same_seed_same_file(cli: Cli, lenet: Path, few_digits: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        args = ("--data", few_digits, "--epochs", 1, "--seed", seed, "--out", tmp_path / name)
        assert cli("train", lenet, *args).exit_code == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()


def test_frozen_weights_stay(cli: Cli, lenet: Path, few_digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    args = ("--freeze", "conv*", "--freeze", "fc1.bias", "--epochs", 1, "--out", out)
    result = cli("train", lenet, "--data", few_digits, *args)
    assert result.exit_code == 0, result.output
    assert "training 5 tensors of 18,694 numbers; 5 more, of 2,692 numbers, frozen" in result.stdout
    before, after = weights(lenet), weights(out)
    same = {name for name in before if np.array_equal(before[name], after[name])}
    assert same == {"conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias", "fc1.bias"}


@pytest.fixture
def tuned(cli: Cli, lenet: Path, pictures: Path, tmp_path: Path) -> Path:
    """LeNet with a new head that tells dark pictures from bright ones."""
    out = tmp_path / "tuned.onnx"
    args = ("--classes", 2, "--epochs", 12, "--batch-size", 4, "--lr", 0.02, "--mean", 0.5, "--std", 0.25, "--crop", 1)
    result = cli("train", lenet, "--data", pictures, *args, "--flip", "--validation", 0.25, "--out", out)
    assert result.exit_code == 0, result.output
    assert "on 12 samples, 4 held back for validation" in result.stdout
    return out


def test_more_classes_than_the_pictures_have(cli: Cli, lenet: Path, pictures: Path, tmp_path: Path) -> None:
    args = ("--data", pictures, "--epochs", 1, "--out", tmp_path / "m.onnx")
    assert "--classes 2 gives it a new head" in cli("train", lenet, *args).stderr
    result = cli("infer", tmp_path / "m.onnx", pictures / "dark" / "0.png", "--top", 10)
    assert result.exit_code == 0 and "bright" in result.stdout


def test_pictures_and_a_new_head(cli: Cli, tuned: Path, pictures: Path) -> None:
    """The new file knows how pictures are prepared and what the classes are called: infer needs no options."""
    graph = read_model(tuned)
    expected = Preprocessing(size=(8, 8), mean=(0.5,), std=(0.25,), channels=1)
    assert Preprocessing.from_metadata(graph.metadata) == expected
    assert json.loads(graph.metadata["nbcnn.labels"]) == ["bright", "dark"]
    assert graph.outputs[0].shape == ("N", 2)
    files = sorted(pictures.rglob("*.png"))
    shown = json.loads(cli("infer", tuned, *files, "--json", "--top", 1).stdout)
    assert [entry["classes"][0]["label"] for entry in shown] == [file.parent.name for file in files]


def test_onnxruntime_gives_the_same_probabilities(cli: Cli, tuned: Path, pictures: Path) -> None:
    file = pictures / "dark" / "0.png"
    shown = json.loads(cli("infer", tuned, file, "--json").stdout)[0]["classes"]
    with Image.open(file) as image:
        pixels = np.asarray(image.resize((8, 8), Image.Resampling.BILINEAR), np.float32)
    session = onnxruntime.InferenceSession(tuned, providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"input": ((pixels / 255 - 0.5) / 0.25)[None, None]})
    powers = np.exp(scores[0] - scores[0].max())
    for choice in shown:
        assert choice["score"] == pytest.approx(scores[0][choice["index"]], abs=1e-4)
        assert choice["probability"] == pytest.approx(powers[choice["index"]] / powers.sum(), abs=1e-5)


def test_a_real_network_with_a_new_head(cli: Cli, tmp_path: Path) -> None:
    """ResNet-20 and the hundred pictures beside it, told apart as animals and machines."""
    folder = real("models/resnet20-cifar10")
    rows = np.loadtxt(folder / "cifar10-test-first100.csv", delimiter=",", dtype=np.uint8)
    labels, x = rows[:, 0], rows[:, 1:].reshape(-1, 32, 32, 3)
    np.savez(tmp_path / "d.npz", x=x, y=np.isin(labels, [0, 1, 8, 9]).astype(np.int64), classes=["animal", "machine"])
    source, out = folder / "resnet20_cifar10.onnx", tmp_path / "out.onnx"
    how = ("--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225")
    args = ("--data", tmp_path / "d.npz", "--classes", 2, "--epochs", 5, "--batch-size", 16, *how)
    result = cli("train", source, *args, "--validation", 0.3, "--out", out)
    assert result.exit_code == 0, result.output
    assert "computes the same" in result.stdout
    assert float(result.stdout.split("validation accuracy")[-1].split("%")[0]) > 75
    before, after = read_model(source), read_model(out)
    assert [(n.op, n.name, n.inputs, n.outputs) for n in before.nodes] == [
        (n.op, n.name, n.inputs, n.outputs) for n in after.nodes
    ]
    changed = {n for n, a in before.initializers.items() if not np.array_equal(a, after.initializers[n])}
    assert {"linear.weight", "bn1.weight", "bn1.running_mean", "bn1.running_var", "conv1.weight"} <= changed
    assert after.initializers["linear.weight"].shape == (2, 64)


def test_bad_pictures_can_be_skipped(cli: Cli, lenet: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / "dark" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n nonsense")
    args = ("--classes", 2, "--epochs", 1, "--skip-bad", "--out", tmp_path / "out.onnx")
    result = cli("train", lenet, "--data", pictures, *args)
    assert result.exit_code == 0, result.output
    assert "note: 1 pictures cannot be decoded and are left out:" in result.stderr and "bad.png" in result.stderr


def test_other_validation_data(cli: Cli, lenet: Path, pictures: Path, tmp_path: Path) -> None:
    args = ("--classes", 2, "--epochs", 1, "--validation", pictures, "--out", tmp_path / "out.onnx")
    result = cli("train", lenet, "--data", pictures, *args)
    assert result.exit_code == 0, result.output
    assert "on 16 samples, 16 held back" in result.stdout


def test_default_output(
    cli: Cli, lenet: Path, few_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("train", lenet, "--data", few_digits, "--epochs", 1).exit_code == 0
    assert (tmp_path / "runs" / "lenet-tuned.onnx").is_file()


def test_patience(cli: Cli, lenet: Path, few_digits: Path, tmp_path: Path) -> None:
    args = ("--epochs", 50, "--lr", 0, "--patience", 2, "--out", tmp_path / "out.onnx")
    result = cli("train", lenet, "--data", few_digits, *args)
    assert result.exit_code == 0, result.output
    assert "epoch  3/50" in result.stdout and "epoch  4/50" not in result.stdout


def test_a_file_that_onnxruntime_disagrees_with_is_an_error(
    fails: Callable[..., str], lenet: Path, few_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(nbcnn.onnx_io.validation.TOLERANCES, "float32", (-1.0, 0.0))
    line = fails("train", lenet, "--data", few_digits, "--epochs", 1, "--out", tmp_path / "out.onnx")
    assert "onnxruntime computes something else" in line


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_ctrl_c_saves_and_says_where(lenet: Path, few_digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    args = ["train", str(lenet), "--data", str(few_digits), "--epochs", "1000000", "--out", str(out)]
    with subprocess.Popen([*MAIN, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stdout:
            if line.startswith("epoch"):
                process.send_signal(signal.SIGINT)
                break
        rest, complaint = process.stdout.read(), process.stderr.read()
    assert process.returncode == 130, complaint
    assert f"the weights so far are saved in {out}" in rest and "interrupted at step" in rest
    assert "Traceback" not in complaint
    before, after = weights(lenet), weights(out)
    assert all(np.isfinite(after[name]).all() and not np.array_equal(before[name], after[name]) for name in before)
