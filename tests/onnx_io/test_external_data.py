"""Weights beside the model, written and read by onnx itself where it can be the other side."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from nbcnn.errors import FileError, ModelError
from nbcnn.onnx_io import read_model, to_proto, write_model, writer

Maker = Callable[..., onnx.ModelProto]


def save_apart(model: onnx.ModelProto, path: Path, location: str = "weights.bin") -> Path:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    onnx.save(copy, path, save_as_external_data=True, location=location, size_threshold=0)
    return path


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_read_what_onnx_wrote(linear: Maker, tmp_path: Path, dtype: str) -> None:
    model = linear(dtype)
    graph = read_model(save_apart(model, tmp_path / "m.onnx"))
    for tensor in model.graph.initializer:
        np.testing.assert_array_equal(graph.initializers[tensor.name], numpy_helper.to_array(tensor), strict=True)
        assert graph.initializers[tensor.name].flags.owndata
    assert to_proto(graph) == model


def test_onnx_reads_what_we_wrote(linear: Maker, tmp_path: Path) -> None:
    graph = read_model(save_apart(linear(), tmp_path / "m.onnx"))
    graph.initializers["b"] = np.array([4, 5, 6], np.float32)
    (tmp_path / "elsewhere").mkdir()
    out = tmp_path / "elsewhere" / "out.onnx"
    write_model(graph, out)
    assert sorted(os.listdir(out.parent)) == ["out.onnx", "out.onnx.data"]
    bare = onnx.load(out, load_external_data=False)
    keys = {entry.key: entry.value for entry in bare.graph.initializer[1].external_data}
    assert keys == {"location": "out.onnx.data", "offset": "4096", "length": "12"}
    read = onnx.load(out)
    np.testing.assert_array_equal(numpy_helper.to_array(read.graph.initializer[1]), [4, 5, 6])
    assert read.graph.node == linear().graph.node


def test_inside_or_beside_as_asked(linear: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SMALL", 16)
    graph = read_model(linear())
    write_model(graph, tmp_path / "apart.onnx", external=True)
    bare = onnx.load(tmp_path / "apart.onnx", load_external_data=False)
    assert [bool(tensor.external_data) for tensor in bare.graph.initializer] == [True, False]
    apart = read_model(tmp_path / "apart.onnx")
    write_model(apart, tmp_path / "whole.onnx", external=False)
    assert not (tmp_path / "whole.onnx.data").exists()
    assert onnx.load(tmp_path / "whole.onnx") == linear()


def test_too_large_for_one_file(linear: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "PROTOBUF_LIMIT", 20)
    monkeypatch.setattr(writer, "SMALL", 0)
    write_model(read_model(linear()), tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx.data").exists()
    assert onnx.load(tmp_path / "m.onnx").graph.node == linear().graph.node


def test_constant_attribute_beside(identity_model: Maker, tmp_path: Path) -> None:
    value = numpy_helper.from_array(np.arange(3, dtype=np.float32), "v")
    constant = onnx.helper.make_node("Constant", [], ["c"], value=value)
    model = identity_model([constant, onnx.helper.make_node("Add", ["x", "c"], ["y"])])
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    onnx.external_data_helper.convert_model_to_external_data(copy, True, "w.bin", 0, convert_attribute=True)
    onnx.save(copy, tmp_path / "m.onnx")
    assert (tmp_path / "w.bin").exists()
    graph = read_model(tmp_path / "m.onnx")
    np.testing.assert_array_equal(graph.nodes[0].attrs["value"], [0, 1, 2])
    assert to_proto(graph) == model


def test_four_bit_numbers_beside(identity_model: Maker, tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    weight = numpy_helper.from_array(np.array([-8, 7, 3]).astype(ml_dtypes.int4), "w4")
    nodes = [onnx.helper.make_node("Cast", ["w4"], ["c"], to=1), onnx.helper.make_node("Add", ["x", "c"], ["y"])]
    model = identity_model(nodes, [weight], opset=21)
    model.ir_version = 10
    graph = read_model(save_apart(model, tmp_path / "m.onnx"))
    assert graph.initializers["w4"].astype(int).tolist() == [-8, 7, 3]
    write_model(graph, tmp_path / "again.onnx")
    assert to_proto(read_model(tmp_path / "again.onnx")) == model


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "link/secret.bin"])
def test_other_folders_are_refused(linear: Maker, tmp_path: Path, location: str) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(100))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    model = linear()
    for tensor in model.graph.initializer:
        onnx.external_data_helper.set_external_data(tensor, location)
        tensor.ClearField("raw_data")
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(FileError, match=r"m.onnx: tensor 'w' points outside the model's folder, to .*: refused$"):
        read_model(folder / "m.onnx")


def test_missing_or_short_data(linear: Maker, tmp_path: Path) -> None:
    path, data = save_apart(linear(), tmp_path / "m.onnx"), tmp_path / "weights.bin"
    data.write_bytes(data.read_bytes()[:10])
    with pytest.raises(FileError, match=r"weights.bin: is cut short: tensor 'w' has 10 of its 24 bytes$"):
        read_model(path)
    data.unlink()
    with pytest.raises(FileError, match=r"m.onnx: tensor 'w' lies in 'weights.bin', which is missing"):
        read_model(path)


def test_content_without_a_folder(linear: Maker, tmp_path: Path) -> None:
    content = save_apart(linear(), tmp_path / "m.onnx").read_bytes()
    with pytest.raises(FileError, match="give the model's path, not its content"):
        read_model(content)


def test_bad_offset(linear: Maker, tmp_path: Path) -> None:
    path = save_apart(linear(), tmp_path / "m.onnx")
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "offset":
            entry.value = "-4"
    path.write_bytes(model.SerializeToString())
    with pytest.raises((ModelError, FileError)):
        read_model(path)


def test_a_failed_swap_restores_the_data(linear: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    graph = read_model(save_apart(linear(), path, "m.onnx.data"))
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)}
    replace = os.replace

    def fail(source: Path, target: Path) -> None:
        if Path(target) == path:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    graph.initializers["w"] = graph.initializers["w"] + 1
    with pytest.raises(FileError, match=r"No space left on device; nothing was changed$"):
        write_model(graph, path)
    assert {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path)} == before
