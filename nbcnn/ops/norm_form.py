"""How an activation lies in memory to the kernels that normalize."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from nbcnn.graph import Value
from nbcnn.ops.runs import runs

__all__ = ["Form", "form_of", "form_of_axes", "statistics_dims"]


@dataclass(frozen=True)
class Form:
    """x in memory: (outer, rows, groups, width), of which rows and width are brought together. Each element of scale
    belongs to `repeat` neighbours.
    """

    outer: int
    rows: int
    groups: int
    width: int
    repeat: int = 1

    @property
    def in_lines(self) -> bool:
        return self.rows == 1

    @property
    def line_dims(self) -> tuple[int, int, int, int]:
        return self.outer * self.groups, self.width, self.groups, self.repeat

    @property
    def column_dims(self) -> tuple[int, int, int, int]:
        return self.outer, self.rows, self.groups * self.width, self.width


def form_of(x: Value, attrs: dict[str, Any]) -> Form | None:
    """None where axes that are brought together and others change places too often."""
    if "groups" not in attrs:
        return form_of_axes(x, attrs["axes"])
    batch, channels, groups, pixels = x.dims[0], x.dims[1], attrs["groups"], prod(x.dims[2:])
    if x.layout == "last":
        return Form(batch, pixels, groups, channels // groups)
    return Form(batch, 1, groups, channels // groups * pixels, pixels)


def form_of_axes(x: Value, axes: Sequence[int]) -> Form | None:
    """The same for axes that are brought together."""
    found = [(run.size, run.reduced) for run in runs(x, axes)]
    if not found or found[0][1]:
        found.insert(0, (1, False))
    if not found[-1][1]:
        found.append((1, True))
    sizes = [size for size, _ in found]
    if len(sizes) == 2:
        return Form(sizes[0], 1, 1, sizes[1])
    return Form(sizes[0], sizes[1], sizes[2], sizes[3]) if len(sizes) == 4 else None


def statistics_dims(attrs: dict[str, Any], dims: Sequence[int]) -> tuple[int, ...]:
    """The shape of mean and inverse: the input's with ones for what was brought together, or (N, groups)."""
    if "groups" in attrs:
        return dims[0], attrs["groups"]
    return tuple(1 if axis in attrs["axes"] else n for axis, n in enumerate(dims))
