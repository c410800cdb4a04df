"""The page of one network on one machine, from the report that nbcnn.report.network makes."""

from __future__ import annotations

from typing import Any

from nbcnn.report.html.bars import Part, stacked
from nbcnn.report.html.distribution import calls_of, distribution
from nbcnn.report.html.drawing import figure, group_class, group_legend, legend
from nbcnn.report.html.element import Markup, el
from nbcnn.report.html.layers import kind_of, layer_points, layer_table, our_blocks, peer_blocks
from nbcnn.report.html.page import Tile, machine_line, machine_section, page, section, tiles
from nbcnn.report.html.ratio import Ratio, block_ratios, ratios
from nbcnn.report.html.roofline_plot import roofline_plot
from nbcnn.report.html.skyline import skyline
from nbcnn.report.layers import PHASES
from nbcnn.report.network import OURS, THEIRS
from nbcnn.report.numbers import amount, mebibytes, number, shape_text
from nbcnn.report.roofline import Roofline
from nbcnn.report.timing import is_busy

__all__ = ["network_page"]

Report = dict[str, Any]

HOW = (
    "Both sides compute the same file on the same inputs, random numbers from a seed, with the same number of threads, "
    "in one process. They are timed in alternating blocks: a pause, one call that is not timed, then calls of one side "
    "only, because the threads of each side spin for a while after a call and would take the processor from the other. "
    "Nothing is timed before the results agree. Layers are timed inside whole runs, by the clock between them; the "
    "median of many runs is shown. onnxruntime's layers come from its own profiler, which slows it down a little."
)
WORK = (
    "Operations are those of the operator's definition, a multiply-add as two: a Winograd convolution is credited "
    "with what a direct one would compute, and may so pass the ceiling. Bytes are the least that must move: every "
    "input, weight and result once. What a cache still holds need not come from memory, so small layers may pass the "
    "memory roof."
)
BUSY = "The spread is wide: this machine had other work, or changed its clock, while this was measured."


def network_page(report: Report) -> str:
    network, machine, settings = report["network"], report["machine"], report["settings"]
    shapes = ", ".join(f"{name} {shape_text(value['shape'])}" for name, value in network["inputs"].items())
    facts = f"{shapes}; {amount(network['parameters'])} parameters, {network['nodes']} nodes, opset {network['opset']}"
    head = el(
        "header",
        el("div", "nbcnn bench", class_="eyebrow"),
        el("h1", network["file"]),
        el("p", facts, el("br"), machine_line(machine), class_="soft"),
    )
    roofline = Roofline.of(machine)
    parts = [head, *_direction(report["inference"], "run", roofline)]
    if report["training"] is not None:
        parts.append(el("h2", "Training step", class_="part"))
        parts += _direction(report["training"], "step", roofline)
    parts += [section("How it was measured", HOW, WORK), machine_section(machine, settings)]
    return page(f"{network['file']}: nbcnn bench", *parts, about=f"Made by nbcnn on {machine['date']}.")


def _direction(part: Report, what: str, roofline: Roofline | None) -> list[Markup]:
    """The sections of inference or of training."""
    found = [tiles(_tiles(part, what))]
    found.append(_beside(part, what))
    if not part["layers"]:
        nothing = "This network computes nothing: its outputs are its inputs, seen in another shape."
        return [*found, section("Where the time goes", nothing), _memory(part)]
    found.append(_time(part, what, roofline))
    if roofline is not None:
        keys = group_legend([kind_of(row) for row in part["layers"] if row["flops"]])
        caption = (
            "Each mark is a layer, the larger the more of the time it takes. The roof is what this machine can do at "
            "most: to the left of its corner memory is the bound, to the right arithmetic."
        )
        found.append(section("Roofline", figure(roofline_plot(layer_points(part["layers"]), roofline), caption, keys)))
    found.append(_layers(part, what))
    found.append(_memory(part))
    return found


def _tiles(part: Report, what: str) -> list[Tile]:
    timing = part["timings"][OURS]
    low, high = timing["quartiles_ms"]
    found = [Tile(f"a {what}, median", number(timing["median_ms"]), "ms", f"quartiles {number(low)} to {number(high)}")]
    if part["ratio"] is not None:
        theirs = part["timings"][THEIRS]["median_ms"]
        low, high = part["ratio_blocks"]
        more = f"onnxruntime {number(theirs)} ms; {low:.2f} to {high:.2f} by block"
        found.append(Tile("beside onnxruntime", f"{part['ratio']:.2f}×", "as fast", more))
    found.append(Tile("throughput", number(part["samples_per_s"]), "samples/s"))
    share = "" if part["share"] is None else f"{part['share']:.0%} of the machine's multiply-adds"
    found.append(Tile("arithmetic", number(part["gflops"]), "GFLOP/s", share))
    resident = part["memory"]["resident"]
    if resident:
        ours, *theirs = resident.values()
        more = f"onnxruntime {mebibytes(theirs[0]['added'])}" if theirs else "resident, anonymous"
        value, unit = mebibytes(ours["added"]).split()
        found.append(Tile("memory added", value, unit, more))
    if part.get("differences"):
        worst = max(part["differences"], key=lambda d: d["deviations"])
        more = f"from onnxruntime's; {worst['deviations']:.0e} of the deviation"
        found.append(Tile("largest difference", f"{worst['max_abs']:.1e}", "", more))
    compiled = "planning, and compiling what was new"
    found.append(Tile(f"first {what}", number(part["first_run_s"]), "s", compiled))
    return found


def _beside(part: Report, what: str) -> Markup:
    """The spread of the timings and, where there is another side, the ratio to it."""
    spread = (
        f"Every timed {what} by how long it took. Below each: first to third quartile, and the median as a line."
        + (f" {BUSY}" if is_busy(part["timings"][OURS]) else "")
    )
    every = figure(distribution(calls_of(part["timings"], OURS)), spread)
    if part["ratio"] is None:
        missing = part.get("peer_missing")
        note = el("p", f"Without onnxruntime: {missing}.", class_="note") if missing else None
        return section("Every call", note, every)
    low, high = part["ratio_blocks"]
    row = Ratio(f"{THEIRS} over {OURS}", part["ratio"], low, high, each=block_ratios(part["timings"]))
    caption = "onnxruntime's median time over ours: the large dot of all calls, the small ones of neighbouring blocks."
    return section("Beside onnxruntime", every, figure(ratios([row]), caption))


def _time(part: Report, what: str, roofline: Roofline | None) -> Markup:
    rows = part["layers"]
    sides = [(OURS, our_blocks(rows))]
    if part["peer"] is not None:
        sides.append((THEIRS, peer_blocks(rows, part["peer_nodes"])))
    caption = (
        f"One {what} from left to right. Each block is a layer: as wide as the time it takes, as high as the "
        "operations a second that it computes, so that its area is its work. Flat blocks move data and compute "
        "nothing. Rest the pointer on a block to see which it is."
    )
    keys = group_legend([kind_of(row) for row in rows])
    picture = figure(skyline(sides, roofline.gflops if roofline else None), caption, keys)
    return section("Where the time goes", picture, _kinds(part, what), _phases(part) if part["peer"] is None else None)


def _kinds(part: Report, what: str) -> Markup:
    """The time by kind of work."""
    ours: dict[str, float] = {}
    for row in part["layers"]:
        ours[kind_of(row)] = ours.get(kind_of(row), 0.0) + row["ms"]
    bars = [(OURS, ours, part["outside_ms"])]
    if part["peer"] is not None:
        theirs: dict[str, float] = {}
        for block in peer_blocks(part["layers"], part["peer_nodes"]):
            theirs[block.group] = theirs.get(block.group, 0.0) + block.ms
        bars.append((THEIRS, theirs, 0.0))
    rows = []
    for name, kinds, outside in bars:
        pieces = [
            Part(kind, ms, group_class(kind), f"{kind}: {number(ms)} ms, {ms / sum(kinds.values()):.0%}")
            for kind, ms in sorted(kinds.items(), key=lambda item: -item[1])
        ]
        if outside:
            told = f"outside of layers: {number(outside)} ms of checking, copying and Python"
            pieces.append(Part("outside", outside, "other hatched", told))
        rows.append((name, pieces, f"{number(sum(piece.value for piece in pieces))} ms"))
    caption = f"The same {what} by kind of work" + (
        "; the pale end lies outside of layers." if part["outside_ms"] else "."
    )
    return figure(stacked(rows, "milliseconds", "Time by kind of work"), caption)


def _phases(part: Report) -> Markup | None:
    spent = {phase: sum(row["ms"] for row in part["layers"] if row["phase"] == phase) for phase in PHASES}
    if not spent["backward"]:
        return None
    pieces = [Part(name, ms, f"phase-{name}", f"{name}: {number(ms)} ms") for name, ms in spent.items()]
    caption = "Forward pass, loss, gradients, and the updates of weights and running statistics."
    keys = legend((f"phase-{name}", "square", f"{name} {number(ms)} ms") for name, ms in spent.items())
    total = f"{number(sum(spent.values()))} ms"
    return figure(stacked([(OURS, pieces, total)], "milliseconds", "Time by phase"), caption, keys)


def _layers(part: Report, what: str) -> Markup:
    about = (
        "Bars are times, in the colours above"
        + (", with onnxruntime's below in grey" if part["peer"] is not None else "")
        + "; the line through a bar is the least time that the roofline allows. An algorithm is named where there was "
        "a choice, else the kernels."
    )
    return section(f"Layer by layer: {len(part['layers'])} in a {what}", about, layer_table(part))


def _memory(part: Report) -> Markup:
    memory = part["memory"]
    planned = (
        f"The plan holds {mebibytes(memory['arena_bytes'])} for activations and scratch, which layers use in turn, and "
        f"{mebibytes(memory['held_bytes'])} of weights prepared for the kernels."
    )
    if not memory["resident"]:
        return section("Memory", planned, f"Resident memory was not measured: {memory['resident_missing']}.")
    rows, peaks = [], []
    for side, found in memory["resident"].items():
        class_ = "peer" if side == THEIRS else "ours"
        spare = max(found["added"] - found["needed"], 0)
        pieces = [
            Part("in use", found["needed"] / 2**20, class_, f"in use: {mebibytes(found['needed'])}"),
            Part("free", spare / 2**20, f"{class_} hatched", f"free, but not given back: {mebibytes(spare)}"),
        ]
        rows.append((OURS if side == "training" else side, pieces, mebibytes(found["added"])))
        peaks.append(f"{mebibytes(found['peak'])} ({OURS if side == 'training' else side})")
    caption = (
        "Anonymous resident memory that loading and three calls add to a process in which everything was compiled and "
        "loaded before. The pale end is memory that the process has freed but not given back to the system. The peak "
        f"on the way, pages of files among it: {', '.join(peaks)}."
    )
    return section("Memory", planned, figure(stacked(rows, "MiB", "Memory of each side"), caption))
