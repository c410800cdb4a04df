"""nbcnn export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx

import nbcnn

Cli = Callable[..., object]
Fails = Callable[..., str]


def test_another_opset(cli: Cli, lenet: Path, tmp_path: Path) -> None:
    result = cli("export", lenet, tmp_path / "new.onnx", "--opset", 21)
    assert "opset 21" in result.stdout  # type: ignore[attr-defined]
    assert onnx.load(tmp_path / "new.onnx").opset_import[0].version == 21


def test_nothing_asked_is_the_same_file(cli: Cli, lenet: Path, tmp_path: Path) -> None:
    cli("export", lenet, tmp_path / "same.onnx")
    assert (tmp_path / "same.onnx").read_bytes() == lenet.read_bytes()


def test_changes(cli: Cli, lenet: Path, tmp_path: Path) -> None:
    cli("export", lenet, tmp_path / "a.onnx", "--batch", 4, "--rename", "input=x", "--rename", "output=y")
    model = nbcnn.load(tmp_path / "a.onnx")
    assert [(p.name, p.shape) for p in (*model.inputs, *model.outputs)] == [("x", (4, 1, 8, 8)), ("y", (4, 10))]
    cli("export", tmp_path / "a.onnx", tmp_path / "b.onnx", "--batch", "N", "--fc-to-conv", "--fold-batch-norm")
    assert nbcnn.load(tmp_path / "b.onnx").outputs[0].shape == ("N", 10, None, None)
    cli("export", lenet, tmp_path / "c.onnx", "--cut", "/conv1/Conv")
    assert [n.op for n in nbcnn.load(tmp_path / "c.onnx").graph.nodes] == ["Conv"]


def test_what_goes_wrong(fails: Fails, cli: Cli, lenet: Path, tmp_path: Path) -> None:
    assert "no node and no computed value 'z'" in fails("export", lenet, tmp_path / "z.onnx", "--cut", "z")
    assert "opset 17 cannot be converted to 5" in fails("export", lenet, tmp_path / "z.onnx", "--opset", 5)
    assert "there is no folder" in fails("export", lenet, tmp_path / "none" / "z.onnx")
    assert "OLD=NEW" in cli("export", lenet, tmp_path / "z.onnx", "--rename", "x").stderr  # type: ignore[attr-defined]
    assert not (tmp_path / "z.onnx").exists()
