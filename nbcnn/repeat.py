"""A call of a model that is made again with arrays of the same shapes and types, as nearly all calls are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nbcnn.parameter import Parameter
from nbcnn.plan import Plan

__all__ = ["Repeat"]


class Repeat:
    """What was looked up for one call: its plan, and where inputs and outputs lie.

    plan: current when `Parameter.changes` was `changes`. arrays: the inputs, checked. dtypes: of the outputs, as the
    network declares them.
    """

    def __init__(
        self, plan: Plan, changes: int, arrays: Mapping[str, np.ndarray], dtypes: Sequence[np.dtype | None]
    ) -> None:
        from nbcnn.executor import execute

        self._plan, self._changes, self._device = plan, changes, plan.device
        self._execute: Callable[[Plan], None] = execute
        known = {v.name for v in plan.graph.inputs}
        self._inputs = [
            (name, a.shape, a.dtype, plan.array(name) if name in known else None) for name, a in arrays.items()
        ]
        results = [plan.array(v.name) for v in plan.graph.outputs]
        self._outputs = [(a, dtype or a.dtype) for a, dtype in zip(results, dtypes, strict=True)]

    def fits(self, feeds: Any) -> bool:
        """Whether these are arrays of the same shapes and types, and no weight has changed since."""
        if type(feeds) is not dict or len(feeds) != len(self._inputs) or self._changes != Parameter.changes:
            return False
        for name, shape, dtype, _ in self._inputs:
            array = feeds.get(name)
            if type(array) is not np.ndarray or array.shape != shape or array.dtype != dtype:
                return False
        return True

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs for inputs that fit, in arrays that are the caller's."""
        for name, _, _, place in self._inputs:
            if place is not None:
                self._device.write(place, feeds[name])
        self._execute(self._plan)
        return [self._device.read(array).astype(dtype, copy=False) for array, dtype in self._outputs]
