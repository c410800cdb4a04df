"""The pages of kept reports, drawn anew: each is written beside its report, as REPORT.html."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.gpu_page import gpu_page
from bench.page_firstrun import firstrun_page
from bench.page_kernels import kernels_page
from bench.page_networks import networks_page
from nbcnn.report.html.network import network_page
from nbcnn.report.write import write_text

__all__ = ["PAGES", "configure", "run", "write_page"]

PAGES: dict[str, Callable[[dict[str, Any]], str]] = {
    "models": networks_page,
    "training": networks_page,
    "kernels": kernels_page,
    "firstrun": firstrun_page,
    "gpu": gpu_page,
    "network": network_page,
}
"""A report's `benchmark` -> what draws its page; "network" is what `nbcnn bench` writes."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reports", nargs="+", type=Path, metavar="REPORT.json")


def run(args: argparse.Namespace) -> int:
    for path in args.reports:
        report = json.loads(path.read_text(encoding="utf-8"))
        page = write_page(path, report)
        print(page or f"{path}: a report of {report.get('benchmark')!r} has no page")
    return 0


def write_page(path: Path, report: dict[str, Any]) -> Path | None:
    """Draw a report's page beside the report; None for a benchmark that has no pictures."""
    draw = PAGES.get(report.get("benchmark", ""))
    return write_text(path.with_suffix(".html"), draw(report)) if draw else None
