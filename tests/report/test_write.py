"""Reports on disk."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from nbcnn.errors import FileError
from nbcnn.report.write import as_json, write_json, write_text


def test_folders_are_made_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = write_text(tmp_path / "new" / "page.html", "é")
    assert path.read_bytes() == "é".encode()
    assert list(path.parent.iterdir()) == [path]


def test_an_old_file_stays_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_text(tmp_path / "report.json", "old")

    def full(self: Path, *args: object, **kwargs: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(FileError, match=r"report\.json: cannot be written: No space left on device"):
        write_text(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_what_json_has_no_word_for_is_null(tmp_path: Path) -> None:
    content = {"a": math.inf, "b": [math.nan, 1.5], "c": (1, {"d": -math.inf})}
    assert json.loads(as_json(content)) == {"a": None, "b": [None, 1.5], "c": [1, {"d": None}]}
    assert write_json(tmp_path / "r.json", content).read_text().endswith("}\n")
