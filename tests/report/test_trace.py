"""The trace: the fields that Google's Trace Event Format asks of complete and metadata events."""

from __future__ import annotations

import json
from itertools import pairwise
from numbers import Real
from pathlib import Path
from typing import Any

import pytest

from nbcnn.report.network import Tracks
from nbcnn.report.trace import trace
from nbcnn.report.write import write_json

COMPLETE: dict[str, type] = {
    **{"name": str, "cat": str, "ph": str, "ts": Real, "dur": Real, "pid": int, "tid": int, "args": dict},
}
METADATA: dict[str, type] = {"name": str, "ph": str, "ts": Real, "pid": int, "tid": int, "args": dict}


@pytest.fixture(scope="module")
def events(measured: tuple[dict[str, Any], Tracks], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """As another program reads them."""
    path = write_json(tmp_path_factory.mktemp("trace") / "trace.json", trace(measured[1], {"network": "small.onnx"}))
    found: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    assert found["displayTimeUnit"] in ("ms", "ns") and found["otherData"] == {"network": "small.onnx"}
    events: list[dict[str, Any]] = found["traceEvents"]
    return events


def test_every_event_has_its_fields(events: list[dict[str, Any]]) -> None:
    for event in events:
        fields = {"X": COMPLETE, "M": METADATA}[event["ph"]]
        assert event.keys() == fields.keys(), event
        assert all(isinstance(event[name], kind) for name, kind in fields.items()), event
        assert event["ts"] >= 0 and event.get("dur", 0) >= 0


def test_processes_and_threads_are_named(events: list[dict[str, Any]]) -> None:
    names = {(e["name"], e["pid"], e["tid"]): e["args"]["name"] for e in events if e["ph"] == "M"}
    assert {name for (what, _, _), name in names.items() if what == "process_name"} == {"nbcnn", "onnxruntime"}
    used = {(e["pid"], e["tid"]) for e in events if e["ph"] == "X"}
    assert used == {(pid, tid) for what, pid, tid in names if what == "thread_name"}


def test_nodes_lie_inside_their_runs(events: list[dict[str, Any]]) -> None:
    """Events of one thread must nest, or viewers draw them wrongly."""
    for key in {(e["pid"], e["tid"]) for e in events if e["ph"] == "X"}:
        mine = [e for e in events if e["ph"] == "X" and (e["pid"], e["tid"]) == key]
        runs = [(e["ts"], e["ts"] + e["dur"]) for e in mine if e["cat"] == "run"]
        assert runs and all(end <= begin for (_, end), (begin, _) in pairwise(runs))
        for event in mine:
            begin, end = event["ts"], event["ts"] + event["dur"]
            assert any(first <= begin and end <= last + 1e-3 for first, last in runs), event


def test_nodes_say_what_they_are(events: list[dict[str, Any]]) -> None:
    conv = next(e for e in events if e["ph"] == "X" and e["args"].get("op") == "Conv" and "kernel" in e["args"])
    assert conv["cat"] == "forward" and conv["args"]["shape"] == [2, 8, 12, 12] and conv["args"]["GFLOP/s"] > 0
    assert {"forward", "loss", "backward", "update", "run"} == {e["cat"] for e in events if e["ph"] == "X"}
