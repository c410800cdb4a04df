"""The only run loop: refresh what weights have changed, then walk the flat list of kernel calls."""

from __future__ import annotations

from nbcnn.plan import Plan

__all__ = ["execute", "refresh"]


def refresh(plan: Plan) -> None:
    """Bring everything derived from the weights up to date."""
    for item in plan.prepared:
        item.refresh()


def execute(plan: Plan) -> None:
    """Run a plan on what lies in its input arrays; its output arrays hold the result afterwards."""
    refresh(plan)
    for kernel, args in plan.steps:
        kernel(*args)
