"""Files that cannot be read or written: one clear line each, and nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import helper

from nbcnn.errors import FileError, ModelError, NbcnnError
from nbcnn.onnx_io import read_model, write_model

Maker = Callable[..., onnx.ModelProto]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "is not an ONNX file"),
        (b"<html><body>Not found</body></html>", "is not an ONNX file"),
        (b"hello", "is not an ONNX file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\x08\x07" + bytes(30), "is damaged or cut short"),
    ],
)
def test_not_onnx(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"m.onnx: .*{words}"):
        read_model(path)


def test_every_truncation_is_noticed(linear: Maker, tmp_path: Path) -> None:
    whole = linear().SerializeToString()
    path, messages = tmp_path / "m.onnx", set()
    inside = whole.index(b"the weight")
    for size in range(1, len(whole)):
        path.write_bytes(whole[:size])
        try:
            read_model(path)
        except ModelError as error:
            message = str(error)
            assert "\n" not in message
            messages.add(message.split(":")[1].strip().split(" ")[0])
            if size == inside:
                assert f"is cut short: it has {size} bytes of at least" in message
        else:  # only what comes after the graph may be missing, which makes another valid model
            assert onnx.ModelProto.FromString(whole[:size]).graph == linear().graph
    assert "is" in messages


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"nothing.onnx: no such file$"):
        read_model(tmp_path / "nothing.onnx")
    with pytest.raises(FileError, match="cannot be read: Is a directory"):
        read_model(tmp_path)


def test_the_checkers_reason_on_one_line(linear: Maker) -> None:
    model = linear()
    model.graph.node[0].op_type = "Gemmm"
    with pytest.raises(
        ModelError, match=r"onnx's checker refuses it: No Op registered for Gemmm .* Name: gemm "
    ) as info:
        read_model(model)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("change", ["short", "order", "future"])
def test_refused(linear: Maker, change: str) -> None:
    model = linear()
    if change == "short":
        model.graph.initializer[0].raw_data = b"123"
    elif change == "order":
        model.graph.node[0].input[0] = "y"
    else:
        model.ir_version = 999
    with pytest.raises(ModelError, match="checker refuses it"):
        read_model(model.SerializeToString())


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("apart", [True, False])
def test_disk_full(linear: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, apart: bool) -> None:
    path = tmp_path / "m.onnx"
    graph = read_model(linear())
    write_model(graph, path, external=apart)
    before = snapshot(tmp_path)

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    graph.initializers["w"] = graph.initializers["w"] + 1
    with pytest.raises(FileError, match=r"m.onnx: cannot be written: No space left on device; nothing was changed$"):
        write_model(graph, path, external=apart)
    assert snapshot(tmp_path) == before


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is missing")
def test_full_device(linear: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that the system itself refuses."""
    graph = read_model(linear())
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda self, mode: opened(Path("/dev/full"), "wb", buffering=0))
    with pytest.raises(FileError, match="No space left on device"):
        write_model(graph, tmp_path / "m.onnx")
    assert not snapshot(tmp_path)


def test_interrupt_leaves_nothing(linear: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_model(read_model(linear()), tmp_path / "m.onnx")
    assert not snapshot(tmp_path)


def test_the_checker_runs_before_the_old_file_goes(linear: Maker, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    graph = read_model(linear())
    write_model(graph, path)
    before = snapshot(tmp_path)
    graph.nodes[0].inputs[0] = "nowhere"
    with pytest.raises(ModelError, match=r"m.onnx: onnx's checker refuses it: .*nowhere"):
        write_model(graph, path)
    assert snapshot(tmp_path) == before


def test_places_that_cannot_be_written(linear: Maker, tmp_path: Path) -> None:
    graph = read_model(linear())
    with pytest.raises(FileError, match=r"m.onnx: cannot be written: there is no folder .*absent$"):
        write_model(graph, tmp_path / "absent" / "m.onnx")
    with pytest.raises(FileError, match="cannot be written: it is not a file"):
        write_model(graph, tmp_path)
    with pytest.raises(NbcnnError, match="cannot be written: it is not a file"):
        write_model(graph, "/dev/null")


def test_unwritable_folder(linear: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated, because root may write anywhere."""

    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(FileError, match=r"m.onnx: cannot be written: Permission denied"):
        write_model(read_model(linear()), tmp_path / "m.onnx")


def test_the_old_files_permissions_stay(linear: Maker, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    graph = read_model(linear())
    write_model(graph, path)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()
    path.chmod(0o640)
    write_model(graph, path)
    assert path.stat().st_mode & 0o777 == 0o640


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_input_may_be_named_like_a_file(identity_model: Maker, tmp_path: Path) -> None:
    """Names from a file go into messages whole, also long ones."""
    model = identity_model([helper.make_node("Nope" * 200, ["x"], ["y"])])
    with pytest.raises(ModelError) as info:
        read_model(model)
    assert len(str(info.value)) < 500


def test_an_opset_that_nobody_knows(linear: Maker, tmp_path: Path) -> None:
    model = linear()
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", 999))
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"m.onnx: .*opset 999.* is the newest that this version of onnx knows"):
        read_model(path)
