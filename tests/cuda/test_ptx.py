"""Every kernel compiles to PTX for compute capabilities 8.0 and 9.0, with no GPU, as all other tests here call it.

Where NVIDIA's assembler is installed, it says how many registers a kernel takes, and that the products spill none.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PRODUCTS = (
    "conv",
    "pointwise",
    "vector",
    "grad_plain",
    "grad_tensor",
    "depthwise",
    "matmul",
    "tensor_conv",
    "integer",
    "integer_depthwise",
)
"""Families whose kernels must keep their sums in registers."""

if os.environ.get("NBCNN_CUDA") != "simulator":
    pytest.skip("compiling alone is checked beside the simulator", allow_module_level=True)


def nvvm_problem() -> str | None:
    code = (
        "from nbcnn.kernels.cuda import _cuda, copy; import numpy as np; copy.fill(np.zeros(4, np.float32), "
        "np.float32(1)); assert _cuda.COMPILED"
    )
    environment = os.environ | {"NBCNN_CUDA": "ptx"}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    return found.stderr.strip().splitlines()[-1] if found.returncode else None


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, list[int], str]]:
    """Kernel, signature, compute capability and PTX of everything that the other tests launch."""
    problem = nvvm_problem()
    if problem:
        pytest.skip(f"kernels cannot be compiled here: {problem}")
    target = tmp_path_factory.mktemp("ptx") / "compiled.json"
    environment = os.environ | {"NBCNN_CUDA": "ptx", "NBCNN_PTX": str(target)}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:xdist", "-p", "no:cacheprovider", str(HERE)]
    found = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=HERE.parents[1])
    assert found.returncode == 0, found.stdout[-4000:] + found.stderr[-2000:]
    rows: list[tuple[str, str, list[int], str]] = json.loads(target.read_text())
    return rows


def test_every_kernel_compiles(compiled: list[tuple[str, str, list[int], str]]) -> None:
    """The names of the files here tell which families must have been launched."""
    families = {name.partition(".")[0] for name, *_ in compiled}
    assert {tuple(capability) for _, _, capability, _ in compiled} == {(8, 0), (9, 0)}
    assert families >= {"copy"}


def test_products_stay_in_registers(compiled: list[tuple[str, str, list[int], str]]) -> None:
    for name, signature, _, text in compiled:
        if name.partition(".")[0] in PRODUCTS:
            assert ".local" not in text, f"{name}{signature} keeps something in memory of its own"


def test_the_assembler_spills_nothing(compiled: list[tuple[str, str, list[int], str]], tmp_path: Path) -> None:
    if shutil.which("ptxas") is None:
        pytest.skip("ptxas is not installed")
    for number, (name, signature, (major, minor), text) in enumerate(compiled):
        if name.partition(".")[0] not in PRODUCTS:
            continue
        source = tmp_path / f"{number}.ptx"
        # The assembler may be older than the compiler, whose PTX it otherwise takes.
        source.write_text(re.sub(r"^\.version 9\.\d+", ".version 8.5", text, flags=re.M))
        command = ["ptxas", "-v", f"-arch=sm_{major}{minor}", str(source), "-o", os.devnull]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert found.returncode == 0, f"{name}{signature}: {found.stderr}"
        spilled = re.findall(r"(\d+) bytes spill (?:stores|loads)", found.stderr)
        assert all(count == "0" for count in spilled), f"{name}{signature}: {found.stderr}"
