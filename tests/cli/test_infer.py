"""Pictures and arrays through `nbcnn infer`, compared with onnxruntime and with what the publishers state."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import Result
from onnx import numpy_helper
from PIL import Image

from nbcnn.cli.pictures import read_labels
from nbcnn.errors import InputError
from nbcnn.graph import Graph, Node, Value
from nbcnn.onnx_io import write_model
from nbcnn.report.classes import class_scores, top_classes
from nbcnn.zoo import graph_of

from .conftest import real

Cli = Callable[..., Result]


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).random((3, 1, 8, 8), dtype=np.float32)


def reference(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"input": x})[0]
    return found


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pb"])
def test_arrays_to_npz(cli: Cli, lenet: Path, tmp_path: Path, x: np.ndarray, suffix: str) -> None:
    path, out = tmp_path / f"x{suffix}", tmp_path / "results.npz"
    if suffix == ".npy":
        np.save(path, x)
    elif suffix == ".npz":
        np.savez(path, input=x)
    else:
        path.write_bytes(numpy_helper.from_array(x, "input").SerializeToString())
    result = cli("infer", lenet, path, "--out", out)
    assert result.exit_code == 0, result.output
    with np.load(out) as arrays:
        assert arrays.files == ["output"]
        np.testing.assert_allclose(arrays["output"], reference(lenet, x), rtol=1e-4, atol=1e-4)
    assert "saved output [3, 10]" in result.stderr


def test_classes_of_arrays(cli: Cli, lenet: Path, tmp_path: Path, x: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", x)
    shown = json.loads(cli("infer", lenet, tmp_path / "x.npy", "--json", "--top", 2).stdout)
    scores = reference(lenet, x)
    assert [entry["input"] for entry in shown] == ["0", "1", "2"]
    for entry, row in zip(shown, scores, strict=True):
        assert [choice["index"] for choice in entry["classes"]] == list(np.argsort(-row)[:2])


def test_pictures_of_all_kinds(cli: Cli, lenet: Path, tmp_path: Path) -> None:
    """Each is brought to 8x8 gray; the table names each once and shows the labels of the file."""
    rng = np.random.default_rng(1)
    for name, shape in (("a.png", (8, 8)), ("b.png", (20, 30, 3)), ("c.bmp", (5, 9))):
        Image.fromarray(rng.integers(0, 255, shape).astype(np.uint8)).save(tmp_path / name)
    (tmp_path / "labels.txt").write_text("".join(f"digit {i}\n" for i in range(10)))
    files = [tmp_path / name for name in ("a.png", "b.png", "c.bmp")]
    result = cli("infer", lenet, *files, "--labels", tmp_path / "labels.txt", "--top", 3)
    assert result.exit_code == 0, result.output
    assert all(result.stdout.count(file.name) == 1 for file in files)
    assert result.stdout.count("digit ") == 9


def test_fewer_or_more_remembered_labels_than_classes(cli: Cli, tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    for count, words in ((3, ["cat 0", "9"]), (11, ["0", "9"])):
        graph = graph_of("lenet", size=8)
        graph.metadata["nbcnn.labels"] = json.dumps([f"cat {i}" for i in range(count)])
        write_model(graph, tmp_path / "m.onnx")
        result = cli("infer", tmp_path / "m.onnx", tmp_path / "a.png", "--top", 10)
        assert result.exit_code == 0 and all(word in result.stdout for word in words), result.output
        assert ("--labels" in result.stderr) == (count == 11) == ("cat" not in result.stdout)


def test_half_precision_is_a_gpus(cli: Cli, lenet: Path, tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    result = cli("infer", lenet, tmp_path / "a.png", "--precision", "fp16")
    assert result.exit_code == 0 and "note: --precision fp16 is for a GPU" in result.stderr


def test_preprocessing_flags(cli: Cli, lenet: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 255, (8, 8)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for flags, expected in (
        ([], pixels / 255),
        (["--no-scale"], pixels),
        (["--mean", "0.5", "--std", "0.1"], (pixels / 255 - 0.5) / 0.1),
    ):
        out = tmp_path / "out.npz"
        assert cli("infer", lenet, tmp_path / "a.png", *flags, "--out", out).exit_code == 0
        with np.load(out) as arrays:
            want = reference(lenet, expected[None, None].astype(np.float32))
            np.testing.assert_allclose(arrays["output"], want, rtol=1e-4, atol=1e-3)


def any_size(path: Path) -> Path:
    """x (N, 3, H, W) -> the mean of each channel."""
    graph = Graph(opset={"": 17}, nodes=[Node("GlobalAveragePool", ["x"], ["y"])])
    graph.inputs = [Value("x", np.dtype(np.float32), ("N", 3, "H", "W"))]
    graph.outputs = [Value("y", np.dtype(np.float32), ("N", 3, 1, 1))]
    write_model(graph, path)
    return path


@pytest.mark.parametrize(("flag", "order"), [("--rgb", [0, 1, 2]), ("--bgr", [2, 1, 0])])
def test_sizes_may_differ_where_the_network_takes_any(cli: Cli, tmp_path: Path, flag: str, order: list[int]) -> None:
    model, files, means = any_size(tmp_path / "m.onnx"), [], []
    for index, size in enumerate([(4, 6), (3, 3), (4, 6), (7, 2)]):
        pixels = np.random.default_rng(index).integers(0, 255, (*size, 3)).astype(np.uint8)
        files.append(tmp_path / f"{index}.png")
        Image.fromarray(pixels).save(files[-1])
        means.append(pixels.mean((0, 1))[order] / 255)
    assert cli("infer", model, *files, flag, "--out", tmp_path / "out.npz").exit_code == 0
    with np.load(tmp_path / "out.npz") as arrays:
        np.testing.assert_allclose(arrays["y"][:, :, 0, 0], means, rtol=1e-5)


def test_outputs_that_are_no_classes(cli: Cli, tmp_path: Path) -> None:
    graph = Graph(opset={"": 17}, nodes=[Node("Relu", ["x"], ["y"])])
    graph.inputs = [Value("x", np.dtype(np.float32), ("N", 3, "H", "W"))]
    graph.outputs = [Value("y", np.dtype(np.float32), ("N", 3, "H", "W"))]
    write_model(graph, tmp_path / "m.onnx")
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 2, 2), np.float32))
    result = cli("infer", tmp_path / "m.onnx", tmp_path / "x.npy")
    assert result.exit_code == 1
    assert "y [1, 3, 2, 2]: write them with --out results.npz" in result.stderr


def test_scores_and_probabilities() -> None:
    logits = np.array([[1.0, 3.0, 2.0]])
    (best,) = top_classes(logits, 2, ["a", "b", "c"])
    assert [(c.index, c.label) for c in best] == [(1, "b"), (2, "c")]
    assert best[0].probability == pytest.approx(np.exp(3) / np.exp([1, 2, 3]).sum())
    (best,) = top_classes(np.array([[0.2, 0.7, 0.1]]), 3)
    assert [(c.index, c.probability) for c in best] == [(1, 0.7), (0, 0.2), (2, 0.1)]
    with pytest.raises(InputError, match="2 labels, but the network has 3 classes"):
        top_classes(logits, 1, ["a", "b"])
    assert class_scores(np.zeros((2, 5, 1, 1), np.float32)) is not None
    assert class_scores(np.zeros((2, 5, 2, 1), np.float32)) is None
    assert class_scores(np.zeros(5, np.float32)) is None
    assert class_scores(np.zeros((2, 5), np.int64)) is None


@pytest.mark.parametrize("text", ["cat\ndog, hound\n\n", "0,cat\n1,dog, hound\n", "0: cat\n1: dog, hound"])
def test_label_files(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.txt").write_text(text)
    assert read_labels(tmp_path / "labels.txt") == ["cat", "dog, hound"]


# --- what the publishers state


def test_squeezenet_fish(cli: Cli) -> None:
    folder = real("models/squeezenet-1.1")
    args = (
        folder / "squeezenet-1.1.onnx",
        folder / "fish.png",
        "--bgr",
        "--no-scale",
        "--labels",
        folder / "labels.txt",
    )
    result = cli("infer", *args, "--json")
    assert result.exit_code == 0, result.output
    best = json.loads(result.stdout)[0]["classes"][0]
    assert best["label"] == "tench, Tinca tinca"
    assert best["probability"] == pytest.approx(0.737677, abs=1e-4)


def test_mobilenet_parrot(cli: Cli) -> None:
    folder = real("models/mobilenet-v2")
    flags = ("--no-scale", "--mean", 128, "--std", 128, "--labels", folder / "labels.txt")
    result = cli("infer", folder / "mobilenet-v2.onnx", folder / "parrot.jpg", *flags, "--json")
    assert result.exit_code == 0, result.output
    best = json.loads(result.stdout)[0]["classes"][0]
    assert best["label"].startswith("macaw")
    assert best["probability"] == pytest.approx(0.998, abs=1e-3)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_mnist_pairs(cli: Cli, tmp_path: Path, number: int) -> None:
    folder = real("models/mnist-8")
    pair = folder / f"test_data_set_{number}"
    result = cli("infer", folder / "model.onnx", pair / "input_0.pb", "--out", tmp_path / "out.npz")
    assert result.exit_code == 0, result.output
    tensor = onnx.TensorProto.FromString((pair / "output_0.pb").read_bytes())
    with np.load(tmp_path / "out.npz") as arrays:
        np.testing.assert_allclose(arrays["Plus214_Output_0"], numpy_helper.to_array(tensor), rtol=0, atol=5e-3)
