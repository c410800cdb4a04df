"""What the source distribution and the wheel hold, and that the wheel works where the sources are not."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

CONVOLVE = """
import sys
import numpy as np
import nbcnn

assert nbcnn.__file__.startswith(sys.prefix), nbcnn.__file__
model = nbcnn.zoo.lenet()
(given,) = model.inputs
shape = [size if isinstance(size, int) else 2 for size in given.shape]
y = model(np.ones(shape, np.float32))
assert y.shape == (shape[0], 10), y.shape
assert np.isfinite(y).all() and y.std() > 0
"""


def check_call(command: list[str | Path], folder: Path) -> str:
    """The command's output; where it fails, the test fails with all that it said."""
    process = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert process.returncode == 0, process.stdout
    return process.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution, and the wheel that was built from it, offline.

    The build runs in a copy: it writes into the folder that it runs in, and would believe the file list that an earlier
    build left there.
    """
    copy, out = tmp_path_factory.mktemp("source") / "nbcnn", tmp_path_factory.mktemp("dist")
    leave_out = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "runs")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=leave_out)
    check_call([sys.executable, "-m", "build", "--no-isolation", "--outdir", out, copy], out)
    (sdist,) = out.glob("*.tar.gz")
    (wheel,) = out.glob("*.whl")
    return sdist, wheel


def sources() -> set[str]:
    """Every file of the package, as the wheel must hold it."""
    files = (file for file in (ROOT / "nbcnn").rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {file.relative_to(ROOT).as_posix() for file in files}


def test_wheel_holds_the_package_and_nothing_else(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        names = [name for name in wheel.namelist() if not name.endswith("/")]
    release = built[1].name.removesuffix("-py3-none-any.whl")
    assert {name.partition("/")[0] for name in names} == {"nbcnn", f"{release}.dist-info"}
    assert {name for name in names if name.startswith("nbcnn/")} == sources()
    assert any(name.endswith("/LICENSE") for name in names)


def test_sdist_holds_what_a_packager_needs(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as sdist:
        names = {member.name.partition("/")[2] for member in sdist.getmembers() if member.isfile()}
    wanted = ["CHANGELOG.md", "LICENSE", "Makefile", "README.md", "pyproject.toml", "tests/test_packaging.py"]
    assert sources() | set(wanted) <= names
    tops = {name.partition("/")[0] for name in names}
    assert tops.isdisjoint({"kernels", "onnx_io", "cli"}), "the links must not become copies"


def test_installed_wheel_runs_a_convolution(built: tuple[Path, Path], tmp_path: Path) -> None:
    """In an environment of its own, which borrows only the dependencies of this one, so that nothing is downloaded."""
    home = tmp_path / "environment"
    venv.create(home, symlinks=True, with_pip=False)
    python = home / "bin" / "python"
    here = sysconfig.get_paths()
    there = Path(sysconfig.get_path("purelib", "venv", {"base": str(home)}))
    check_call(
        [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", built[1]], tmp_path
    )
    # A .pth file is not followed inside the folder that it names: this environment's own editable nbcnn stays out.
    borrowed = dict.fromkeys([here["purelib"], here["platlib"]])
    (there / "borrowed.pth").write_text("\n".join(borrowed) + os.linesep)

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    check_call([python, "-W", "error", "-c", CONVOLVE], elsewhere)
    assert "Usage" in check_call([home / "bin" / "nbcnn", "--help"], elsewhere)
