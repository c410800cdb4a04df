"""Timings on a GPU by its own events, and what two sides' results must have in common before they are timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbcnn.report.agreement import Disagreement
from nbcnn.report.timing import Comparison, Plan, Timing

__all__ = ["MOST_CALLS", "REPEAT", "TOLERANCES", "GpuSide", "compare", "deviation", "ours", "repeated"]

TOLERANCES = {"fp32": 1e-4, "tf32": 1e-2, "fp16": 1e-2, "bf16": 5e-2}
"""Of the norm of what was expected, by precision."""
REPEAT = 4
"""What is small is made so many times in one CUDA graph, on both sides, so that the GPU and not the host is timed."""
MOST_CALLS = 50
WARM = 3
"""Calls before anything is timed: kernels are compiled, then captured, and PyTorch chooses its algorithms."""


@dataclass(frozen=True)
class GpuSide:
    """One of the things to compare. spans: seconds that the GPU takes for each of so many calls, made one behind the
    other.
    """

    name: str
    spans: Callable[[int], list[float]]


def ours(name: str, work: Callable[[], Any]) -> GpuSide:
    """What `work` starts in nbcnn's stream."""
    from nbcnn.kernels.cuda import runtime

    return GpuSide(name, lambda calls: runtime.spans(work, calls))


def repeated(name: str, work: Callable[[], None]) -> GpuSide:
    """What `work` launches, as a CUDA graph of REPEAT times the same."""
    from nbcnn.kernels.cuda import runtime

    def all_of_them() -> None:
        for _ in range(REPEAT):
            work()

    work()  # compiles
    runtime.synchronize()
    replay = runtime.capture(all_of_them) or all_of_them  # nothing is captured where there is no GPU
    return GpuSide(name, lambda calls: [t / REPEAT for t in runtime.spans(replay, calls)])


def compare(sides: Sequence[GpuSide], plan: Plan) -> Comparison:
    """Time the sides in alternating blocks, each begun with a call that is not timed."""
    timings = {side.name: Timing(side.name) for side in sides}
    calls: dict[str, int] = {}
    for side in sides:
        side.spans(min(WARM, plan.calls or WARM))
    for _ in range(plan.blocks):
        for side in sides:
            (once,) = side.spans(1)
            count = calls.setdefault(side.name, min(plan.calls_for(once), MOST_CALLS))
            timings[side.name].blocks.append(side.spans(count))
    return Comparison(timings)


def deviation(what: str, ours: Any, theirs: Any, tolerance: float) -> float:
    """The norm of the difference over the norm of `theirs`. Raises Disagreement above the tolerance, and for NaN."""
    if ours.shape != theirs.shape:
        raise Disagreement(f"{what}: ours has shape {ours.shape}, theirs {theirs.shape}")
    difference = ours - theirs
    found = (float(np.vdot(difference, difference)) / (float(np.vdot(theirs, theirs)) or 1.0)) ** 0.5
    if not found <= tolerance:  # so that NaN fails too
        raise Disagreement(f"{what}: the results differ by {found:.3g} of their norm; at most {tolerance:g} is allowed")
    return found
