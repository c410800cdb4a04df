"""The page of `python -m bench gpu`: ratios to PyTorch, shares of the ceilings, and every line in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import geometric_mean
from typing import Any

from bench.gpu_tables import COLUMNS, DIRECTIONS, in_short, is_measured, lines_of, way
from nbcnn.report.html.drawing import figure
from nbcnn.report.html.element import Markup, el
from nbcnn.report.html.page import Column, Tile, machine_section, page, section, table, tiles
from nbcnn.report.html.ratio import Ratio, ratios
from nbcnn.report.numbers import number

__all__ = ["gpu_page"]

Row = dict[str, Any]
TITLES = {
    "ceilings": "What the GPU can do",
    "inference": "Inference",
    "training": "Training steps",
    "layers": "ResNet-50's convolutions",
    "bandwidth": "What waits for memory",
}
HOW = (
    "Both sides compute the same from the same numbers on the same GPU, in the same precision (TF32: cuDNN and cuBLAS "
    "may round factors to 10 bits, as ours does; fp16 and bf16: torch.autocast, and weights that were converted once), "
    "and are compared with PyTorch in full precision before anything is "
    "timed. Times are the GPU's own, by events, in alternating blocks, on data that lies there; PyTorch has contiguous "
    "and channels_last tensors and cuDNN's fastest algorithms, at batch 1 also a CUDA graph, and the fastest counts. "
    "Shares are of the measured ceilings: products that mma.sync does in registers, and the driver's copy."
)


def gpu_page(report: dict[str, Any]) -> str:
    gpu, sections = report["gpu"], report["sections"]
    found = f"{gpu.get('multiprocessors', '?')} multiprocessors, {gpu.get('memory_bytes', 0) / 2**30:.3g} GiB"
    head = el(
        "header",
        el("div", "nbcnn: python -m bench gpu", class_="eyebrow"),
        el("h1", "On a GPU, beside PyTorch"),
        el("p", f"{gpu.get('name', 'no GPU')}: {found}", class_="soft"),
    )
    parts = [head, tiles(_tiles(sections))]
    for name, rows in sections.items():
        parts += [_ratios(name, rows), section(TITLES[name], _table(name, rows), *_rest(rows))]
    parts += [section("How it was measured", HOW), machine_section(report["machine"], report["settings"])]
    return page("nbcnn on a GPU", *parts, about=f"Made by nbcnn on {report['machine']['date']}.")


def _compared(name: str, row: Row) -> list[tuple[str, Row]]:
    """The comparisons of a row, each with its label."""
    if not is_measured(row) or name not in ("inference", "training", "layers"):
        return []
    if name == "layers":
        return [(f"{row['layer']}, {row['precision']}, {direction}", row[direction]) for direction in DIRECTIONS]
    return [(row["name"], row)]


def _tiles(sections: dict[str, list[Row]]) -> list[Tile]:
    found = []
    for name in ("inference", "training", "layers"):
        each = [c["ratio"] for row in sections.get(name, []) for _, c in _compared(name, row)]
        if each:
            span = f"{min(each):.2f}× to {max(each):.2f}× in {len(each)} comparisons"
            found.append(Tile(f"PyTorch's time over ours, {name}", f"{geometric_mean(each):.2f}×", "in the mean", span))
    shares = [row["share"] for row in sections.get("bandwidth", []) if row.get("share")]
    if shares:
        found.append(Tile("of the copy's bandwidth", f"{geometric_mean(shares):.0%}", "in the mean", "bandwidth"))
    return found


def _ratios(name: str, rows: Sequence[Row]) -> Markup | None:
    drawn = []
    for row in rows:
        for label, each in _compared(name, row):
            low, high = each["ratio_blocks"]
            theirs = each["timings"][each["peer"]]["median_ms"]
            tip = f"{label}: PyTorch {number(theirs)} ms ({way(each['peer'])})"
            drawn.append(Ratio(label, each["ratio"], low, high, "ours", "circle", tip, [low, high]))
    if not drawn:
        return None
    caption = "PyTorch's time over ours: right of 1 we are faster. The line reaches over the blocks."
    return section(f"{TITLES[name]}: ratio", figure(ratios(drawn), caption))


def _table(name: str, rows: Sequence[Row]) -> Markup:
    lines = [line for row in rows if is_measured(row) for line in lines_of(name, row)]
    numbers = [all(isinstance(line[k], int | float | None) for line in lines) for k in range(len(COLUMNS[name]))]
    columns = [Column(title, is_number) for title, is_number in zip(COLUMNS[name], numbers, strict=True)]
    return table(columns, [[_cell(cell) for cell in line] for line in lines])


def _cell(cell: Any) -> str:
    return "" if cell is None else cell if isinstance(cell, str) else number(float(cell))


def _rest(rows: Sequence[Row]) -> list[str]:
    return [f"{row['name']}: {in_short(row)}" for row in rows if not is_measured(row)]
