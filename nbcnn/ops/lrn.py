"""LRN (ONNX opsets 1, 13): local response normalization across channels (Krizhevsky et al. 2012, section 3.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbcnn.binder import Binder
from nbcnn.errors import ModelError, UnsupportedError
from nbcnn.graph import Node
from nbcnn.ops.base import Facts, Op, register

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

__all__ = ["LRN"]


def _arguments(node: Node, b: Binder) -> tuple[Any, ...]:
    """What both kernels take: scratch, (rows, channels), reach before and after, alpha / size, beta, bias."""
    value, attrs, kind = b.value(node.inputs[0]), node.attrs, b.dtype.type
    channels, size = value.dims[1], attrs["size"]
    # A wider window than there are channels sees no more of them.
    reach = tuple(min(n, channels - 1) for n in ((size - 1) // 2, size // 2))
    scalars = (kind(attrs["alpha"] / size), kind(attrs["beta"]), kind(attrs["bias"]))
    return b.scratch(3 * channels * b.threads), (value.size // channels, channels), reach, *scalars


@register("LRN")
class LRN(Op):
    """X (N, C, D1...) -> X / (bias + alpha / size * sum of X^2 over `size` channels around)^beta."""

    layout = "last"
    since = 1
    halves = 1

    def normalize(self, node: Node, facts: Facts) -> None:
        x, attrs = facts.value(node, 0), node.attrs
        facts.need_floats(node)
        if len(x.dims) < 2:
            raise UnsupportedError(f"{node.label}: the input {x.dims} has no channels")
        if int(attrs.get("size", 0)) < 1:
            raise ModelError(f"{node.label}: size must be given and positive")
        defaults = {"alpha": 1e-4, "beta": 0.75, "bias": 1.0}
        node.attrs = {k: float(attrs.get(k, v)) for k, v in defaults.items()} | {"size": int(attrs["size"])}

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        x = node.inputs[0]
        return [back.add("LRNGrad", [x, dy], like=x, attrs=node.attrs)]

    def bind(self, node: Node, b: Binder) -> None:
        b.call("lrn", b.buffer(node.inputs[0]), b.buffer(node.outputs[0]), *_arguments(node, b))


@register("LRNGrad")
class LRNGrad(Op):
    """inputs: X, dY -> dX."""

    layout = "last"
    halves = 1

    def bind(self, node: Node, b: Binder) -> None:
        attrs = node.attrs
        factor = b.dtype.type(2 * attrs["alpha"] * attrs["beta"] / attrs["size"])
        x, dy, dx = (b.buffer(name) for name in (*node.inputs, *node.outputs))
        b.call("lrn_grad", x, dy, dx, *_arguments(node, b), factor)
