"""Every SIMD width that this machine can run, each in a process of its own, against the float64 oracle."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import simd_cases

from nbcnn.kernels.cpu.width import host_width

CASES = Path(simd_cases.__file__)


def run(width: str, *command: str) -> subprocess.CompletedProcess[str]:
    """A Python process that asks for this width; warnings are errors there too."""
    environment = {**os.environ, "NBCNN_SIMD": width}
    return subprocess.run(
        [sys.executable, "-W", "error", *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.parametrize("width", [128, 256, 512])
def test_convolutions_and_products_at_width(width: int) -> None:
    if width > 8 * host_width():
        pytest.skip(f"this processor has no registers of {width} bits")
    types = ["float32", "float64"] if width == 128 else ["float32"]
    done = run(str(width), str(CASES), *types)
    assert done.returncode == 0, done.stderr
    kinds = [kind.__name__ for *_, kind in (*simd_cases.CONVOLUTIONS.values(), *simd_cases.PRODUCTS.values())]
    assert done.stdout.split() == [str(width), str(sum(kind in types for kind in kinds) + len(simd_cases.BLOCKS))]


@pytest.mark.parametrize("width", ["64", "1024", "wide"])
def test_a_width_that_nothing_has(width: str) -> None:
    done = run(width, "-c", "import nbcnn.kernels.cpu.width")
    assert done.returncode == 1
    assert f"NBCNN_SIMD={width!r}: this machine runs 128 up to {8 * host_width()}" in done.stderr.splitlines()[-1]


def test_a_wrong_width_on_the_command_line() -> None:
    done = run("99", "-c", "from nbcnn.cli.main import main; main()", "train")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("nbcnn: error: NBCNN_SIMD='99': this machine runs 128 up to")
