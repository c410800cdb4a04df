"""The gradients of the Scatter operators that multiply, or keep the largest or smallest, as nodes.

Several updates may meet in one element, and the element's own value takes part: every rule treats them alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nbcnn.graph import Node

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

__all__ = ["grads_of_extreme", "grads_of_product"]

Grads = list[str | None]


def grads_of_extreme(node: Node, back: Backward, dy: str, need: list[bool]) -> Grads:
    """Max, min: those that are what was kept share its gradient evenly, as in PyTorch's scatter_reduce."""
    (x, _, updates), (y,) = node.inputs, node.outputs
    holds = back.add("Equals", [x, y], like=x)
    kept = back.add("Equals", [updates, _gathered(node, back, y)], like=updates)
    count = _scattered(node, back, holds, kept, "add")
    share = back.add("Div", [dy, count], like=x)
    return [
        back.add("Mul", [share, holds], like=x) if need[0] else None,
        None,
        back.add("Mul", [_gathered(node, back, share), kept], like=updates) if need[2] else None,
    ]


def grads_of_product(node: Node, back: Backward, dy: str, need: list[bool]) -> Grads:
    """Mul: dy times the other factors.

    For an update these are the product of all factors that are not zero, without its own, if no other one is zero.
    """
    x, _, updates = node.inputs
    found: Grads = [None] * 3
    if need[0]:
        found[0] = _scattered(node, back, dy, updates, "mul")
    if need[2]:
        zero = back.graph.new_value(f"{updates}.zero", back.graph.values[updates].dtype, ())
        back.graph.initializers[zero] = np.zeros((), back.graph.values[updates].dtype)
        empty, void = back.add("Equals", [x, zero], like=x), back.add("Equals", [updates, zero], like=updates)
        # One in the place of every zero.
        factors = back.add("Add", [x, empty], like=x), back.add("Add", [updates, void], like=updates)
        product = _scattered(node, back, back.add("Mul", [dy, factors[0]], like=x), factors[1], "mul")
        others = back.add("Div", [_gathered(node, back, product), factors[1]], like=updates)
        zeros = _gathered(node, back, _scattered(node, back, empty, void, "add"))
        found[2] = back.add("Mul", [others, back.add("Equals", [zeros, void], like=updates)], like=updates)
    return found


def _gathered(node: Node, back: Backward, name: str) -> str:
    """What lies where each of the updates was written."""
    _, indices, updates = node.inputs
    attrs = node.attrs | {"shape": back.graph.values[updates].dims}
    return back.add("GatherAt", [name, indices], like=updates, attrs=attrs)


def _scattered(node: Node, back: Backward, name: str, updates: str, reduction: str) -> str:
    """Others joined where the updates were written."""
    x, indices, _ = node.inputs
    return back.add(node.op, [name, indices, updates], like=x, attrs=node.attrs | {"reduction": reduction})
