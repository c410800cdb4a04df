"""Copies of a model, by copy and by pickle: the same results, and weights of their own."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from networks import assert_close, batch, onnxruntime_run, small_resnet, stir

import nbcnn
from nbcnn.errors import FileError
from nbcnn.filemap import lies_in_file

X, T = batch((4, 3, 12, 12), 5)
WAYS: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
}

each_way = pytest.mark.parametrize("way", WAYS)


def saved_run(model: nbcnn.Model, path: Path) -> np.ndarray:
    """What onnxruntime computes from what the model saves."""
    model.save(path)
    return onnxruntime_run(path, {"input": X})[0]


@pytest.fixture(params=["built", "file"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> nbcnn.Model:
    """A network from memory, and one whose largest weights lie in its file."""
    built = nbcnn.Model(stir(small_resnet(width=96)))
    if request.param == "built":
        return built
    built.save(tmp_path / "m.onnx")
    loaded = nbcnn.load(tmp_path / "m.onnx")
    assert any(lies_in_file(array) for array in loaded.graph.initializers.values())
    return loaded


@each_way
def test_a_copy_is_a_model_of_its_own(way: str, model: nbcnn.Model, tmp_path: Path) -> None:
    nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=0.01)).step(X, T)  # weights now lie in the kernels' own order
    trained = saved_run(model, tmp_path / "trained.onnx")
    other = WAYS[way](model)
    assert_close(other(X), trained, 1e-4)
    nbcnn.Trainer(other, optimizer=nbcnn.SGD(lr=0.1)).step(X, T)
    assert np.abs(other(X) - trained).max() > 1e-3
    assert_close(other(X), saved_run(other, tmp_path / "other.onnx"), 1e-4)
    again = saved_run(model, tmp_path / "again.onnx")
    np.testing.assert_array_equal(again, trained)
    nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=0.1)).step(X, T)
    assert_close(other(X), onnxruntime_run(tmp_path / "other.onnx", {"input": X})[0], 1e-4)


@each_way
def test_a_copy_saves_the_same_file(way: str, model: nbcnn.Model, tmp_path: Path) -> None:
    other = WAYS[way](model)
    model.save(tmp_path / "a.onnx")
    other.save(tmp_path / "b.onnx")
    assert onnx.load(tmp_path / "a.onnx") == onnx.load(tmp_path / "b.onnx")


@each_way
def test_a_copy_keeps_its_settings(way: str, tmp_path: Path) -> None:
    nbcnn.zoo.mlp((4, 2)).save(tmp_path / "m.onnx")
    model = nbcnn.load(tmp_path / "m.onnx", dtype="float64", exact=True, autotune=True)
    other = WAYS[way](model)
    settings = [(m.dtype, m.exact, m.autotune, m.source, m.inputs, m.metadata) for m in (model, other)]
    assert settings[0] == settings[1]


def test_another_process_can_have_it(model: nbcnn.Model, tmp_path: Path) -> None:
    wanted = saved_run(model, tmp_path / "m.onnx")
    (tmp_path / "model").write_bytes(pickle.dumps(model))
    np.save(tmp_path / "x.npy", X)
    code = (
        "import pickle, sys, numpy as np; m = pickle.load(open('model', 'rb')); np.save('y.npy', m(np.load('x.npy')))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert_close(np.load(tmp_path / "y.npy"), wanted, 1e-4)


def test_a_deep_copy_shares_only_what_lies_in_the_file(model: nbcnn.Model) -> None:
    other = copy.deepcopy(model)
    for name, array in model.graph.initializers.items():
        assert np.may_share_memory(array, other.graph.initializers[name]) == lies_in_file(array), name
    assert all(a is not b for a, b in zip(model.graph.nodes, other.graph.nodes, strict=True))


def test_pickle_reads_weights_before_it_is_too_late(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    nbcnn.Model(small_resnet(width=96)).save(path)
    model = nbcnn.load(path)
    path.write_bytes(b"")
    with pytest.raises(FileError, match="was written to after it was loaded"):
        pickle.dumps(model)
