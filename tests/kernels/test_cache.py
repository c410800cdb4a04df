"""The disk cache of compiled kernels: it notices edits of other files, and does without a folder to write to."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nbcnn
from nbcnn.kernels.cpu import cache as kept_code
from nbcnn.kernels.cpu.width import WIDTH_BYTES

PACKAGE = Path(nbcnn.__file__).parent
KERNELS = PACKAGE / "kernels"

PROBE = """
from nbcnn.kernels.cpu.jit import small_kernel
from nbcnn.kernels.cpu.probe_middle import scaled

@small_kernel
def probe(x):
    x[0] = scaled(x[0])
"""
MIDDLE = """
from nbcnn.kernels.cpu.jit import serial
from nbcnn.kernels.cpu.probe_inner import FACTOR

@serial
def scaled(v):
    return v * FACTOR
"""
MAIN = """
import numpy as np
from nbcnn.kernels.cpu.probe import probe
x = np.array([2.0])
probe(x)
hits = sum(probe.stats.cache_hits.values())
print(x[0], hits)
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with a copy of the package in which there is one kernel more, over two helpers in other files."""
    shutil.copytree(PACKAGE, tmp_path / "nbcnn", ignore=shutil.ignore_patterns("__pycache__"))
    cpu = tmp_path / "nbcnn" / "kernels" / "cpu"
    (cpu / "probe.py").write_text(PROBE)
    (cpu / "probe_middle.py").write_text(MIDDLE)
    (cpu / "probe_inner.py").write_text("FACTOR = 3\n")
    return tmp_path


def run(folder: Path, cache: Path, before: str = "", **more: str) -> list[str]:
    """The result of the probe, and how many kernels came from the cache. before: statements to run first."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": str(cache), **more}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # two edits in one second must not look alike to Python itself
    command = [sys.executable, "-W", "error", "-c", before + MAIN]
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_an_edit_of_a_helper_is_noticed(copy: Path) -> None:
    cache = copy / "cache"
    assert run(copy, cache) == ["6.0", "0"]
    assert run(copy, cache) == ["6.0", "1"]
    (copy / "nbcnn" / "kernels" / "cpu" / "probe_inner.py").write_text("FACTOR = 5\n")
    assert run(copy, cache) == ["10.0", "0"]
    assert run(copy, cache) == ["10.0", "1"]


def test_an_edit_replaces_what_was_kept(copy: Path) -> None:
    cache = copy / "cache"
    run(copy, cache)
    kept = sorted(cache.rglob("*.*"))
    (copy / "nbcnn" / "kernels" / "cpu" / "probe.py").write_text(PROBE.replace("x[0] = ", "x[0] = 1 + "))
    assert run(copy, cache) == ["7.0", "0"]
    assert sorted(cache.rglob("*.*")) == kept


UPGRADES = {
    "Numba": 'import numba; numba.__version__ = "99.0"',
    "llvmlite": 'import numba, llvmlite; llvmlite.__version__ = "99.0"',
    "a setting": "import numba; numba.config.OPT = numba.core.config._OptLevel(1)",
}


@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES)
def test_an_upgrade_is_noticed(copy: Path, upgrade: str) -> None:
    cache = copy / "cache"
    assert run(copy, cache) == ["6.0", "0"]
    assert run(copy, cache, upgrade) == ["6.0", "0"]
    assert run(copy, cache, upgrade) == ["6.0", "1"]


@pytest.mark.parametrize("keep", [0, 70, 500])
def test_a_damaged_file_is_replaced(copy: Path, keep: int) -> None:
    cache = copy / "cache"
    run(copy, cache)
    (file,) = cache.rglob("*.nbc")
    file.write_bytes(file.read_bytes()[:keep])
    assert run(copy, cache) == ["6.0", "0"]
    assert run(copy, cache) == ["6.0", "1"]


def test_nothing_is_written_into_the_installation(copy: Path) -> None:
    """So one that can only be read works too: what is compiled is kept in the user's cache folder."""
    before = sorted((copy / "nbcnn").rglob("*"))
    home = {"HOME": str(copy / "home"), "USERPROFILE": str(copy / "home"), "NUMBA_CACHE_DIR": "", "XDG_CACHE_HOME": ""}
    assert run(copy, copy, **home) == ["6.0", "0"]
    assert run(copy, copy, **home) == ["6.0", "1"]
    assert sorted((copy / "nbcnn").rglob("*")) == before
    assert list((copy / "home" / ".cache" / "nbcnn").rglob("*.nbc"))


def test_widths_have_folders_of_their_own(copy: Path) -> None:
    cache = copy / "cache"
    assert run(copy, cache) == ["6.0", "0"]
    assert [p.name for p in (cache / "nbcnn").iterdir()] == [f"simd{8 * WIDTH_BYTES}"]
    if WIDTH_BYTES > 16:
        assert run(copy, cache, NBCNN_SIMD="128") == ["6.0", "0"]
        assert {p.name for p in (cache / "nbcnn").iterdir()} == {f"simd{8 * WIDTH_BYTES}", "simd128"}


def forbidden(tmp_path: Path) -> Path:
    if os.name == "nt" or os.geteuid() == 0:
        pytest.skip("this user may write to any folder")
    (tmp_path / "locked").mkdir(mode=0o500)
    return tmp_path / "locked"


def impossible(tmp_path: Path) -> Path:
    if not Path("/proc/self").exists():
        pytest.skip("there is no /proc, in which no folder can be made")
    return Path("/proc/nowhere")


@pytest.mark.parametrize("place", [forbidden, impossible])
def test_a_folder_that_cannot_be_written_costs_only_time(copy: Path, place: object) -> None:
    folder: Path = place(copy)  # type: ignore[operator]
    assert run(copy, folder) == ["6.0", "0"]
    assert run(copy, folder) == ["6.0", "0"]


def test_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kept_code.numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kept_code.cache_folder() == tmp_path / "nbcnn" / f"simd{8 * WIDTH_BYTES}"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert kept_code.cache_folder().is_relative_to(Path.home())


def imported(file: Path) -> set[Path]:
    """Files of the kernel package that a file imports, by Python's own grammar."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    found = set()
    for name in names:
        if name.startswith("nbcnn.kernels"):
            path = PACKAGE.parent.joinpath(*name.split("."))
            found |= {p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()}
    return found


@pytest.mark.parametrize("file", sorted(KERNELS.rglob("*.py")), ids=lambda path: path.stem)
def test_no_import_is_overlooked(file: Path) -> None:
    assert imported(file) <= set(kept_code._imports(file.resolve()))
