"""Where the time of a run goes, node by node, on both sides: ours from the run loop's clock, onnxruntime's from its own
profile.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from nbcnn.graph import Node
from nbcnn.plan import Plan
from nbcnn.report.peer import session

__all__ = ["PeerNode", "PeerProfile", "Profile", "profile", "profile_peer"]

LEAST, MOST = 5, 200
"""Profiled calls."""


@dataclass(frozen=True)
class Profile:
    """The calls of one plan, in nanoseconds of one clock.

    begins, ends: (calls, steps), of each step. calls: (calls, 2), beginning and end of the whole call, the copying of
    inputs and outputs included.
    """

    plan: Plan
    begins: np.ndarray
    ends: np.ndarray
    calls: np.ndarray

    @property
    def nodes(self) -> list[Node]:
        """The nodes that have steps, in the order of their first."""
        return list({id(node): node for node in self.plan.nodes}.values())

    def node_seconds(self) -> np.ndarray:
        """(calls, nodes): the time of all steps of a node."""
        places = {id(node): index for index, node in enumerate(self.nodes)}
        seconds = np.zeros((len(self.calls), len(places)))
        for step, node in enumerate(self.plan.nodes):
            seconds[:, places[id(node)]] += (self.ends[:, step] - self.begins[:, step]) * 1e-9
        return seconds

    def call_seconds(self) -> np.ndarray:
        """(calls,)"""
        spans: np.ndarray = (self.calls[:, 1] - self.calls[:, 0]) * 1e-9
        return spans

    def kernels(self, node: Node) -> list[str]:
        """The kernels that compute a node, each once."""
        mine = (kernel for (kernel, _), owner in zip(self.plan.steps, self.plan.nodes, strict=True) if owner is node)
        return list(dict.fromkeys(kernel.__name__ for kernel in mine))


def profile(call: Callable[[], Any], seconds: float, clock: Callable[[], int] = time.perf_counter_ns) -> Profile:
    """Profile about so many seconds of calls, each of which executes the same steps; the first is not counted."""
    from nbcnn.executor import recording

    spans: list[tuple[int, int]] = []
    with recording() as records:
        start = clock()
        call()
        each = len(records)
        calls = int(max(LEAST, min(MOST, seconds * 1e9 / max(clock() - start, 1))))
        records.clear()
        for _ in range(calls):
            start = clock()
            call()
            spans.append((start, clock()))
    if not each:
        raise ValueError("nothing was executed")
    begins, ends = [], []
    for first in range(0, len(records), each):
        parts = records[first : first + each]
        begins.append([stamp for part in parts for stamp in part.stamps[:-1]])
        ends.append([stamp for part in parts for stamp in part.stamps[1:]])
    plan = records[0].plan
    return Profile(plan, np.array(begins).reshape(calls, -1), np.array(ends).reshape(calls, -1), np.array(spans))


@dataclass(frozen=True)
class PeerNode:
    """A node that onnxruntime ran. index: its number in onnxruntime's graph. spans: (beginning, duration) of each call,
    in microseconds. shape: of its first output.
    """

    name: str
    op: str
    index: int
    spans: tuple[tuple[int, int], ...]
    shape: tuple[int, ...] = ()

    @property
    def ms(self) -> float:
        """The median of its calls."""
        return statistics.median(duration for _, duration in self.spans) / 1e3


@dataclass(frozen=True)
class PeerProfile:
    """nodes: in the order in which they ran. runs: (beginning, duration) of whole calls, in microseconds."""

    nodes: list[PeerNode]
    runs: tuple[tuple[int, int], ...]


def profile_peer(model: str | Path | bytes, feeds: Mapping[str, np.ndarray], threads: int, calls: int) -> PeerProfile:
    """Run a model in onnxruntime with its profiler on; the first call is not counted."""
    with TemporaryDirectory(prefix="nbcnn-profile-") as folder:
        peer = session(model, threads, Path(folder) / "profile")
        for _ in range(calls + 1):
            peer.run(None, dict(feeds))
        events = json.loads(Path(peer.end_profiling()).read_text(encoding="utf-8"))
    return read_peer_profile(events)


def read_peer_profile(events: list[dict[str, Any]]) -> PeerProfile:
    """From onnxruntime's trace events: those of category Node, one a call and node."""
    runs = [(e["ts"], e["dur"]) for e in events if e.get("cat") == "Session" and e["name"] == "model_run"]
    runs = sorted(runs)[1:]
    warm = runs[0][0] if runs else 0
    found: dict[tuple[int, str], tuple[dict[str, Any], list[tuple[int, int]]]] = {}
    for event in events:
        name = event["name"]
        if event.get("cat") != "Node" or not name.endswith(SUFFIX) or event["ts"] < warm:
            continue
        key = int(event["args"].get("node_index", -1)), name.removesuffix(SUFFIX)
        found.setdefault(key, (event["args"], []))[1].append((event["ts"], event["dur"]))
    nodes = [
        PeerNode(name, args.get("op_name", ""), index, tuple(spans), _first_shape(args))
        for (index, name), (args, spans) in found.items()
    ]
    return PeerProfile(nodes, tuple(runs))


def _first_shape(args: dict[str, Any]) -> tuple[int, ...]:
    """From onnxruntime's output_type_shape, [{"float": [1, 3]}, ...]."""
    for output in args.get("output_type_shape") or ():
        return tuple(next(iter(output.values()), ()))
    return ()


SUFFIX = "_kernel_time"
