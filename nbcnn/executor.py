"""The only run loop: refresh what rests on weights that have changed, then walk the flat list of kernel calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter_ns

from nbcnn.devices import HOST
from nbcnn.kernels.cpu.threads import exclusive, use
from nbcnn.parameter import Parameter
from nbcnn.plan import Plan
from nbcnn.threads import get_num_threads

__all__ = ["Record", "execute", "recording"]


@dataclass(frozen=True)
class Record:
    """When the steps of one `execute` began. start: the first step. stamps: nanoseconds, one before each step and one
    at the end.
    """

    plan: Plan
    start: int
    stamps: list[int]


_records: list[Record] | None = None


def execute(plan: Plan, start: int = 0, stop: int | None = None) -> None:
    """Run a plan on what lies in its input arrays; its output arrays hold the result afterwards.

    start, stop: a range of steps, for a plan that is run in two parts (weights are looked at when start is 0).
    """
    if start == 0 and plan.seen != Parameter.changes:
        _refresh(plan)
    if plan.alone and _records is None:
        for kernel, args in plan.entries[start:stop]:
            kernel(*args)
        return
    if plan.device is not HOST and _records is None:
        plan.device.execute(plan, start, stop)
        return
    use(get_num_threads())
    with exclusive():
        if _records is not None:
            _records.append(_recorded(plan, start, stop))
            return
        for kernel, args in plan.entries[start:stop]:
            kernel(*args)


def _refresh(plan: Plan) -> None:
    """Run again what rests on weights that have changed."""
    seen = Parameter.changes
    if plan.calls:
        plan.compile()
    use(get_num_threads())
    with exclusive():
        for item in plan.prepared:
            item.refresh()
    plan.seen = seen


def _recorded(plan: Plan, start: int, stop: int | None) -> Record:
    """The same walk, with a look at the clock between the steps."""
    plan.device.synchronize()
    stamps = [perf_counter_ns()]
    for kernel, args in plan.entries[start:stop]:
        kernel(*args)
        plan.device.synchronize()
        stamps.append(perf_counter_ns())
    return Record(plan, start, stamps)


@contextmanager
def recording() -> Iterator[list[Record]]:
    """While this lasts, everything that is executed in this process leaves a Record in the list. For reports; one at a
    time.
    """
    global _records  # noqa: PLW0603 (a switch for the whole process, so that the loop above pays one look at it)
    if _records is not None:
        raise RuntimeError("a recording is under way already")
    records: list[Record] = []
    _records = records
    try:
        yield records
    finally:
        _records = None
