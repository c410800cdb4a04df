"""The command line in this process, and small networks and data to give it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from nbcnn.cli.main import program
from nbcnn.data import digits
from nbcnn.graph import Graph
from nbcnn.onnx_io import write_model
from nbcnn.zoo import graph_of

Cli = Callable[..., Result]
DATA = Path(os.environ.get("NBCNN_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


@pytest.fixture(scope="session")
def cli() -> Cli:
    """cli("train", path, ...) runs a command and returns click's Result."""

    def run(*args: object) -> Result:
        return CliRunner().invoke(program, [str(arg) for arg in args], prog_name="nbcnn")

    return run


@pytest.fixture
def fails(cli: Cli) -> Callable[..., str]:
    """Runs a command that must fail with one line and no traceback; returns that line."""

    def run(*args: object, code: int = 1) -> str:
        result = cli(*args)
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        lines = [line for line in result.stderr.splitlines() if not line.startswith("note: ")]
        assert len(lines) == 1 and lines[0].startswith("nbcnn: error: "), result.stderr
        return lines[0]

    return run


@pytest.fixture(scope="session")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LeNet for 8x8 digits, not trained: input (N, 1, 8, 8) -> output (N, 10)."""
    return saved(graph_of("lenet", size=8), tmp_path_factory.mktemp("models") / "lenet.onnx")


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .npz file of 64 digits for training and 16 for validation, float32 (N, 1, 8, 8)."""
    train, test = digits()
    x, t = train.batch(np.arange(64))
    xx, tt = test.batch(np.arange(16))
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(path, x_train=x, y_train=t, x_test=xx, y_test=tt)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of 8 dark and 8 bright gray pictures of 12x12, in folders named after them."""
    rng = np.random.default_rng(0)
    for name, low in (("bright", 160), ("dark", 0)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for index in range(8):
            pixels = rng.integers(low, low + 90, (12, 12)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{index}.png")
    return tmp_path / "pictures"


def saved(graph: Graph, path: Path) -> Path:
    write_model(graph, path)
    return path


def real(name: str) -> Path:
    """A file of the shared data; skips the test where it is absent."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"needs {path}: see the README about NBCNN_DATA")
    return path
