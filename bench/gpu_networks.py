"""Whole networks on a GPU beside PyTorch: inference, and training steps."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from functools import cache
from time import perf_counter
from typing import Any

import numpy as np
import torch

from bench.gpu_peers import FACTOR, LAYOUTS, TorchNetwork, TorchStep, captured, forget, precision, side
from bench.gpu_sections import Item, Settings
from bench.gpu_timing import TOLERANCES, compare, deviation, ours
from bench.models import OURS, summary
from bench.networks import SHAPES, flops, labels
from nbcnn.devices import HALVES, find_device
from nbcnn.executor import execute, recording
from nbcnn.graph import Graph
from nbcnn.model import Model
from nbcnn.optim import SGD
from nbcnn.report.agreement import agree_scalar
from nbcnn.report.timing import Comparison
from nbcnn.trainer import Trainer
from nbcnn.zoo import graph_of

__all__ = ["freeing", "inference", "training"]

Row = dict[str, Any]
INFERENCE = (
    ("resnet50", 256), ("resnet50", 1), ("vgg16", 32), ("resnet18", 256), ("vgg16", 1), ("resnet18", 1),
    ("lenet", 1000), ("resnet50", 32), ("resnet18", 32), ("vgg16", 256),
)  # fmt: skip
TRAINING = (
    ("resnet50", 256), ("resnet18", 32), ("vgg16", 32), ("resnet50", 32), ("lenet", 1000), ("resnet18", 256),
    ("vgg16", 256),
)  # fmt: skip
"""What matters most comes first: what there is no time for is left out."""
QUICK = {"inference": (("resnet50", 32), ("lenet", 1000)), "training": (("resnet18", 32), ("lenet", 1000))}
TRIAL = {"inference": (("lenet", 1),), "training": (("lenet", 1),)}
"""What the simulator can do."""
LR, MOMENTUM = 1e-3, 0.9
LOSS_TOLERANCES = {"fp32": (1e-4, 2e-2), "tf32": (1e-2, 5e-2), "fp16": (1e-2, 5e-2), "bf16": (5e-2, 1e-1)}
"""Relative, of the losses of the first two steps."""


def inference(settings: Settings) -> Iterator[Item]:
    for how, name, batch in _chosen("inference", INFERENCE, settings):
        what = f"{name}, batch {batch}, {how}"
        yield Item(what, freeing(_infer, settings, name, batch, how))


def training(settings: Settings) -> Iterator[Item]:
    for how, name, batch in _chosen("training", TRAINING, settings):
        what = f"{name}, batch {batch}, {how}"
        yield Item(what, freeing(_train, settings, name, batch, how))


def _chosen(
    section: str, all_of_them: tuple[tuple[str, int], ...], settings: Settings
) -> Iterator[tuple[str, str, int]]:
    listed = TRIAL[section] if settings.trial else QUICK[section] if settings.quick else all_of_them
    for name, batch in listed:
        for how in settings.precisions:
            if not settings.nets or name in settings.nets:
                yield how, name, batch


def freeing(make: Callable[..., Row], *args: Any) -> Callable[[], Row]:
    """make(*args), after which the GPU's memory is free again."""

    def run() -> Row:
        try:
            return make(*args)
        finally:
            gc.collect()
            forget()

    return run


@cache
def _graph(name: str) -> Graph:
    return graph_of(name)


def _inputs(name: str, batch: int) -> np.ndarray:
    """Numbers from -1 to 1 (batch, C, H, W): normal ones take the host ten times as long."""
    x = np.random.default_rng(0).random((batch, *SHAPES[name]), dtype=np.float32)
    x *= 2
    x -= 1
    return x


def _infer(settings: Settings, name: str, batch: int, how: str) -> Row:
    graph, x = _graph(name), _inputs(name, batch)
    model = Model(graph, device=find_device("cuda", precision=how))
    feeds = {graph.inputs[0].name: x}
    for _ in range(2):  # launched one by one
        (y,) = model.run(None, feeds)
    plan = model.plan(feeds)
    weights = dict(graph.initializers)
    with precision("fp32", search=False):
        expected = TorchNetwork(name, weights, x, LAYOUTS["torch"], "fp32").result()
    what = f"{name} batch {batch} {how}"
    difference = deviation(what, y, expected, TOLERANCES[how])
    found: list[Comparison] = []
    mine = ours(OURS, lambda: execute(plan))
    with precision(how):
        for label, layout, converted in _ways(how):
            network = TorchNetwork(name, weights, x, layout, how, converted)
            deviation(f"{what}, {label}", network.result(), expected, TOLERANCES[how])
            sides = [mine, side(label, network)]
            if batch == 1:
                sides.append(captured(f"{label}, graph", network))
            found.append(compare(sides, settings.plan))
            del network, sides
            forget()
    deviation(f"{what}, after it was timed", model.run(None, feeds)[0], expected, TOLERANCES[how])
    return _row(found, flops(graph, batch), name, batch, how) | {
        "difference": difference,
        "run_ms": _wall(lambda: model.run(None, feeds), settings.plan.calls),
        "arena_bytes": plan.arena_bytes,
    }


def _ways(how: str) -> Iterator[tuple[str, torch.memory_format, bool]]:
    """Of PyTorch's inference: name, layout, and whether weights have 16 bits."""
    for label, layout in LAYOUTS.items():
        yield label, layout, False
        if how in HALVES:
            yield f"{label}, converted", layout, True


def _train(settings: Settings, name: str, batch: int, how: str) -> Row:
    graph, x = _graph(name), _inputs(name, batch)
    t = labels(1000 if name != "lenet" else 10, batch)
    weights = dict(graph.initializers)
    silent = [node.name for node in graph.nodes if node.op == "Dropout"]
    model = Model(graph, device=find_device("cuda", precision=how))
    trainer = Trainer(model, optimizer=SGD(lr=LR, momentum=MOMENTUM), freeze=silent)
    if trainer.scale is not None:
        trainer.scale.factor = FACTOR
    losses = [trainer.step(x, t) for _ in LOSS_TOLERANCES[how]]
    with recording() as records:
        trainer.step(x, t)
    plan, split = records[0].plan, records[1].start

    def step() -> None:
        execute(plan, 0, split)
        execute(plan, split)

    found, differences = [], []
    with precision(how):
        for label, layout in LAYOUTS.items():
            theirs = TorchStep(name, weights, x, t, layout, LR, MOMENTUM, how)
            for number, (loss, tolerance) in enumerate(zip(losses, LOSS_TOLERANCES[how], strict=True), 1):
                what = f"{name} batch {batch} {how}, {label}, loss of step {number}"
                differences.append(agree_scalar(what, loss, float(theirs().item()), tolerance))
            found.append(compare([ours(OURS, step), side(label, theirs)], settings.plan))
            del theirs
            gc.collect()
            forget()
    return _row(found, 3 * flops(graph, batch), name, batch, how) | {
        "difference": max(differences),
        "run_ms": _wall(lambda: trainer.step(x, t), settings.plan.calls),
        "arena_bytes": plan.arena_bytes,
    }


def _wall(call: Callable[[], Any], calls: int | None) -> float:
    """Milliseconds on the host's clock, copies of inputs and results included; the least of a few."""
    spans = []
    for _ in range(calls or 3):
        start = perf_counter()
        call()
        spans.append(perf_counter() - start)
    return min(spans) * 1e3


def _row(found: list[Comparison], work: float, name: str, batch: int, how: str) -> Row:
    """The peer's fastest way counts, and our times beside that one."""
    fastest = [each.fastest([side for side in each.timings if side != OURS]) for each in found]
    best = min(range(len(found)), key=lambda k: found[k][fastest[k]].median)
    others = {n: t for each in found for n, t in each.timings.items() if n != OURS}
    kept = Comparison({OURS: found[best][OURS], **others})
    seconds = kept[OURS].median
    return {
        "network": name,
        "batch": batch,
        "precision": how,
        **summary(kept, fastest[best]),
        "gflops": work / seconds / 1e9,
        "images": batch / seconds,
    }
