"""The report on one network on this machine: what `nbcnn bench` measures.

Nothing is timed before our results have been held against onnxruntime's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nbcnn.api import load
from nbcnn.devices import HOST, Device
from nbcnn.errors import ModelError, NbcnnError, UnsupportedError
from nbcnn.graph import is_float
from nbcnn.model import Model
from nbcnn.plan import Plan
from nbcnn.report.beside import Beside, open_beside, without_folder
from nbcnn.report.check import check
from nbcnn.report.gpu import put_gpu
from nbcnn.report.layers import layer_rows, outside_ms, parts_of, put_beside
from nbcnn.report.machine import describe, measure_ceilings
from nbcnn.report.probe import measure_apart
from nbcnn.report.profile import PeerProfile, Profile, profile, profile_peer
from nbcnn.report.roofline import Roofline
from nbcnn.report.shapes import input_shapes
from nbcnn.report.step import RandomStep
from nbcnn.report.timing import PAUSE, Comparison, Side, compare
from nbcnn.report.timing import Plan as Blocks
from nbcnn.report.trace import Track, peer_track, track

__all__ = ["OURS", "THEIRS", "Request", "measure_network"]

OURS, THEIRS = "nbcnn", "onnxruntime"
QUICK = 1.0
"""Below so many seconds a report is made in a hurry: few blocks, short pauses, rough ceilings."""

Feeds = dict[str, np.ndarray]
Tell = Callable[[str], None]
Tracks = dict[str, dict[str, Track]]


@dataclass(frozen=True)
class Request:
    """What to measure. seconds: about how long each direction is timed. peer: with onnxruntime beside it. train: a
    training step too. shapes, dims, batch: as in shapes.input_shapes. device: where we compute; onnxruntime does on the
    processor.
    """

    path: Path
    threads: int
    seconds: float = 10.0
    batch: int | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dims: Mapping[str, int] = field(default_factory=dict)
    train: bool = False
    peer: bool = True
    exact: bool = False
    autotune: bool = False
    device: Device = HOST
    seed: int = 0

    @property
    def quick(self) -> bool:
        return self.seconds < QUICK

    def blocks(self, sides: int) -> Blocks:
        """Six tenths of the time go into the comparison, the rest into the profiles."""
        count, pause = (2, 0.02) if self.quick else (4, PAUSE)
        return Blocks(blocks=count, seconds=0.6 * self.seconds / (sides * count), pause=pause)


def measure_network(request: Request, tell: Tell = lambda text: None) -> tuple[dict[str, Any], Tracks]:
    """The report, ready for JSON, and the tracks of a trace. tell: is given a line when something long begins.

    Raises Disagreement when the results differ from onnxruntime's, FileError, ModelError and InputError for a network
    or shapes that cannot be run.
    """
    model = load(request.path, exact=request.exact, autotune=request.autotune, device=request.device)
    if not model.graph.inputs:
        raise ModelError(f"{request.path}: this network takes no input, so that there is nothing to run it on")
    shapes = input_shapes(model.graph, request.batch, request.shapes, request.dims)
    feeds = _feeds(model, shapes, request.seed)
    if request.train:
        _need_training(request, model, shapes)
    tell("measuring what this machine can do")
    machine = describe(request.threads, ceilings=request.device is HOST, quick=request.quick)
    if request.device is not HOST:
        put_gpu(machine, request.device.precision, request.quick)
    tracks: Tracks = {OURS: {}}
    inference = _Inference(request, model, feeds, machine, tell)
    report: dict[str, Any] = {
        "benchmark": "network",
        "machine": machine,
        "settings": {
            "batch": request.batch,
            "seconds": request.seconds,
            "train": request.train,
            "exact": request.exact,
            "autotune": request.autotune,
            "device": request.device.name,
            "precision": request.device.precision,
            "seed": request.seed,
            "threads": request.threads,
        },
        "network": _about(request.path, model, feeds),
        "inference": inference.report(tracks),
        "training": None,
    }
    if request.train:
        report["training"] = _training(request, model, feeds, Roofline.of(machine), tracks, tell)
    return report, tracks


def _need_training(request: Request, model: Model, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise UnsupportedError, before anything is timed, for a network that cannot be trained as a whole."""
    found = check(model, shapes)
    if found.runs and not found.trains:
        reasons = [f"{node.node}: {node.reason}" for node in found.nodes if node.trains is False]
        reason = next(iter(reasons), "it has no weights that training would change")
        raise UnsupportedError(f"{request.path}: cannot be trained: {reason}")


def _feeds(model: Model, shapes: Mapping[str, tuple[int, ...]], seed: int) -> Feeds:
    """Standard normal numbers; 0 or 1 for integers."""
    rng, found = np.random.default_rng(seed), Feeds()
    for value in model.graph.inputs:
        kind = value.dtype or model.dtype
        floats = is_float(kind)
        numbers = rng.standard_normal(shapes[value.name]) if floats else rng.integers(0, 2, shapes[value.name])
        found[value.name] = numbers.astype(kind)
    return found


def _about(path: Path, model: Model, feeds: Feeds) -> dict[str, Any]:
    weights = [array for array in model.graph.initializers.values() if is_float(array.dtype)]
    return {
        "file": path.name,
        "nodes": len(model.graph.nodes),
        "parameters": sum(array.size for array in weights),
        "weights_bytes": sum(array.size for array in weights) * model.dtype.itemsize,
        "opset": model.graph.opset.get("", model.graph.opset.get("ai.onnx", 1)),
        "inputs": {name: {"shape": list(array.shape), "dtype": array.dtype.name} for name, array in feeds.items()},
    }


def _samples(feeds: Feeds) -> int:
    first = next(iter(feeds.values()))
    return len(first) if first.ndim else 1


class _Inference:
    """Ours, and onnxruntime's where it is there and takes the network."""

    def __init__(self, request: Request, model: Model, feeds: Feeds, machine: dict[str, Any], tell: Tell) -> None:
        self.request, self.model, self.feeds, self.machine, self.tell = request, model, feeds, machine, tell

    def report(self, tracks: Tracks) -> dict[str, Any]:
        self.tell("planning, and compiling kernels that are new")
        start = time.perf_counter()
        outputs = self.model.run(None, self.feeds)
        first = time.perf_counter() - start
        beside = self._beside(outputs)
        sides = [Side(OURS, lambda: self.model.run(None, self.feeds))]
        peer = beside.peer
        if peer is not None:
            sides.append(Side(THEIRS, lambda: peer.run(None, self.feeds)))
        self.tell("timing runs" + (" of both sides, in turn" if beside.peer else ""))
        found = compare(sides, self.request.blocks(len(sides)))
        self.tell("profiling each node")
        mine = profile(lambda: self.model.run(None, self.feeds), 0.2 * self.request.seconds)
        theirs = self._profile_peer(len(mine.calls)) if beside.peer else None
        parts = parts_of(mine, self.model.graph)
        if self.request.device is HOST:
            self.tell("measuring what this machine can do, once more")
            measure_ceilings(self.machine, self.request.quick)
        roofline = Roofline.of(self.machine)
        rows = layer_rows(mine, parts, roofline, self.model.graph)
        peer_nodes = put_beside(rows, parts, theirs, self.model.graph, _shapes(mine.plan)) if theirs else []
        tracks[OURS]["inference"] = track(mine, rows, "run")
        if theirs:
            tracks[THEIRS] = {"inference": peer_track(theirs, "run")}
        names = [side.name for side in sides]
        return {
            "first_run_s": first,
            **_timings(found, mine, rows, roofline, self.feeds),
            "peer": THEIRS if beside.peer else None,
            "peer_missing": beside.missing,
            "ratio": found.ratio(THEIRS, OURS) if beside.peer else None,
            "ratio_blocks": found.ratio_range(THEIRS, OURS) if beside.peer else None,
            "differences": beside.differences,
            "layers": rows,
            "peer_nodes": peer_nodes,
            "memory": _memory(self.request, mine.plan, self.feeds, names, self.tell),
        }

    def _beside(self, outputs: list[np.ndarray]) -> Beside:
        if not self.request.peer:
            return Beside(missing="it was left out")
        self.tell("comparing results with onnxruntime's")
        ours = dict(zip(self.model.graph.output_names(), outputs, strict=True))
        return open_beside(self.request.path, self.request.threads, self.feeds, ours, self.request.device.tolerance)

    def _profile_peer(self, calls: int) -> PeerProfile:
        return profile_peer(self.request.path, self.feeds, self.request.threads, calls)


def _shapes(plan: Plan) -> dict[str, tuple[int, ...]]:
    """Of the values of a plan, in ONNX order."""
    return {name: value.dims for name, value in plan.graph.values.items() if value.shape is not None}


def _training(
    request: Request, model: Model, feeds: Feeds, roofline: Roofline | None, tracks: Tracks, tell: Tell
) -> dict[str, Any]:
    """Steps of SGD with momentum on random targets. Nothing that pip installs trains an ONNX file beside us."""
    tell("planning a training step, and compiling kernels that are new")
    step = RandomStep(model, feeds, request.seed)
    start = time.perf_counter()
    loss = step()
    first = time.perf_counter() - start
    tell("timing training steps")
    found = compare([Side(OURS, step)], request.blocks(1))
    tell("profiling each node of a training step")
    mine = profile(step, 0.2 * request.seconds)
    rows = layer_rows(mine, parts_of(mine, model.graph), roofline, model.graph)
    tracks[OURS]["training"] = track(mine, rows, "step")
    return {
        "first_run_s": first,
        "loss": step.loss,
        "loss_value": loss,
        **_timings(found, mine, rows, roofline, feeds),
        "peer": None,
        "ratio": None,
        "layers": rows,
        "memory": _memory(request, mine.plan, feeds, ["training"], tell),
    }


def _timings(
    found: Comparison, mine: Profile, rows: list[dict[str, Any]], roofline: Roofline | None, feeds: Feeds
) -> dict[str, Any]:
    """What the timings and the rows of the nodes say of the whole."""
    flops, moved, seconds = sum(r["flops"] for r in rows), sum(r["bytes"] for r in rows), found[OURS].median
    return {
        "timings": {name: timing.as_dict() for name, timing in found.timings.items()},
        "samples_per_s": _samples(feeds) / seconds,
        "flops": flops,
        "bytes": moved,
        "gflops": flops / seconds / 1e9,
        "gbytes": moved / seconds / 1e9,
        "share": flops / seconds / 1e9 / roofline.gflops if roofline else None,
        "roofline": sum(row["least_ms"] for row in rows) / 1e3 / seconds if roofline else None,
        "profiled_calls": len(mine.calls),
        "profiled_ms": float(np.median(mine.call_seconds())) * 1e3,
        "outside_ms": outside_ms(mine),
    }


def _memory(request: Request, plan: Plan, feeds: Feeds, sides: Sequence[str], tell: Tell) -> dict[str, Any]:
    """planned: the arena and what the plan keeps of prepared weights. resident: measured in processes of their own, by
    side; None where that is not possible, for which `resident_missing` has the reason.
    """
    found: dict[str, Any] = {"arena_bytes": plan.arena_bytes, "held_bytes": plan.held_bytes, "resident": None}
    if plan.device is not HOST:
        return found | {"resident_missing": "the plan's memory is the GPU's"}
    tell("measuring memory in processes of their own")
    try:
        resident = {
            side: measure_apart(side, request.path, request.threads, feeds, exact=request.exact) for side in sides
        }
    except NbcnnError as error:
        return found | {"resident_missing": without_folder(str(error), request.path)}
    if None in resident.values():
        return found | {"resident_missing": "it is read from /proc, which this system does not have"}
    return found | {"resident": resident}
