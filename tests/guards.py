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


def _parts(plan: Plan) -> set[tuple[int, int, int]]:
    """Of values that are written into larger ones: elements of that, the first one's place in it, and how many from
    there to the last one.
    """
    values = plan.graph.values
    return {
        (values[v.part.whole].size, v.part.first, v.size + (v.size // v.dims[1] - 1) * (v.pitch - v.dims[1]))
        for v in values.values()
        if v.part
    }


def run_guarded(plan: Plan, masters: bool = False) -> dict[str, np.ndarray]:
    """Run all calls of a plan between guard bands; returns the outputs in memory order. Asserts that no band was
    touched.

    A plan of a GPU skips the test: its arrays cannot be replaced so.

    masters: return the weights as well, as the run leaves them (the plan's own stay as they are).
    """
    if plan.device is not HOST:
        pytest.skip("guard bands are for the processor's kernels: compute-sanitizer watches those of a GPU")
    known: dict[tuple[int, int, str], _Guarded] = {}
    parts = _parts(plan)
    arrays = [a for _, args in plan.steps for a in args if parts and isinstance(a, np.ndarray)]
    arrays += plan.arrays.values()

    def guard(array: np.ndarray, keep: bool) -> np.ndarray:
        for whole in arrays:
            first = (array.ctypes.data - whole.ctypes.data) // whole.itemsize
            if (whole.size, first, array.size) in parts:
                return guard(whole, keep=False)[first : first + array.size]
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
