"""The convolutions of ResNet-50 one by one on a GPU beside cuDNN: forward, and both gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.gpu_networks import freeing
from bench.gpu_peers import LAYOUTS, TorchConv, precision
from bench.gpu_sections import Item, Settings
from bench.gpu_timing import TOLERANCES, compare, deviation, repeated
from bench.layers import DIRECTIONS, FLOAT, BoundLayer, Layer, layers_of
from bench.models import OURS, summary
from nbcnn.devices import HALVES, find_device
from nbcnn.report.timing import Comparison
from nbcnn.zoo import graph_of

__all__ = ["layers"]

FIRST = ("3x3", "7x7")
"""Layers whose description contains this are measured before the others."""
TRIAL = Layer((4, 5, 5), (6, 4, 3, 3), (6, 5, 5), (1, 1), (1, 1, 1, 1), (1, 1), 1)
"""What the simulator can do."""


def layers(settings: Settings) -> Iterator[Item]:
    found = {TRIAL: 1} if settings.trial else layers_of(graph_of("resnet50"))
    ordered = sorted(found, key=lambda layer: not any(word in layer.label for word in FIRST))
    batch = 1 if settings.trial else settings.batch
    for layer in ordered[:4] if settings.quick else ordered:
        for how in settings.precisions:
            yield Item(f"{layer.label}, batch {batch}, {how}", freeing(_one, settings, layer, found[layer], batch, how))


def _one(settings: Settings, layer: Layer, count: int, batch: int, how: str) -> dict[str, Any]:
    bound = BoundLayer(layer, batch, device=find_device("cuda", precision=how))
    results = bound.run()
    with precision("fp32", search=False):
        expected = _results(TorchConv(layer, bound.x, bound.w, bound.dy, LAYOUTS["torch"], "fp32"))
    row: dict[str, Any] = {"layer": layer.label, "count": count, "batch": batch, "precision": how}
    row |= {"gflop": layer.flops(batch) / 1e9, "bytes": layer.bytes(batch, HALVES.get(how, FLOAT))}
    differences = {
        direction: deviation(f"{layer.label} {how}, {direction}", ours, theirs, TOLERANCES[how])
        for direction, ours, theirs in zip(DIRECTIONS, results, expected, strict=True)
    }
    with precision(how):
        theirs = {
            label: TorchConv(layer, bound.x, bound.w, bound.dy, layout, how).sides(label)
            for label, layout in LAYOUTS.items()
        }
        for direction in DIRECTIONS:
            sides = [repeated(OURS, bound.call(direction)), *(sides[direction] for sides in theirs.values())]
            row[direction] = _row(compare(sides, settings.plan), layer.flops(batch), differences[direction])
    return row


def _results(conv: TorchConv) -> list[np.ndarray]:
    return [work().cpu().numpy() for work in (conv.forward, conv.by_data, conv.by_weights)]


def _row(found: Comparison, work: float, difference: float) -> dict[str, Any]:
    rate = work / found[OURS].median / 1e9
    return {**summary(found, found.fastest(list(LAYOUTS))), "gflops": rate, "difference": difference}
