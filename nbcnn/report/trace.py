"""A profile as a trace: JSON that Chrome's chrome://tracing and ui.perfetto.dev load.

The format is the "JSON Array/Object Format" of Google's "Trace Event Format" document: complete events (ph "X") with a
beginning `ts` and a duration `dur` in microseconds, and metadata events (ph "M") that name processes and threads. Runs
are events of their own, in which the events of their nodes lie.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nbcnn.report.profile import PeerProfile, Profile

__all__ = ["Track", "peer_track", "trace", "track"]

CALLS = 10
"""Calls of each kind that go into a trace: enough to see what is chance, few enough to load at once."""

Event = dict[str, Any]
Track = list[Event]
"""The events of one kind of run, beginning at 0."""


def track(found: Profile, rows: Sequence[Mapping[str, Any]], title: str) -> Track:
    """The first calls of a profile. rows: those of layers.layer_rows, in the order of found.nodes."""
    by_node = dict(zip(map(id, found.nodes), rows, strict=True))
    start = int(found.calls[0, 0])
    events: Track = []
    for call, (begin, end) in enumerate(found.calls[:CALLS].tolist()):
        events.append(_event(f"{title} {call + 1}", "run", (begin - start) / 1e3, (end - begin) / 1e3, {}))
        for step, node in enumerate(found.plan.nodes):
            first, last = int(found.begins[call, step]), int(found.ends[call, step])
            row, kernel = by_node[id(node)], found.plan.steps[step][0].__name__
            args = _arguments(row) | {"kernel": kernel}
            events.append(_event(row["name"], row["phase"], (first - start) / 1e3, (last - first) / 1e3, args))
    return events


def _arguments(row: Mapping[str, Any]) -> dict[str, Any]:
    """What is shown of a node that is clicked."""
    shown = {key: row[key] for key in ("op", "fused", "shape", "algorithm") if row.get(key)}
    shown |= {"GFLOP/s": round(row["gflops"], 2), "GB/s": round(row["gbytes"], 2)}
    return shown | ({"share of the roofline": round(row["roofline"], 3)} if row.get("roofline") is not None else {})


def peer_track(found: PeerProfile, title: str) -> Track:
    """The first calls of the other side's profile."""
    runs = found.runs[:CALLS]
    start = runs[0][0] if runs else 0
    last = max((begin + duration for begin, duration in runs), default=0)
    events = [
        _event(f"{title} {k + 1}", "run", begin - start, duration, {}) for k, (begin, duration) in enumerate(runs)
    ]
    for node in found.nodes:
        for begin, duration in node.spans:
            if begin < last:
                events.append(_event(node.name, "forward", begin - start, duration, {"op": node.op}))
    return events


def _event(name: str, category: str, begin: float, duration: float, args: dict[str, Any]) -> Event:
    return {"name": name, "cat": category, "ph": "X", "ts": begin, "dur": duration, "args": args}


def trace(sides: Mapping[str, Mapping[str, Track]], about: Mapping[str, Any]) -> dict[str, Any]:
    """The whole file. sides: name of a side -> title of a track -> its events; sides become processes, tracks threads.
    about: what else the file should say.
    """
    return {"traceEvents": list(_events(sides)), "displayTimeUnit": "ms", "otherData": dict(about)}


def _events(sides: Mapping[str, Mapping[str, Track]]) -> Iterator[Event]:
    for pid, (side, tracks) in enumerate(sides.items(), 1):
        yield _named("process_name", side, pid, 0)
        for tid, (title, events) in enumerate(tracks.items(), 1):
            yield _named("thread_name", title, pid, tid)
            yield from (event | {"pid": pid, "tid": tid} for event in events)


def _named(what: str, name: str, pid: int, tid: int) -> Event:
    return {"name": what, "ph": "M", "pid": pid, "tid": tid, "ts": 0, "args": {"name": name}}
