"""A GPU beside PyTorch (cuDNN) on the same GPU in the same precision: whole networks, training steps, single layers,
what waits for memory, and the ceilings of all that.

Each result is compared before anything is timed, with PyTorch's in full precision: TF32 and fp16 to 1e-2, bf16 to 5e-2
and fp32 to 1e-4 of the norm. In fp16 and bf16 PyTorch's networks run under torch.autocast, for inference also with
weights of that type; training in fp16 scales the loss. Times are the GPU's own, by events in each side's stream, on
data that lies there: PyTorch with contiguous and with channels_last tensors, cuDNN choosing its fastest algorithms, and
at batch 1 also as a CUDA graph, which ours always is; the ratio is to the fastest. Operations are those of direct
convolution, two for a multiply-add, three times those of the forward pass for a training step.

Each section runs in a process of its own, so that a failure of one leaves the others: what failed, or had no time left,
is a line that says why, and the exit code is 1. The report is written after each section, and each section's so far
after each line.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.gpu_tables import in_short, is_measured, section_table
from bench.options import ROOT
from bench.pages import write_page
from nbcnn.devices import PRECISIONS
from nbcnn.errors import DeviceError
from nbcnn.report.machine import describe, heading, usable_cores
from nbcnn.report.timing import Plan
from nbcnn.report.write import write_json

__all__ = ["SECTIONS", "configure", "run"]

SECTIONS = {"ceilings": 1, "inference": 8, "training": 8, "layers": 6, "bandwidth": 4}
"""Section -> its share of the time; what it does not need goes to the next."""
GRACE = 60
"""Seconds that a section gets beyond its share for the line that it has begun."""
Report = dict[str, Any]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", choices=sorted(SECTIONS), default=list(SECTIONS), metavar="SECTION",
                        help=f"of {', '.join(SECTIONS)} (default: all)")  # fmt: skip
    parser.add_argument("--nets", nargs="*", default=[], help="only these networks (default: all)")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["tf32", "fp16"],
                        help="(default: tf32 and fp16, for which the minutes suffice)")  # fmt: skip
    parser.add_argument("--batch", type=int, default=32, help="of single layers")
    parser.add_argument("--minutes", type=float, default=20.0, help="what there is no time for is left out, and said")
    parser.add_argument("--blocks", type=int, default=3, help="timed blocks of each side")
    parser.add_argument("--seconds", type=float, default=0.3, help="about how long a block takes")
    parser.add_argument("--quick", action="store_true", help="few lines, few calls: does it work at all?")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench" / "gpu.json", help="the JSON report")
    parser.add_argument("--part", nargs=2, metavar=("SECTION", "SECONDS"), help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    from nbcnn.devices import find_device

    if args.part:
        return part(args, args.part[0], float(args.part[1]))
    try:
        find_device("cuda")
    except DeviceError as error:
        print(f"python -m bench gpu: {error}", file=sys.stderr)
        return 1
    end = time.monotonic() + 60 * args.minutes
    machine = describe(usable_cores(), ceilings=False)
    report: Report = {"benchmark": "gpu", "machine": machine, "gpu": {}, "settings": settings_of(args), "sections": {}}
    print(heading(machine) + "\n", flush=True)
    chosen = [name for name in SECTIONS if name in args.only]
    with TemporaryDirectory(prefix="nbcnn-bench-") as folder:
        for number, name in enumerate(chosen):
            share = SECTIONS[name] / sum(SECTIONS[later] for later in chosen[number:])
            path = Path(folder) / f"{name}.json"
            found = apart(args, name, share * max(0.0, end - time.monotonic()), path)
            report["gpu"] = report["gpu"] or found.get("gpu", {})
            report["sections"][name] = found["rows"]
            add_shares(report)
            print(f"\n{name}\n\n{section_table(name, found['rows'])}", flush=True)
            written = write_json(args.out, report)
            page = write_page(args.out, report)
    print(f"\nreport: {written}\npage: {page}")
    return int(not all(is_measured(row) for rows in report["sections"].values() for row in rows))


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    left_out = ("run", "out", "part", "benchmark")  # nothing of where things lie on this machine
    return {name: value for name, value in vars(args).items() if name not in left_out}


def apart(args: argparse.Namespace, name: str, seconds: float, path: Path) -> Report:
    """A section in a process of its own: what it has written, with a line about how it ended where it ended badly."""
    command = [sys.executable, "-m", "bench", "gpu", "--out", str(path), "--part", name, str(seconds)]
    command += ["--precision", *args.precision, "--nets", *args.nets, "--batch", str(args.batch)]
    command += ["--blocks", str(args.blocks), "--seconds", str(args.seconds), *(["--quick"] if args.quick else [])]
    problem = ""
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        code = process.wait(timeout=seconds + GRACE)
        if code:
            problem = f"its process ended with code {code}"
    except subprocess.TimeoutExpired:
        problem = f"its process was stopped {GRACE} s after its time was up"
    finally:
        process.kill()
        process.wait()
    found: Report = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"rows": []}
    if problem:
        found["rows"].append({"name": name, "error": problem})
    return found


def part(args: argparse.Namespace, name: str, seconds: float) -> int:
    """Run one section in this process, and write what there is after each line."""
    from bench.gpu_ceilings import describe_gpu
    from bench.gpu_sections import Settings, results
    from nbcnn.kernels.cuda._cuda import SIMULATED

    end = time.monotonic() + seconds
    plan = Plan(blocks=args.blocks, seconds=args.seconds)
    if args.quick or SIMULATED:
        plan = Plan(blocks=1, calls=1 if SIMULATED else 3)
    settings = Settings(tuple(args.precision), tuple(args.nets), args.batch, args.quick, SIMULATED, plan)
    report: Report = {"gpu": describe_gpu(), "rows": []}
    try:
        for row in results(items_of(name, settings), end):
            report["rows"].append(row)
            print(f"{name}: {row['name']}: {in_short(row)}", flush=True)
            write_json(args.out, report)
    except (DeviceError, ImportError) as error:  # of PyTorch
        report["rows"].append({"name": name, "error": str(error)})
        write_json(args.out, report)
    return 0


def items_of(name: str, settings: Any) -> Iterator[Any]:
    """A section's lines; its module is imported here, where PyTorch and the GPU are at hand."""
    if name == "ceilings":
        from bench.gpu_ceilings import ceilings

        return ceilings(settings)
    from bench.gpu_peers import check_torch

    check_torch()
    if name == "layers":
        from bench.gpu_layers import layers

        return layers(settings)
    if name == "bandwidth":
        from bench.gpu_bandwidth import bandwidth

        return bandwidth(settings)
    from bench import gpu_networks

    found: Callable[[Any], Iterator[Any]] = getattr(gpu_networks, name)
    return found(settings)


def add_shares(report: Report) -> None:
    """Shares of the measured ceilings, once there are some."""
    rates = {row["ceiling"]: row["rate"] for row in report["sections"].get("ceilings", []) if "rate" in row}
    for rows in report["sections"].values():
        for row in rows:
            if "gbytes" in row and "copy" in rates:
                row["share"] = row["gbytes"] / rates["copy"]
            for found in (row, *row.values()):
                if isinstance(found, dict) and "gflops" in found and row["precision"] in rates:
                    found["share"] = found["gflops"] / 1e3 / rates[row["precision"]]
