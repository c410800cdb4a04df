"""Run a plan with every array between poisoned guard bands.

SIMD kernels check no bounds. Here each array that a plan's kernels are given is replaced by a copy that lies in the
middle of a larger one; the bands around it, and whatever the plan has not written yet, are filled with NaN (a large
number for integers). A kernel that writes outside is caught because a band changes, one that uses what it reads
outside because its result becomes NaN.
"""

from __future__ import annotations

import numpy as np
import pytest

from nbcnn.devices import HOST
from nbcnn.plan import Plan

BAND = 96
"""Elements on either side: more than any register tile spans."""


class _Guarded:
    def __init__(self, array: np.ndarray, keep: bool) -> None:
        kind = array.dtype.kind
        self.poison = np.nan if kind == "f" else True if kind == "b" else min(2**40 + 1, np.iinfo(array.dtype).max)
        self.whole = np.full(array.size + 2 * BAND, self.poison, array.dtype)
        self.inner = self.whole[BAND : BAND + array.size]
        if keep:
            self.inner[:] = array

    def intact(self) -> bool:
        bands = np.concatenate([self.whole[:BAND], self.whole[BAND + self.inner.size :]])
        return bool(np.isnan(bands).all() if self.whole.dtype.kind == "f" else (bands == self.poison).all())


def run_guarded(plan: Plan, masters: bool = False) -> dict[str, np.ndarray]:
    """Run all calls of a plan between guard bands; returns the outputs in memory order. Asserts that no band was
    touched.

    A plan of a GPU skips the test: its arrays cannot be replaced so.

    masters: return the weights as well, as the run leaves them (the plan's own stay as they are).
    """
    if plan.device is not HOST:
        pytest.skip("guard bands are for the processor's kernels: compute-sanitizer watches those of a GPU")
    known: dict[tuple[int, int, str], _Guarded] = {}
    ends = [plan.arrays[value.name] for value in plan.graph.outputs]

    def guard(array: np.ndarray, keep: bool) -> np.ndarray:
        for whole in ends:  # whose memory is used for nothing else: what lies in it is a part of it
            skipped = (array.ctypes.data - whole.ctypes.data) // whole.itemsize
            if array.size < whole.size and 0 <= skipped <= whole.size - array.size:
                return guard(whole, keep=False)[skipped : skipped + array.size]
        key = (array.ctypes.data, array.size, array.dtype.str)
        if key not in known:
            known[key] = _Guarded(array, keep)
        return known[key].inner

    in_arena = (plan.arena.ctypes.data, plan.arena.ctypes.data + plan.arena.size)
    for value in plan.graph.inputs:
        guard(plan.arrays[value.name], keep=True)
    for kernel, args in [*(c for p in plan.prepared for c in p.steps()), *plan.steps]:
        taken = [
            guard(a, keep=not in_arena[0] <= a.ctypes.data < in_arena[1]) if isinstance(a, np.ndarray) else a
            for a in args
        ]
        kernel(*taken)
        for array in known.values():
            assert array.intact(), f"{kernel.__name__} wrote outside its arrays"
    found = {
        v.name: guard(plan.arrays[v.name], keep=False).reshape(plan.graph.values[v.name].physical)
        for v in plan.graph.outputs
    }
    if masters:
        found |= {parameter.name: guard(array, keep=True) for parameter, array in plan.masters}
    return found
