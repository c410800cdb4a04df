"""Optimizer steps: nodes that change a parameter where it lies. The trainer appends them with `add_update`.

The settings are a small float64 array, an initializer of the lowered graph that the trainer writes before each step
(`nbcnn.optim`: `Optimizer.hyper`), so that a new learning rate needs no new plan.
"""

from __future__ import annotations

from collections.abc import Sequence

from nbcnn.binder import Binder, Buffer
from nbcnn.graph import Graph, Node
from nbcnn.ops.base import Op, register

__all__ = ["add_update"]


def add_update(graph: Graph, op: str, parameter: str, gradient: str, states: Sequence[str], hyper: str) -> None:
    """Append the step of an optimizer (`op`, `states`: as its class in nbcnn.optim says) on one parameter.

    states: initializers of the graph, zero at first, with as many elements as the parameter's own array has, padding
    included. hyper: an initializer, float64. All must be contiguous: they are used where they lie.
    """
    inputs = [parameter, gradient, *states, hyper]
    graph.nodes.append(Node(op, inputs, [], {"effect": True}, name=f"{parameter}.update"))


def _same_sizes(node: Node, *buffers: Buffer) -> None:
    """The kernels check no bounds."""
    assert len({b.size for b in buffers}) == 1, (node.label, [(b.name, b.size) for b in buffers])


@register("SGDUpdate")
class SGDUpdate(Op):
    """inputs: parameter, gradient, velocity (left out without momentum), hyper: (lr, momentum, nesterov, l2, l1)."""

    differentiable = False

    def bind(self, node: Node, b: Binder) -> None:
        w, dw, *velocity, hyper = (b.buffer(name) for name in node.inputs)
        _same_sizes(node, w, dw, *velocity)
        b.call("sgd_update", w, dw, velocity[0] if velocity else b.empty(), hyper, w.size)


@register("AdamUpdate")
class AdamUpdate(Op):
    """inputs: parameter, gradient, m, v, hyper: eight numbers, as the kernel says."""

    differentiable = False

    def bind(self, node: Node, b: Binder) -> None:
        w, dw, m, v, hyper = (b.buffer(name) for name in node.inputs)
        _same_sizes(node, w, dw, m, v)
        b.call("adam_update", w, dw, m, v, hyper, w.size)
