"""Optimizer steps: effect nodes that the trainer appends, which change a parameter and its states where they lie.

States are initializers, zero at first, with as many elements as the parameter's own array has, padding included. So are
the settings, `hyper`: a small float64 array that the trainer writes before each step (nbcnn.optim: `Optimizer.hyper`),
so that a new learning rate needs no new plan. All of them must be contiguous arrays: they are used where they lie.
"""

from __future__ import annotations

from nbcnn.binder import Binder, Buffer
from nbcnn.graph import Node
from nbcnn.ops.base import Op, register


def _same_sizes(node: Node, *buffers: Buffer) -> None:
    """The kernels check no bounds."""
    assert len({b.size for b in buffers}) == 1, (node.label, [(b.name, b.size) for b in buffers])


@register("SGDUpdate")
class SGDUpdate(Op):
    """inputs: parameter, gradient, velocity (left out without momentum), hyper: (lr, momentum, nesterov, l2, l1)."""

    differentiable = False
    needs_whole = True

    def bind(self, node: Node, b: Binder) -> None:
        w, dw, *velocity, hyper = (b.buffer(name) for name in node.inputs)
        _same_sizes(node, w, dw, *velocity)
        b.call("sgd_update", w, dw, velocity[0] if velocity else b.empty(), hyper, w.size)


@register("AdamUpdate")
class AdamUpdate(Op):
    """inputs: parameter, gradient, m, v, hyper: eight numbers, as the kernel says."""

    differentiable = False
    needs_whole = True

    def bind(self, node: Node, b: Binder) -> None:
        w, dw, m, v, hyper = (b.buffer(name) for name in node.inputs)
        _same_sizes(node, w, dw, m, v)
        b.call("adam_update", w, dw, m, v, hyper, w.size)
