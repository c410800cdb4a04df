"""Operators that give the same elements, in ONNX order, another shape: Reshape, Flatten, Squeeze, Unsqueeze, Identity.

None of them computes anything: the output is the input's memory under another shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from nbcnn.binder import Binder
from nbcnn.errors import ModelError
from nbcnn.graph import Node, Value
from nbcnn.ops.axes import axis_of
from nbcnn.ops.base import Facts, Op, Shaped, register

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward


class _View(Op):
    """Normalized: attribute `shape`, the output's."""

    layout = "plain"
    activations = (0,)
    since = 1
    halves = 1

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x = inputs[0]
        assert x and x.dtype is not None
        return [(x.dtype, tuple(node.attrs["shape"]))]

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        return None if arrays[0] is None else [arrays[0].reshape(node.attrs["shape"])]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        shape = back.graph.values[node.inputs[0]].dims
        return [back.add("Reshape", [dy], like=node.inputs[0], attrs={"shape": shape})]

    def bind(self, node: Node, b: Binder) -> None:
        b.alias(node.outputs[0], node.inputs[0])

    @staticmethod
    def settle(node: Node, x: Value, shape: Sequence[int]) -> None:
        """Keep the data input and the output's shape, and nothing else."""
        if prod(shape) != x.size:
            raise ModelError(f"{node.label}: cannot give {x.dims} ({x.size} elements) the shape {tuple(shape)}")
        node.inputs = node.inputs[:1]
        node.attrs = {"shape": tuple(shape)}


@register("Reshape")
class Reshape(_View):
    """ONNX opsets 1 (attribute), 5, 13, 14 (allowzero): 0 copies a dimension, -1 is what is left over."""

    def normalize(self, node: Node, facts: Facts) -> None:
        x = facts.value(node, 0)
        asked = facts.ints(node, 1, "shape", "the shape")
        if asked is None:
            raise ModelError(f"{node.label}: no shape is given")
        keep_zero = bool(node.attrs.get("allowzero", 0))
        if any(d == 0 and not keep_zero and i >= len(x.dims) for i, d in enumerate(asked)):
            raise ModelError(f"{node.label}: shape {asked} copies a dimension that the input {x.dims} does not have")
        shape = [x.dims[i] if d == 0 and not keep_zero else d for i, d in enumerate(asked)]
        known = prod([d for d in shape if d != -1])
        if shape.count(-1) > 1 or (-1 in shape and (known == 0 or x.size % known)):
            raise ModelError(f"{node.label}: cannot give {x.dims} the shape {asked}")
        shape = [x.size // known if d == -1 else d for d in shape]
        if prod(shape) != x.size:
            hint = ""
            picture = prod(shape[1:])
            if x.dims and shape and picture and x.size % picture == 0 and shape[0] != x.dims[0]:
                hint = f"; the file fixes the batch size to {shape[0]} here: feed that many"
            raise ModelError(f"{node.label}: cannot give {x.dims} ({x.size} elements) the shape {asked}{hint}")
        self.settle(node, x, shape)


@register("Flatten")
class Flatten(_View):
    """ONNX opsets 1, 9, 11, 13: two dimensions, those before `axis` and the rest."""

    def normalize(self, node: Node, facts: Facts) -> None:
        x = facts.value(node, 0)
        axis = int(node.attrs.get("axis", 1))
        if not -len(x.dims) <= axis <= len(x.dims):
            raise ModelError(f"{node.label}: axis {axis} is outside the input's shape {x.dims}")
        axis += len(x.dims) if axis < 0 else 0
        self.settle(node, x, (prod(x.dims[:axis]), prod(x.dims[axis:])))


@register("Squeeze")
class Squeeze(_View):
    """ONNX opsets 1, 11 (axes attribute), 13 (axes input)."""

    def normalize(self, node: Node, facts: Facts) -> None:
        x = facts.value(node, 0)
        rank = len(x.dims)
        given = facts.ints(node, 1, "axes", "the axes")
        axes = [i for i, d in enumerate(x.dims) if d == 1] if given is None else [axis_of(node, a, rank) for a in given]
        if any(x.dims[a] != 1 for a in axes):
            raise ModelError(f"{node.label}: axes {given} of {x.dims} are not all of size 1")
        self.settle(node, x, [d for i, d in enumerate(x.dims) if i not in axes])


@register("Unsqueeze")
class Unsqueeze(_View):
    """ONNX opsets 1, 11 (axes attribute), 13 (axes input)."""

    def normalize(self, node: Node, facts: Facts) -> None:
        x = facts.value(node, 0)
        given = facts.ints(node, 1, "axes", "the axes")
        if given is None:
            raise ModelError(f"{node.label}: no axes are given")
        rank = len(x.dims) + len(given)
        axes = {axis_of(node, a, rank) for a in given}
        if len(axes) != len(given):
            raise ModelError(f"{node.label}: axes {given} name a dimension twice")
        rest = iter(x.dims)
        self.settle(node, x, [1 if i in axes else next(rest) for i in range(rank)])


@register("Identity")
class Identity(_View):
    """ONNX opsets 1, 13, 14, 16. Keeps the layout of its input."""

    layout = "any"

    def normalize(self, node: Node, facts: Facts) -> None:
        self.settle(node, facts.value(node, 0), facts.value(node, 0).dims)

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        return dys
