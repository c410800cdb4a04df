"""Known results of real networks on real data (models/ of the data folder): each is computed here and held against its
publisher's figure or against onnxruntime. Ends with 1 when one is wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from bench.options import add_data, add_out, data_folder, finish, start
from bench.report import table
from nbcnn.api import load
from nbcnn.data import Preprocessing, decode_picture
from nbcnn.errors import NbcnnError
from nbcnn.report.peer import session

__all__ = ["CIFAR_MEAN", "CIFAR_STD", "Result", "configure", "run"]

CIFAR_MEAN, CIFAR_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of resnet20-cifar10's inputs, which are pixels / 255."""

PRINTED = 5e-4
"""A figure that is known to three digits is met within half of the last."""


@dataclass(frozen=True)
class Result:
    """what: was computed. expected, found: in words. error: how far off; limit: how far it may be (what is counted must
    be exact: 0).
    """

    what: str
    expected: str
    found: str
    error: float
    limit: float

    @property
    def ok(self) -> bool:
        return self.error <= self.limit  # so that NaN is not


def configure(parser: argparse.ArgumentParser) -> None:
    add_data(parser)
    add_out(parser, "results")


def run(args: argparse.Namespace) -> int:
    models = data_folder(args) / "models"
    machine = start(args)
    found = []
    for check in CHECKS:
        try:
            found += list(check(models, args.threads))
        except (NbcnnError, OSError) as error:
            print(f"{check.__name__.strip('_')}: {error}", file=sys.stderr)
            found.append(Result(check.__name__.strip("_"), "a result", "failed", float("inf"), 0.0))
    rows = [(r.what, r.expected, r.found, f"{r.error:.2g}", f"{r.limit:g}", r.ok) for r in found]
    print(table(("result", "expected", "found", "error", "limit", "ok"), rows))
    finish(args, machine, [{**asdict(r), "ok": r.ok} for r in found])
    return 0 if all(r.ok for r in found) else 1


def _mnist(models: Path, threads: int) -> Iterator[Result]:
    folder = models / "mnist-8"
    model = load(folder / "model.onnx")
    for number in range(3):
        yield _pair(f"mnist-8, pair {number}", model, folder / f"test_data_set_{number}", 5e-3)


def _super_resolution(models: Path, threads: int) -> Iterator[Result]:
    folder = models / "super-resolution-10"
    yield _pair("super-resolution-10, pair 0", load(folder / "model.onnx"), folder / "test_data_set_0", 1e-4)


def _squeezenet(models: Path, threads: int) -> Iterator[Result]:
    folder = models / "squeezenet-1.1"
    model = load(folder / "squeezenet-1.1.onnx")
    how = Preprocessing(size=(224, 224), bgr=True, scale=False)
    labels = [line.partition(",")[2] for line in _lines(folder / "labels.txt")]
    yield _picture("squeezenet-1.1, fish.png", model, folder / "fish.png", how, labels, ("tench", 0.737677, 1e-4))


def _mobilenet(models: Path, threads: int) -> Iterator[Result]:
    folder = models / "mobilenet-v2"
    model = load(folder / "mobilenet-v2.onnx")
    how = Preprocessing(size=(224, 224), mean=(128.0,), std=(128.0,), scale=False)
    labels = _lines(folder / "labels.txt")
    yield _picture("mobilenet-v2, parrot.jpg", model, folder / "parrot.jpg", how, labels, ("macaw", 0.998, PRINTED))


def _resnet20(models: Path, threads: int) -> Iterator[Result]:
    """The first 100 test pictures of CIFAR-10: how many are right, and every logit beside onnxruntime's."""
    folder = models / "resnet20-cifar10"
    path = folder / "resnet20_cifar10.onnx"
    samples = np.loadtxt(folder / "cifar10-test-first100.csv", delimiter=",", dtype=np.int64)
    t, pixels = samples[:, 0], samples[:, 1:].astype(np.uint8).reshape(-1, 32, 32, 3)
    x = Preprocessing(mean=CIFAR_MEAN, std=CIFAR_STD).normalize(pixels)
    model = load(path)
    logits = model(x)
    right = int((logits.argmax(1) == t).sum())
    yield Result("resnet20-cifar10, 100 pictures", "94 right", f"{right} right", abs(right - 94), 0)
    (theirs,) = session(path, threads).run(None, {model.inputs[0].name: x})
    for name, ours in (("", logits), (", exact", load(path, exact=True)(x))):
        error = float(np.abs(ours - theirs).max())
        yield Result(
            f"resnet20-cifar10, logits{name}", "onnxruntime's", f"largest {np.abs(ours).max():.4g}", error, 1e-4
        )


CHECKS: tuple[Callable[[Path, int], Iterator[Result]], ...] = (
    _mnist,
    _squeezenet,
    _resnet20,
    _mobilenet,
    _super_resolution,
)


def _pair(what: str, model: Callable[[np.ndarray], np.ndarray], folder: Path, limit: float) -> Result:
    """An input and the output that its publisher gives, as TensorProto files."""
    x, y = (_tensor(folder / f"{name}_0.pb") for name in ("input", "output"))
    found = model(x)
    error = float(np.abs(found - y).max()) if found.shape == y.shape else float("inf")
    return Result(
        what, f"{list(y.shape)}, largest {np.abs(y).max():.5g}", f"largest {np.abs(found).max():.5g}", error, limit
    )


def _picture(
    what: str,
    model: Callable[[np.ndarray], np.ndarray],
    path: Path,
    how: Preprocessing,
    labels: list[str],
    expected: tuple[str, float, float],
) -> Result:
    """The best class of one picture. expected: a word of its label, its probability, how far off that may be."""
    scores = model(how.apply(decode_picture(path))[None]).reshape(-1)
    best = int(scores.argmax())
    word, probability, limit = expected
    error = abs(float(scores[best]) - probability) if word in labels[best] else float("inf")
    return Result(what, f"{word} {probability:g}", f"{labels[best]} {scores[best]:.6f}", error, limit)


def _tensor(path: Path) -> np.ndarray:
    import onnx

    return onnx.numpy_helper.to_array(onnx.load_tensor(path))


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()
