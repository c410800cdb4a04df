"""The only run loop: refresh what rests on weights that have changed, then walk the flat list of kernel calls."""

from __future__ import annotations

from nbcnn.kernels.cpu.threads import exclusive, use
from nbcnn.plan import Plan
from nbcnn.threads import get_num_threads

__all__ = ["execute"]


def execute(plan: Plan, start: int = 0, stop: int | None = None) -> None:
    """Run a plan on what lies in its input arrays; its output arrays hold the result afterwards.

    start, stop: a range of steps, for a plan that is run in two parts (weights are looked at when start is 0).
    """
    use(get_num_threads())
    with exclusive():
        if start == 0:
            for item in plan.prepared:
                item.refresh()
        for kernel, args in plan.steps[start:stop]:
            kernel(*args)
