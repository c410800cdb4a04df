"""What CUDA kernels compile to, with no GPU: every kernel that the tests of tests/cuda launch, with the types that
plans give it, to PTX for compute capabilities 8.0 and 9.0, and by NVIDIA's assembler (ptxas), where that is installed,
to registers, shared memory and spills.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.options import ROOT, add_out
from bench.report import table
from nbcnn.report.machine import describe, heading
from nbcnn.report.write import write_json

__all__ = ["Assembled", "Compiled", "assemble", "compile_kernels", "configure", "problem", "run"]

READABLE = ".version 8.5"
"""The PTX version that kernels are given to the assembler as, which may be older than the compiler; they use nothing
newer.
"""


@dataclass(frozen=True)
class Compiled:
    """kernel: module and function. capability: such as "9.0"."""

    kernel: str
    signature: str
    capability: str
    ptx: str

    @property
    def family(self) -> str:
        return self.kernel.partition(".")[0]


@dataclass(frozen=True)
class Assembled:
    """registers: of a thread. shared: bytes of a block. spilled: bytes stored to and loaded from local memory. stack:
    bytes of local memory.
    """

    kernel: str
    signature: str
    capability: str
    registers: int
    shared: int
    stack: int
    spilled: int


def configure(parser: argparse.ArgumentParser) -> None:
    add_out(parser, "ptx")


def run(args: argparse.Namespace) -> int:
    reason = problem()
    if reason or shutil.which("ptxas") is None:
        print(reason or "ptxas is not installed", file=sys.stderr)
        return 1
    machine = describe(args.threads, ceilings=False)
    print(heading(machine) + "\n")
    rows = assemble(compile_kernels())
    most = {}
    for row in sorted(rows, key=lambda r: (r.spilled, r.stack, r.registers)):
        most[row.kernel] = row
    cells = [[r.kernel, r.capability, r.registers, r.shared, r.stack, r.spilled] for _, r in sorted(most.items())]
    print(table(["kernel", "capability", "registers", "shared bytes", "stack bytes", "spilled bytes"], cells))
    print(f"\n{len(rows)} kernels by types and capabilities; of each the one with most registers")
    report = {"benchmark": "ptx", "machine": machine, "rows": [asdict(row) for row in rows]}
    print(f"report: {write_json(args.out, report)}")
    return int(any(row.spilled for row in rows))


def problem() -> str | None:
    """Why kernels cannot be compiled here, in Numba's words."""
    code = "import numpy as np; from nbcnn.kernels.cuda import copy; copy.fill(np.zeros(4, np.float32), np.float32(1))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=_environment()
    )
    return found.stderr.strip().splitlines()[-1] if found.returncode else None


def compile_kernels() -> list[Compiled]:
    """Run the tests of tests/cuda with nothing but a compiler behind them. Raises RuntimeError where one fails."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "compiled.json")
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:xdist", "-p", "no:cacheprovider"]
        found = subprocess.run(
            [*command, str(ROOT / "tests" / "cuda")],
            capture_output=True,
            text=True,
            check=False,
            env=_environment(NBCNN_PTX=str(target)),
            cwd=ROOT,
        )
        if found.returncode:
            raise RuntimeError(found.stdout[-4000:] + found.stderr[-2000:])
        rows = json.loads(target.read_text())
    return [Compiled(name, signature, ".".join(map(str, capability)), ptx) for name, signature, capability, ptx in rows]


def _environment(**names: str) -> dict[str, str]:
    return os.environ | {"NBCNN_CUDA": "ptx"} | names


def assemble(kernels: Iterable[Compiled]) -> list[Assembled]:
    """What the assembler says of each. Raises RuntimeError where it refuses one."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        numbered: Sequence[tuple[int, Compiled]] = list(enumerate(kernels))
        return list(pool.map(lambda pair: _assemble(Path(folder, f"{pair[0]}.ptx"), pair[1]), numbered))


def _assemble(source: Path, kernel: Compiled) -> Assembled:
    source.write_text(re.sub(r"^\.version \d+\.\d+", READABLE, kernel.ptx, flags=re.MULTILINE))
    target = f"-arch=sm_{kernel.capability.replace('.', '')}"
    command = ["ptxas", "-v", target, str(source), "-o", os.devnull]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        raise RuntimeError(f"{kernel.kernel}{kernel.signature}: {found.stderr}")

    def total(pattern: str) -> int:
        return sum(int(number) for number in re.findall(pattern, found.stderr))

    return Assembled(
        kernel.kernel,
        kernel.signature,
        kernel.capability,
        registers=total(r"Used (\d+) registers"),
        shared=total(r"(\d+) bytes smem"),
        stack=total(r"(\d+) bytes stack frame"),
        spilled=total(r"(\d+) bytes spill (?:stores|loads)"),
    )
