"""Compiled kernels on disk: every kernel and types have a file of their own."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace

from nbcnn.kernels.cuda.disk import Files


def files(folder: Path) -> Files:
    return Files(SimpleNamespace(_index_name="kernel-12.py311.nbi", _cache_path=str(folder), _dump=pickle.dumps))


def test_processes_that_save_at_once(tmp_path: Path) -> None:
    """Neither knew of the other's entry when it saved its own."""
    one, other = files(tmp_path), files(tmp_path)
    keys = [(types, ("13.0", (9, 0)), "stamp") for types in ("float32", "float64")]
    assert one.load(keys[0]) is None and other.load(keys[1]) is None
    one.save(keys[0], {"name": "of float32"})
    other.save(keys[1], {"name": "of float64"})
    for reader in (one, other, files(tmp_path)):
        assert [reader.load(key)["name"] for key in keys] == ["of float32", "of float64"]
    one.flush()
    assert other.load(keys[1]) is None and not list(tmp_path.iterdir())


def test_another_stamp_is_compiled_again_and_overwritten(tmp_path: Path) -> None:
    kept = files(tmp_path)
    kept.save(("float32", "old"), 1)
    assert kept.load(("float32", "new")) is None
    kept.save(("float32", "new"), 2)
    assert kept.load(("float32", "new")) == 2 and len(list(tmp_path.iterdir())) == 1
