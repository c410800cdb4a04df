"""The README's tables, from the reports that are kept in bench/reports."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import geometric_mean, median
from textwrap import fill
from typing import Any

from nbcnn.report.write import write_text

__all__ = ["configure", "render", "run"]

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- measured tables: begin -->\n", "<!-- measured tables: end -->\n"
Report = dict[str, Any]
LABELS = {
    "densenet121": "DenseNet-121",
    "googlenet": "GoogLeNet",
    "lenet": "LeNet",
    "mobilenet": "MobileNet V2",
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "squeezenet": "SqueezeNet 1.1",
    "vgg16": "VGG-16",
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")


def run(args: argparse.Namespace) -> int:
    text = args.readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    write_text(args.readme, before + BEGIN + render() + END + after)
    print(args.readme)
    return 0


def render() -> str:
    """Everything between the two marks."""
    models, training = _read("models"), _read("training")
    lines = [_machine(models, training), "", *_ratios(models, "inference", "onnxruntime"), ""]
    lines += [*_ratios(training, "training step", "PyTorch"), ""]
    lines += [*_layers(_read("kernels")), "", *_memory(_read("memory")), "", *_first_run(_read("firstrun"))]
    return "\n".join(lines) + "\n"


def _read(name: str) -> Report:
    found: Report = json.loads((ROOT / "bench" / "reports" / f"{name}.json").read_text(encoding="utf-8"))
    return found


def _machine(models: Report, training: Report) -> str:
    machine, versions = models["machine"], training["machine"]["versions"]
    return fill(
        f"Measured on {machine['date'][:10]} on {machine['cores']} cores of an {machine['cpu']}, "
        f"{machine['simd_bits']}-bit SIMD, {machine['threads']} threads; ceiling of fused multiply-adds "
        f"{machine['fma_gflops']['2']:.0f} GFLOP/s, memory triad {machine['triad_gbytes']['2']:.0f} GB/s; "
        f"numba {versions['numba']}, onnxruntime {versions['onnxruntime']}, PyTorch {versions['torch']}. The whole "
        "reports are in [bench/reports/](bench/reports).",
        width=120,
        break_on_hyphens=False,
    )


def _ratios(report: Report, what: str, peer: str) -> Iterator[str]:
    """Ours beside theirs. GFLOP/s are those of the direct sum of products, whatever the algorithm."""
    yield f"| {what} | nbcnn ms | {peer} ms | ratio | blocks | GFLOP/s |"
    yield "|---|---|---|---|---|---|"
    for row in report["rows"]:
        ours, theirs = (row["timings"][side]["median_ms"] for side in ("nbcnn", row["peer"]))
        least, most = min(row["ratio_blocks"]), max(row["ratio_blocks"])
        label = f"{LABELS[row['network']]}, batch {row['batch']}"
        yield (
            f"| {label} | {_short(ours)} | {_short(theirs)} | {row['ratio']:.2f} | {least:.2f} to {most:.2f} "
            f"| {row['gflops']:.0f} |"
        )


def _layers(report: Report) -> Iterator[str]:
    """Layers of ResNet-50 in groups: share of the multiply-add ceiling, geometric mean, least and most."""
    head = f"layers of ResNet-50, batch {report['rows'][0]['batch']}: share of the ceiling"
    yield f"| {head} | forward | gradient by input | by weights |"
    yield "|---|---|---|---|"
    for label, belongs in (("1x1, stride 1", _is_pointwise), ("3x3, stride 1, 128 channels or more", _is_wide)):
        rows = [row for row in report["rows"] if row["network"] == "resnet50" and belongs(row["layer"])]
        cells = []
        for direction in ("forward", "input gradient", "weight gradient"):
            shares = [row[direction]["share"] for row in rows if row.get(direction)]
            cells.append(f"{geometric_mean(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})")
        yield f"| {label} | {' | '.join(cells)} |"


def _is_pointwise(layer: str) -> bool:
    return layer.endswith("1x1")


def _is_wide(layer: str) -> bool:
    return layer.endswith("3x3") and int(layer.partition("x")[0]) >= 128


def _memory(report: Report) -> Iterator[str]:
    yield "| memory that it adds | nbcnn MB | other MB | ours over theirs |"
    yield "|---|---|---|---|"
    for row in report["rows"]:
        ours, theirs = (median(m["added"] for m in row["measurements"][s]) / 1e6 for s in ("nbcnn", row["peer"]))
        kind = "training step" if row["kind"] == "step" else "inference"
        label = f"{LABELS[row['network']]}, batch {row['batch']}, {kind}"
        yield f"| {label} | {ours:.0f} | {theirs:.0f} ({row['peer']}) | {row['ratio']:.2f} |"


def _first_run(report: Report) -> Iterator[str]:
    yield "| first run | with nothing compiled, s | next process, s |"
    yield "|---|---|---|"
    for row in report["rows"]:
        if "cold" in row:
            cold, warm = (median(sample["seconds"] for sample in row[key]) for key in ("cold", "warm"))
            yield f"| {row['process']} | {cold:.3g} | {warm:.3g} |"


def _short(ms: float) -> str:
    return f"{ms:.3f}" if ms < 1 else f"{ms:.2f}" if ms < 10 else f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"
