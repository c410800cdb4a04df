"""Weights that stay in the file they were loaded from, while that file is replaced, removed or written to."""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import assert_close, onnxruntime_run, proto
from onnx import helper, numpy_helper

import nbcnn
from nbcnn.errors import FileError
from nbcnn.filemap import FileMap, fresh, lies_in_file
from nbcnn.onnx_io import external, sources
from nbcnn.parameter import Parameter

WEIGHTS = {"w1": (48, 3, 9, 9), "w2": (48, 48, 3, 3), "w3": (10, 48)}
X = np.random.default_rng(1).standard_normal((2, 3, 16, 16)).astype(np.float32)


def network(seed: int = 0) -> onnx.ModelProto:
    """Two convolutions and a product whose weights are large enough to stay in the file, and a small bias."""
    rng = np.random.default_rng(seed)
    arrays = {name: rng.standard_normal(shape).astype(np.float32) / 20 for name, shape in WEIGHTS.items()}
    arrays["w3"] = np.tile(arrays["w3"], (1, 64))
    arrays["b"] = rng.standard_normal(48).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b"], ["h1"], kernel_shape=[9, 9]),
        helper.make_node("Relu", ["h1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["h2"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Flatten", ["h2"], ["f"]),
        helper.make_node("Gemm", ["f", "w3"], ["y"], transB=1),
    ]
    return proto(nodes, {"x": ["N", 3, 16, 16]}, {"y": ["N", 10]}, arrays)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    onnx.save(network(), path)
    return path


@pytest.fixture
def wanted() -> np.ndarray:
    return onnxruntime_run(network(), {"x": X})[0]


def owned_bytes(model: nbcnn.Model) -> int:
    """Bytes of the weights' arrays that are in memory of our own."""
    arrays = [p._master for p in model.parameters.values() if p._master is not None]
    return sum(array.nbytes for array in arrays if not lies_in_file(array))


def test_weights_are_in_memory_only_while_they_are_packed(path: Path, wanted: np.ndarray) -> None:
    model = nbcnn.load(path)
    assert {name for name, array in model.graph.initializers.items() if lies_in_file(array)} == set(WEIGHTS)
    assert owned_bytes(model) == 0
    assert_close(model.run(None, {"x": X})[0], wanted, 1e-4)
    assert owned_bytes(model) == 0
    assert_close(model.run(None, {"x": X[:1]})[0], wanted[:1], 1e-4)
    np.testing.assert_array_equal(model.parameters["w2"].value, numpy_helper.to_array(network().graph.initializer[1]))
    assert owned_bytes(model) == 0


@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_a_file_that_is_replaced_or_removed_reads_as_it_was(how: str, path: Path, wanted: np.ndarray) -> None:
    model = nbcnn.load(path)
    if how == "replaced":
        onnx.save(network(seed=1), path.with_name("other.onnx"))
        os.replace(path.with_name("other.onnx"), path)
    else:
        path.unlink()
    assert_close(model.run(None, {"x": X})[0], wanted, 1e-4)
    model.save(path)
    assert onnx.load(path) == network()


@pytest.mark.parametrize("how", ["shorter", "another", "touched"])
def test_a_file_that_is_written_to_where_it_lies_is_an_error(how: str, path: Path) -> None:
    """onnx.save does so. The system would end the process that reads where there is no file any more."""
    model = nbcnn.load(path)
    if how == "shorter":
        path.write_bytes(b"")
    elif how == "another":
        onnx.save(network(seed=1), path)
    os.utime(path, ns=(0, 0))
    needed = r"m\.onnx: was written to after it was loaded"
    with pytest.raises(FileError, match=needed):
        model.run(None, {"x": X})
    with pytest.raises(FileError, match=needed):
        model.save(path.with_name("copy.onnx"))
    with pytest.raises(FileError, match=needed):
        model.parameters["w1"].value  # noqa: B018
    assert not path.with_name("copy.onnx").exists()


def test_what_is_packed_needs_the_file_no_more(path: Path, wanted: np.ndarray) -> None:
    model = nbcnn.load(path)
    model.run(None, {"x": X})
    path.write_bytes(b"")
    assert_close(model.run(None, {"x": X})[0], wanted, 1e-4)


def test_training_has_the_weights_in_memory_and_saves_over_its_file(path: Path) -> None:
    model, before = nbcnn.load(path), network()
    trainer = nbcnn.Trainer(model, optimizer=nbcnn.SGD(lr=0.05), freeze=["w1"])
    trainer.step(X, np.array([1, 2]))
    trained = sum(p.data.nbytes for name, p in model.parameters.items() if name != "w1")
    assert trained <= owned_bytes(model) <= trained + 64
    model.save(path)
    saved = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    for tensor in before.graph.initializer:
        assert np.array_equal(saved[tensor.name], numpy_helper.to_array(tensor)) == (tensor.name == "w1"), tensor.name
    assert_close(model.run(None, {"x": X})[0], onnxruntime_run(path, {"x": X})[0], 1e-4)
    trainer.step(X, np.array([1, 2]))
    model.save(path)
    assert_close(model.run(None, {"x": X})[0], onnxruntime_run(path, {"x": X})[0], 1e-4)


def test_weights_beside_the_model(path: Path, wanted: np.ndarray) -> None:
    onnx.save(network(), path, save_as_external_data=True, location="w.data", size_threshold=0)
    model = nbcnn.load(path)
    assert {name for name, array in model.graph.initializers.items() if lies_in_file(array)} == set(WEIGHTS)
    data = path.with_name("w.data")
    shutil.copy(data, path.with_name("copy"))
    os.replace(path.with_name("copy"), data)
    assert_close(model.run(None, {"x": X})[0], wanted, 1e-4)
    model.save(path)
    assert_close(onnxruntime_run(path, {"x": X})[0], wanted, 1e-4)
    again = nbcnn.load(path)
    (path.with_name("m.onnx.data")).write_bytes(b"")
    with pytest.raises(FileError, match=r"m\.onnx\.data: was written to after it was loaded"):
        again.run(None, {"x": X})


def test_other_types_are_read_again_too(tmp_path: Path) -> None:
    path, halves, rounded = tmp_path / "half.onnx", network(), network()
    for half, full in zip(halves.graph.initializer, rounded.graph.initializer, strict=True):
        array = numpy_helper.to_array(half).astype(np.float16)
        half.CopyFrom(numpy_helper.from_array(array, half.name))
        full.CopyFrom(numpy_helper.from_array(array.astype(np.float32), full.name))
    for info in (*halves.graph.input, *halves.graph.output):
        info.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(halves, path)
    model = nbcnn.load(path)
    found = model.run(None, {"x": X.astype(np.float16)})[0]
    wanted = onnxruntime_run(rounded, {"x": X.astype(np.float16).astype(np.float32)})[0]
    assert_close(found, wanted.astype(np.float16), 1e-3)
    assert owned_bytes(model) == 0
    model.save(path)
    assert onnx.load(path) == halves


def test_where_files_cannot_be_mapped(path: Path, wanted: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sources, external):
        monkeypatch.setattr(module, "MAPPED", False)
    beside = path.with_name("beside.onnx")
    onnx.save(network(), beside, save_as_external_data=True, location="w.data", size_threshold=0)
    for source in (path, beside):
        model = nbcnn.load(source)
        assert not any(lies_in_file(array) for array in model.graph.initializers.values())
        assert_close(model.run(None, {"x": X})[0], wanted, 1e-4)
        model.save(source)
        assert_close(onnxruntime_run(source, {"x": X})[0], wanted, 1e-4)


# --- the parts


def test_an_array_is_read_at_any_offset(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    path.write_bytes(b"odd" + np.arange(24, dtype=np.float32).tobytes())
    array = FileMap(path).array(np.dtype(np.float32), (4, 6), 3)
    copy = fresh(array)
    np.testing.assert_array_equal(copy, np.arange(24).reshape(4, 6))
    assert copy.flags.aligned and copy.flags.writeable and not array.flags.writeable
    np.testing.assert_array_equal(fresh(array[1:3]), array[1:3])
    with pytest.raises(ValueError, match="whole runs"):
        fresh(array[:, 1])
    assert fresh(copy) is copy


def test_what_cannot_be_mapped(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match="is empty"):
        FileMap(tmp_path / "empty")
    with pytest.raises(OSError, match="No such file"):
        FileMap(tmp_path / "missing")
    with pytest.raises(OSError, match="No such device"):  # a folder opens, but has no pages
        FileMap(tmp_path)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted in /proc")
def test_files_are_closed(path: Path) -> None:
    def opened() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    before = opened()
    models = [nbcnn.load(path) for _ in range(5)]
    assert opened() == before + 5
    del models
    assert opened() == before


def test_who_holds_the_master_keeps_it() -> None:
    """A plan that reads a weight at every run and one that only packs it see the same array."""
    parameter = Parameter("w", np.ones(4, np.float16), np.dtype(np.float32))
    held = parameter.data
    parameter.release()
    assert parameter.is_master(held) and parameter.data is held
    parameter.release()
    parameter.own()
    assert parameter.data is held
    parameter.release()
    held[:] = 5
    np.testing.assert_array_equal(parameter.value, 5)
    del held
    np.testing.assert_array_equal(parameter.value, 5)
