"""Loss scaling (Micikevicius et al., Mixed Precision Training, arXiv:1710.03740, section 3.2): gradients that are kept
in 16 bits are multiplied by a factor, so that small ones do not vanish, and divided by it before they are used.

The factor, of shape (1,), is a state that the trainer writes: neither a plan nor a CUDA graph depends on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbcnn.binder import Binder
from nbcnn.graph import Node
from nbcnn.ops.base import Op, register

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward


@register("LossScale")
class LossScale(Op):
    """inputs: what the loss is taken of, the factor -> the first input. Its gradient is multiplied by the factor."""

    activations = (0,)
    needs_whole = True

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        return [back.add("Mul", [dy, node.inputs[1]], like=node.inputs[0]), None]

    def bind(self, node: Node, b: Binder) -> None:
        b.alias(node.outputs[0], node.inputs[0])


@register("Unscale")
class Unscale(Op):
    """inputs: a gradient, the factor, a flag (1,). Divides the gradient, where it lies, by the factor; the flag becomes
    1 where an element is not finite.
    """

    differentiable = False
    needs_whole = True

    def bind(self, node: Node, b: Binder) -> None:
        gradient, scale, found = (b.buffer(name) for name in node.inputs)
        b.call("unscale", gradient, scale, found, gradient.size)
