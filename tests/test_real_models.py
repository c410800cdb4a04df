"""Published networks with their published weights: the results their authors, or onnxruntime, have for real inputs.

They lie beside the project (../shared/data, or the folder in $NBCNN_DATA); what is missing is skipped and named.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from networks import assert_close, onnxruntime_run, real
from onnx import numpy_helper
from PIL import Image

import nbcnn


def tensor(path: Path) -> np.ndarray:
    """A TensorProto file, as the model zoo publishes inputs and outputs."""
    return numpy_helper.to_array(onnx.load_tensor(path))


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize("pair", [0, 1, 2])
def test_mnist_8(pair: int) -> None:
    folder = real("models/mnist-8/model.onnx").parent
    model = nbcnn.load(folder / "model.onnx")
    assert [p.name for p in model.inputs] == ["Input3"], "its weights are listed as inputs, but need not be fed"
    x, want = (tensor(folder / f"test_data_set_{pair}" / f"{kind}_0.pb") for kind in ("input", "output"))
    assert_close(model(x), want, 5e-3)


def test_squeezenet() -> None:
    """BGR, 0..255, nothing subtracted."""
    folder = real("models/squeezenet-1.1/squeezenet-1.1.onnx").parent
    picture = np.asarray(Image.open(folder / "fish.png").convert("RGB").resize((224, 224)))
    x = picture[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32)
    model = nbcnn.load(folder / "squeezenet-1.1.onnx")
    (scores,) = model.run(None, {model.inputs[0].name: x})
    probabilities = scores.reshape(-1)
    assert probabilities.argmax() == 0  # tench
    assert abs(probabilities[0] - 0.7377) < 1e-4
    assert_close(scores, onnxruntime_run(folder / "squeezenet-1.1.onnx", {model.inputs[0].name: x})[0], 1e-4)


def test_squeezenet_of_half_precision_weights() -> None:
    """The weights are stored, and the results given, as float16; in between the engine computes in float32."""
    folder = real("models/squeezenet-1.1/squeezenet-1.1-fp16.onnx").parent
    picture = np.asarray(Image.open(folder / "fish.png").convert("RGB").resize((224, 224)))
    model = nbcnn.load(folder / "squeezenet-1.1-fp16.onnx")
    (port,) = model.inputs
    x = picture[:, :, ::-1].transpose(2, 0, 1)[None].astype(port.dtype)
    (scores,) = model.run(None, {port.name: x})
    assert scores.dtype == model.outputs[0].dtype
    _, *rows = csv.reader((folder / "fish-expected-fp16.csv").read_text().splitlines())
    published = np.array([float(value) for _, value in rows])
    assert published.size == 1000
    assert scores.reshape(-1).argmax() == published.argmax() == 0
    assert np.abs(scores.reshape(-1).astype(np.float64) - published).max() < 5e-3


def cifar() -> tuple[np.ndarray, np.ndarray]:
    """The first 100 test pictures, normalized, (100, 3, 32, 32), and their labels."""
    rows = real("models/resnet20-cifar10/cifar10-test-first100.csv").read_text().split()
    table = np.array([[int(v) for v in row.split(",")] for row in rows if row[0].isdigit()])
    pixels = table[:, 1:].reshape(-1, 32, 32, 3).astype(np.float32) / 255
    x = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return x.transpose(0, 3, 1, 2).astype(np.float32), table[:, 0]


@pytest.mark.parametrize("exact", [False, True])
def test_resnet20_on_cifar10(exact: bool) -> None:
    path = real("models/resnet20-cifar10/resnet20_cifar10.onnx")
    x, t = cifar()
    model = nbcnn.load(path, exact=exact)
    (port,) = model.inputs
    (scores,) = model.run(None, {port.name: x})
    assert (scores.argmax(1) == t).sum() == 94
    assert_close(scores, onnxruntime_run(path, {port.name: x})[0], 1e-4)


def test_mobilenet_v2() -> None:
    """RGB, (q - 128) / 128, bilinear to 224 x 224; class 89 of 1,001 is the macaw."""
    folder = real("models/mobilenet-v2/mobilenet-v2.onnx").parent
    picture = Image.open(folder / "parrot.jpg").convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
    pixels = (np.asarray(picture).astype(np.float32) - 128) / 128
    model = nbcnn.load(folder / "mobilenet-v2.onnx")
    (port,) = model.inputs
    x = pixels[None] if port.shape and port.shape[-1] == 3 else pixels.transpose(2, 0, 1)[None]
    (scores,) = model.run(None, {port.name: x})
    flat = scores.reshape(-1)
    probabilities = flat if abs(flat.sum() - 1) < 1e-3 else softmax(flat)
    labels = (folder / "labels.txt").read_text().splitlines()
    assert "macaw" in labels[int(probabilities.argmax())]
    assert abs(probabilities.max() - 0.998) < 1e-3
    assert_close(scores, onnxruntime_run(folder / "mobilenet-v2.onnx", {port.name: x})[0], 1e-4)


def test_super_resolution() -> None:
    folder = real("models/super-resolution-10/model.onnx").parent
    x, want = (tensor(folder / "test_data_set_0" / f"{kind}_0.pb") for kind in ("input", "output"))
    assert_close(nbcnn.load(folder / "model.onnx")(x), want, 1e-4)


@pytest.mark.parametrize(
    ("path", "tolerance"),
    [("models/yunet-n/yunet_n_320_320.onnx", 1e-4), ("models/portrait-deeplab/deeplab_nchw.onnx", 1e-3)],
)
def test_random_inputs_against_onnxruntime(path: str, tolerance: float) -> None:
    """Every output, within the tolerance times the largest value of what onnxruntime gives."""
    file = real(path)
    model = nbcnn.load(file)
    rng = np.random.default_rng(0)
    feeds: dict[str, Any] = {
        p.name: rng.standard_normal([d if isinstance(d, int) else 1 for d in p.shape or ()]).astype(p.dtype)
        for p in model.inputs
    }
    wanted = onnxruntime_run(file, feeds)
    assert len(model.outputs) == len(wanted)
    for got, want in zip(model.run(None, feeds), wanted, strict=True):
        assert np.ptp(want) > 0
        assert_close(got, want, tolerance * max(1.0, float(np.abs(want).max())))


def test_fine_tuning_a_published_network(tmp_path: Path) -> None:
    """A few steps lower the loss, move the running statistics, and are saved in the file that was loaded."""
    path = real("models/resnet20-cifar10/resnet20_cifar10.onnx")
    x, t = cifar()
    model = nbcnn.load(path)
    trainer = nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=0.01, momentum=0.9))
    losses = [trainer.step(x[:32], t[:32]) for _ in range(4)]
    assert losses[-1] < losses[0] < 1
    model.save(tmp_path / "tuned.onnx")
    before, after = onnx.load(path), onnx.load(tmp_path / "tuned.onnx")
    assert [n.SerializeToString() for n in before.graph.node] == [n.SerializeToString() for n in after.graph.node]
    assert [i.name for i in before.graph.initializer] == [i.name for i in after.graph.initializer]
    (port,) = model.inputs
    want = onnxruntime_run(tmp_path / "tuned.onnx", {port.name: x})[0]
    assert_close(model.run(None, {port.name: x})[0], want, 1e-3)


@pytest.mark.parametrize(
    ("path", "size"),
    [("models/squeezenet-1.1/squeezenet-1.1.onnx", 224), ("models/mobilenet-v2/mobilenet-v2.onnx", 224)],
)
def test_cross_entropy_through_a_published_softmax(path: str, size: int) -> None:
    """The loss of the first step is that of the probabilities that onnxruntime computes (no batch norm, no dropout)."""
    file = real(path)
    model = nbcnn.load(file)
    (port,) = model.inputs
    shape = [d if isinstance(d, int) else 1 for d in port.shape or ()]
    assert size in shape
    x = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    probabilities = onnxruntime_run(file, {port.name: x})[0].reshape(-1).astype(np.float64)
    trainer = nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=1e-4), freeze=dropouts(model))
    assert trainer.logits != trainer.output
    losses = [trainer.step(x, [7]) for _ in range(2)]
    assert losses[0] == pytest.approx(-np.log(probabilities[7]), abs=1e-3)
    assert losses[1] < losses[0]


def dropouts(model: nbcnn.Model) -> list[str]:
    """What patterns call them: by their outputs, where nodes have no names."""
    return [node.name or node.outputs[0] for node in model.graph.nodes if node.op == "Dropout"]
