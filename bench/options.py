"""Command-line options that several benchmarks share, and what follows from them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from bench.pages import write_page
from nbcnn.report.machine import describe, heading, usable_cores
from nbcnn.report.timing import Plan
from nbcnn.report.write import write_json

__all__ = ["ROOT", "add_data", "add_out", "add_timing", "data_folder", "data_path", "finish", "plan_of", "start"]

ROOT = Path(__file__).resolve().parents[1]


def add_out(parser: argparse.ArgumentParser, name: str) -> None:
    """--out and --threads; name: the report's, for the place where it lies by default."""
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench" / f"{name}.json", help="the JSON report")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of both sides (default: all cores)")


def add_timing(parser: argparse.ArgumentParser, name: str) -> None:
    """The options of a benchmark that times something."""
    add_out(parser, name)
    parser.add_argument("--blocks", type=int, default=4, help="timed blocks of each side")
    parser.add_argument("--calls", type=int, help="timed calls in a block (default: what fits into --seconds)")
    parser.add_argument("--seconds", type=float, default=2.0, help="about how long a block takes")
    parser.add_argument("--quick", action="store_true", help="one block, one call, no ceilings: does it work at all?")


def add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, help="folder of data sets and models (default: $NBCNN_DATA or ../shared/data)"
    )


def data_folder(args: argparse.Namespace) -> Path:
    """The folder of real data; exits with a message where it is missing."""
    folder = data_path(args)
    if not folder.is_dir():
        raise SystemExit(
            f"{folder}: no such folder; name the one with the data sets and models with --data or NBCNN_DATA"
        )
    return folder


def data_path(args: argparse.Namespace) -> Path:
    """Where the folder of real data is looked for; it need not exist."""
    return Path(args.data or os.environ.get("NBCNN_DATA") or ROOT.parent / "shared" / "data")


def plan_of(args: argparse.Namespace) -> Plan:
    """How much is timed."""
    if args.quick:
        return Plan(blocks=1, calls=1, pause=0.0)
    return Plan(blocks=args.blocks, calls=args.calls, seconds=args.seconds)


def start(args: argparse.Namespace, ceilings: bool = False) -> dict[str, Any]:
    """Set the engine's threads, describe the machine and print its heading."""
    from nbcnn.threads import set_num_threads

    set_num_threads(args.threads)
    machine = describe(args.threads, ceilings and not args.quick)
    print(heading(machine) + "\n", flush=True)
    return machine


def ceiling(machine: dict[str, Any]) -> float | None:
    """The multiply-add ceiling at the report's threads, in GFLOP/s; None where it was not measured."""
    found = machine["fma_gflops"].get(str(machine["threads"]))
    return None if found is None else float(found)


def finish(args: argparse.Namespace, machine: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Write the report, and its page where it has pictures, and say where."""
    left_out = ("run", "out", "data")  # nothing of where things lie on this machine
    settings = {name: value for name, value in vars(args).items() if name not in left_out}
    report = {"benchmark": args.benchmark, "machine": machine, "settings": settings, "rows": rows}
    print(f"\nreport: {write_json(args.out, report)}")
    page = write_page(args.out, report)
    if page:
        print(f"page: {page}")
