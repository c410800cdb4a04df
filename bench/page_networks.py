"""The page of `python -m bench models` and `python -m bench training`: ratios, rates, roofline and every timing."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import geometric_mean
from typing import Any

from nbcnn.report.html.distribution import calls_of, distribution
from nbcnn.report.html.drawing import figure, legend
from nbcnn.report.html.element import Markup, el, join
from nbcnn.report.html.page import Column, Tile, machine_line, machine_section, page, section, table, tiles, two_lines
from nbcnn.report.html.rates import Bar, rates
from nbcnn.report.html.ratio import Ratio, block_ratios, ratios
from nbcnn.report.html.roofline_plot import Point, roofline_plot
from nbcnn.report.numbers import number
from nbcnn.report.roofline import Roofline

__all__ = ["networks_page"]

OURS = "nbcnn"
Row = dict[str, Any]

TITLES = {"models": "Inference", "training": "Training steps"}
CLASSES = ("peer", "peer-2")
MARKS = ("circle", "square")
HOW = (
    "Both sides compute the same network from the same weights on the same inputs, with the same number of threads, in "
    "one process, and their results are compared before anything is timed. They are timed in alternating blocks: a "
    "pause, one call that is not timed, then calls of one side only, because the threads of each side spin for a while "
    "after a call and would take the processor from the other. A ratio is the other side's median time over ours."
)
TRAINING = (
    "A training step is forward, cross-entropy, backward and SGD with momentum, batch norms on the batch's statistics. "
    "PyTorch runs with contiguous tensors and with channels_last ones; the faster of both counts."
)
WORK = (
    "Operations are those of direct convolution, two for a multiply-add, and for a training step three times those of "
    "the forward pass: an algorithm with fewer multiplications (Winograd) may pass the ceiling."
)


def networks_page(report: dict[str, Any]) -> str:
    machine, rows, name = report["machine"], report["rows"], report["benchmark"]
    peers = _peers(rows)
    title = f"{TITLES[name]} beside {' and '.join(dict.fromkeys(map(_maker, peers)))}"
    head = el(
        "header",
        el("div", f"nbcnn: python -m bench {name}", class_="eyebrow"),
        el("h1", title),
        el("p", machine_line(machine), class_="soft"),
    )
    roofline = Roofline.of(machine)
    parts = [
        head,
        tiles(_tiles(rows)),
        _ratios(rows, peers),
        _rates(rows, peers, roofline),
        _roofline(rows, roofline),
        section("In numbers", _table(rows, peers)),
        _calls(rows),
        section("How it was measured", HOW, TRAINING if name == "training" else None, WORK),
        machine_section(machine, report["settings"]),
    ]
    return page(title, *parts, about=f"Made by nbcnn on {machine['date']}.")


def _peers(rows: Sequence[Row]) -> list[str]:
    """The other sides, in the order in which they come."""
    return list(dict.fromkeys(name for row in rows for name in row["timings"] if name != OURS))


def _maker(peer: str) -> str:
    return "PyTorch" if peer.startswith("torch") else peer


def _label(row: Row) -> str:
    return f"{row['network']}, batch {row['batch']}"


def _tiles(rows: Sequence[Row]) -> list[Tile]:
    if not rows:
        return []
    best, worst = max(rows, key=lambda row: row["ratio"]), min(rows, key=lambda row: row["ratio"])
    span = f"{worst['ratio']:.2f}× ({_label(worst)}) to {best['ratio']:.2f}× ({_label(best)})"
    found = [
        Tile("their time over ours", f"{geometric_mean(row['ratio'] for row in rows):.2f}×", "in the mean", span),
        Tile("faster on", f"{sum(row['ratio'] > 1 for row in rows)} of {len(rows)}", "", "networks and batch sizes"),
    ]
    measured = [row for row in rows if row["share"] is not None]
    if measured:
        top = max(measured, key=lambda row: row["share"])
        found.append(Tile("of the machine's multiply-adds", f"{top['share']:.0%}", "at most", _label(top)))
    return found


def _key(peers: Sequence[str], ours: bool) -> Markup:
    sides = [("ours", "circle", OURS)] if ours else []
    return legend([*sides, *zip(CLASSES, MARKS, peers, strict=False)])


def _ratios(rows: Sequence[Row], peers: Sequence[str]) -> Markup:
    """A line a comparison: the peer that counts in our colour, others in grey."""
    drawn = []
    for row in rows:
        for peer, mark in zip(peers, MARKS, strict=False):
            if peer not in row["timings"]:
                continue
            each = block_ratios(row["timings"], peer, OURS)
            ratio = row["timings"][peer]["median_ms"] / row["timings"][OURS]["median_ms"]
            counts = peer == row["peer"]
            label = _label(row) if len(peers) == 1 else f"{_label(row)}, {peer}"
            tip = f"{label}: {peer} {number(row['timings'][peer]['median_ms'])} ms"
            class_ = "ours" if counts else "peer"
            drawn.append(Ratio(label, ratio, min(each), max(each), class_, mark, tip, each))
    caption = (
        "The other side's median time over ours: the large mark of all calls, the small ones of neighbouring blocks. "
        "Twice as fast and half as fast are as far from 1."
    ) + (" Grey: the slower of both layouts, which does not count." if len(peers) > 1 else "")
    return section("Ratio", figure(ratios(drawn), caption)) if drawn else section("Ratio", "No network was timed.")


def _rates(rows: Sequence[Row], peers: Sequence[str], roofline: Roofline | None) -> Markup:
    drawn = []
    for row in rows:
        work = row["gflops"] * row["timings"][OURS]["median_ms"]
        bars = []
        for side, class_ in zip([OURS, *peers], ("ours", *CLASSES), strict=False):
            if side in row["timings"]:
                ms = row["timings"][side]["median_ms"]
                bars.append(Bar(work / ms, class_, f"{side}: {number(ms)} ms, {number(work / ms)} GFLOP/s"))
        drawn.append((_label(row), bars))
    most = roofline.gflops if roofline else None
    caption = (
        "Operations a second, by the median time of each side; the line is the machine's ceiling of multiply-adds."
    )
    return section("Rate", figure(rates(drawn, "GFLOP/s", most, "ceiling"), caption, _key(peers, ours=True)))


def _roofline(rows: Sequence[Row], roofline: Roofline | None) -> Markup | None:
    """Whole networks under the roof; reports that were made before bytes were counted have none."""
    points = []
    for row in rows:
        if roofline is None or not row.get("bytes"):
            continue
        flops = row["gflops"] * row["timings"][OURS]["median_ms"] * 1e6
        tip = f"{_label(row)}: {number(row['gflops'])} GFLOP/s, {number(row['bytes'] / 1e6)} MB to move"
        points.append(Point(_label(row), "", flops / row["bytes"], row["gflops"], 0.06, tip, "ours"))
    if roofline is None or not points:
        return None
    caption = (
        "Each mark is a whole network: its operations over the bytes that its layers must move at least, every input, "
        "weight and result once."
    )
    return section("Roofline", figure(roofline_plot(points, roofline), caption))


def _table(rows: Sequence[Row], peers: Sequence[str]) -> Markup:
    columns = [Column("network", wide=True), Column("batch", True)]
    columns += [Column(f"{side} ms, quartiles", True) for side in (OURS, *peers)]
    columns += [Column(name, True) for name in ("ratio, of blocks", "GFLOP/s", "share", "difference")]
    return table(columns, [_cells(row, peers) for row in rows])


def _cells(row: Row, peers: Sequence[str]) -> list[Markup | str | None]:
    cells: list[Markup | str | None] = [row["network"], str(row["batch"])]
    for side in (OURS, *peers):
        timing = row["timings"].get(side)
        low, high = timing["quartiles_ms"] if timing else (0.0, 0.0)
        cells.append(two_lines(number(timing["median_ms"]), f"{number(low)} to {number(high)}") if timing else None)
    low, high = row["ratio_blocks"]
    cells.append(two_lines(f"{row['ratio']:.2f}×", f"{low:.2f} to {high:.2f}"))
    share = "" if row["share"] is None else f"{row['share']:.0%}"
    return [*cells, number(row["gflops"]), share, f"{row['difference']:.0e}"]


def _calls(rows: Sequence[Row]) -> Markup:
    pictures = [join(el("h3", _label(row)), figure(distribution(calls_of(row["timings"], OURS)), "")) for row in rows]
    about = "Every timed call by how long it took. Below each: first to third quartile, and the median as a line."
    return section("Every call", about, *pictures)
