"""Einsum (ONNX opset 12): sums of products over indices that a term such as "bij,bjk->bik" names.

On floats the einsum pass (passes/einsum.py) makes transposes and matrix products of it, which have the kernels and the
gradients; what it keeps is EinsumDiagonal. Integers are NumPy's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from nbcnn.binder import Binder
from nbcnn.errors import ModelError
from nbcnn.graph import Node, Value
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.strided import Axis, copy, fill, strides

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

__all__ = ["Labels"]

Labels = tuple[str, ...]
"""A name for each axis: letters, and "...1", "...2" from the last on for those that an ellipsis stands for."""


@register("Einsum")
class Einsum(Op):
    """Normalized: terms (Labels of each input), result (of the output), sizes (label -> size)."""

    layout = "plain"
    since = 12
    trainable = (0, 1, 2, 3)
    rewritten = True

    def normalize(self, node: Node, facts: Facts) -> None:
        shapes = [facts.value(node, k).dims for k in range(len(node.inputs))]
        equation = str(node.attrs.get("equation", "")).replace(" ", "")
        left, arrow, right = equation.partition("->")
        terms = left.split(",")
        facts.need_one_type(node)
        if len(terms) != len(shapes):
            raise ModelError(f"{node.label}: {equation!r} has {len(terms)} terms for {len(shapes)} inputs")
        named = [_labels(node, equation, term, len(shape)) for term, shape in zip(terms, shapes, strict=True)]
        sizes: dict[str, int] = {}
        for names, shape in zip(named, shapes, strict=True):
            for label, size in zip(names, shape, strict=True):
                if sizes.setdefault(label, size) == 1:
                    sizes[label] = size
                elif size not in (1, sizes[label]):
                    raise ModelError(f"{node.label}: {equation!r}: {label!r} is {sizes[label]} and {size} in {shapes}")
        hidden = sorted((name for name in sizes if name.startswith("...")), key=lambda name: -int(name[3:]))
        if arrow:
            result = _labels(node, equation, right, len(right.replace("...", "")) + len(hidden) * ("..." in right))
        else:
            count = Counter(name for names in named for name in names)
            result = (*hidden, *sorted(name for name in sizes if count[name] == 1 and name not in hidden))
        if any(name not in sizes for name in result) or len(set(result)) < len(result):
            raise ModelError(f"{node.label}: {equation!r}: the output names what no input has, or one index twice")
        node.attrs = {"terms": tuple(named), "result": result, "sizes": sizes}

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x = inputs[0]
        assert x and x.dtype
        return [(x.dtype, tuple(node.attrs["sizes"][label] for label in node.attrs["result"]))]

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        known = [a for a in arrays if a is not None]
        if len(known) < len(arrays):
            return None
        numbers = {label: k for k, label in enumerate(node.attrs["sizes"])}

        def numbered(labels: Iterable[str]) -> list[int]:
            return [numbers[label] for label in labels]

        operands = (part for a, term in zip(known, node.attrs["terms"], strict=True) for part in (a, numbered(term)))
        found = np.asarray(np.einsum(*operands, numbered(node.attrs["result"])), known[0].dtype)
        return [np.broadcast_to(found, [node.attrs["sizes"][label] for label in node.attrs["result"]])]


def _labels(node: Node, equation: str, term: str, rank: int) -> Labels:
    """The name of each of `rank` axes that one term is about."""
    before, dots, after = term.partition("...")
    hidden = rank - len(before) - len(after)
    letters = before + after
    if (letters and not letters.isalpha()) or hidden < 0 or (hidden and not dots):
        raise ModelError(f"{node.label}: {equation!r}: the term {term!r} does not fit {rank} dimensions")
    return (*before, *(f"...{k}" for k in range(hidden, 0, -1)), *after)


# --- indices that occur twice in a term ----------------------------------------------------------------------------


def _diagonal(node: Node, whole: Value, part: Value) -> list[Axis]:
    """Sizes, and strides in the whole tensor and in its diagonal, along the diagonal's axes."""
    steps = dict.fromkeys(range(len(part.dims)), 0)
    for axis, step in zip(node.attrs["axes"], strides(whole), strict=True):
        steps[axis] += step
    return list(zip(part.dims, steps.values(), strides(part), strict=True))


@register("EinsumDiagonal")
class EinsumDiagonal(Op):
    """inputs: X -> Y. Attributes: axes, the axis of Y that each axis of X is walked along with."""

    layout = "plain"

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x = inputs[0]
        assert x and x.dtype
        sizes = dict(zip(node.attrs["axes"], x.dims, strict=True))
        return [(x.dtype, tuple(sizes[axis] for axis in range(len(sizes))))]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        return [back.add("EinsumDiagonalGrad", [dy], like=node.inputs[0], attrs=node.attrs)]

    def bind(self, node: Node, b: Binder) -> None:
        x, y = b.value(node.inputs[0]), b.value(node.outputs[0])
        copy(b, x, y, _diagonal(node, x, y), apart=True)


@register("EinsumDiagonalGrad")
class EinsumDiagonalGrad(Op):
    """inputs: dY -> dX, zero beside the diagonal."""

    layout = "plain"

    def bind(self, node: Node, b: Binder) -> None:
        dy, dx = b.value(node.inputs[0]), b.value(node.outputs[0])
        fill(b, dx, 0)
        axes = [(size, of, to) for size, to, of in _diagonal(node, dx, dy)]
        copy(b, dy, dx, axes)
