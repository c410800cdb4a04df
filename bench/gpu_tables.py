"""The tables of `python -m bench gpu`, made of the report's rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.report import table

__all__ = ["COLUMNS", "DIRECTIONS", "in_short", "is_measured", "lines_of", "section_table", "way"]

OURS = "nbcnn"
Row = dict[str, Any]

NETWORKS = (
    "network",
    "batch",
    "precision",
    "nbcnn ms",
    "PyTorch ms",
    "which",
    "ratio",
    "TFLOP/s",
    "share",
    "images/s",
    "with copies ms",
    "diff",
)
COLUMNS = {
    "ceilings": ("ceiling", "measured", "unit", "data sheet", "of it"),
    "inference": NETWORKS,
    "training": NETWORKS,
    "layers": ("layer", "times", "precision", "direction", "nbcnn ms", "cuDNN ms", "ratio", "TFLOP/s", "share", "diff"),
    "bandwidth": ("operator", "precision", "MB", "ms", "GB/s", "share of copy", "diff"),
}
DIRECTIONS = ("forward", "input gradient", "weight gradient")


def is_measured(row: Row) -> bool:
    return "error" not in row and "left_out" not in row


def section_table(name: str, rows: Sequence[Row]) -> str:
    """A section as a table, and below it what failed or was left out."""
    lines = [line for row in rows if is_measured(row) for line in lines_of(name, row)]
    rest = [f"{row['name']}: {in_short(row)}" for row in rows if not is_measured(row)]
    return "\n".join([table(COLUMNS[name], lines), *rest])


def in_short(row: Row) -> str:
    """One line while the others are still being measured."""
    for key in ("error", "left_out"):
        if key in row:
            return f"{key.replace('_', ' ')}: {row[key]}"
    if "rate" in row:
        return f"{row['rate']:.4g} {row['unit']}"
    if "gbytes" in row:
        return f"{row['median_ms']:.4g} ms, {row['gbytes']:.0f} GB/s"
    compared = [row] if "ratio" in row else [row[direction] for direction in DIRECTIONS]
    return "; ".join(f"{c['ratio']:.2f} of {c['peer']}, {c['gflops'] / 1e3:.1f} TFLOP/s" for c in compared)


def lines_of(name: str, row: Row) -> list[list[Any]]:
    """What a row of the report is in the table: a line, or one for each direction of a layer."""
    if name == "ceilings":
        sheet = row["data_sheet"]
        return [[row["ceiling"], row["rate"], row["unit"], sheet, None if not sheet else row["rate"] / sheet]]
    if name == "layers":
        return _directions(row)
    if name == "bandwidth":
        moved = [row["bytes"] / 1e6, row["median_ms"], row["gbytes"], row.get("share")]
        return [[row["operator"], row["precision"], *moved, f"{row['difference']:.0e}"]]
    low, high = row["ratio_blocks"]
    return [
        [
            row["network"],
            row["batch"],
            row["precision"],
            row["timings"][OURS]["median_ms"],
            row["timings"][row["peer"]]["median_ms"],
            way(row["peer"]),
            f"{row['ratio']:.2f} ({low:.2f}-{high:.2f})",
            row["gflops"] / 1e3,
            row.get("share"),
            row["images"],
            row["run_ms"],
            f"{row['difference']:.0e}",
        ]
    ]


def way(peer: str) -> str:
    """How PyTorch was at its fastest."""
    return peer.removeprefix("torch").strip(" ,") or "contiguous"


def _directions(row: Row) -> list[list[Any]]:
    lines: list[list[Any]] = []
    for direction in DIRECTIONS:
        found = row[direction]
        ours, theirs = (found["timings"][side]["median_ms"] for side in (OURS, found["peer"]))
        head = ["", None, ""] if lines else [row["layer"], row["count"], row["precision"]]
        rate = [found["gflops"] / 1e3, found.get("share")]
        lines.append([*head, direction, ours, theirs, found["ratio"], *rate, f"{found['difference']:.0e}"])
    return lines
