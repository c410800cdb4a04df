"""Broadcasting as it was up to opset 6: only on request, of the second operand, along axes that are named."""

from __future__ import annotations

from nbcnn.errors import ModelError
from nbcnn.graph import Node
from nbcnn.ops.base import Facts

__all__ = ["align_operands"]


def align_operands(node: Node, facts: Facts) -> None:
    """Give the second operand of a node of opset 6 or older the shape with which it broadcasts as it does today.

    The attribute broadcast=1 allows it to be repeated, and `axis` says to which axis of the first one its own first
    axis belongs (default: its last to the last). Raises ModelError where the shapes do not fit.
    """
    if facts.opset >= 7:
        return
    a, b = facts.value(node, 0).dims, facts.value(node, 1).dims
    if not node.attrs.get("broadcast", 0):
        if a != b:
            raise ModelError(
                f"{node.label}: shapes {a} and {b} differ, and in opset {facts.opset} they may not without the "
                "attribute broadcast=1"
            )
        return
    axis = int(node.attrs.get("axis", len(a) - len(b)))
    axis += len(a) if axis < 0 else 0
    spare = len(a) - axis - len(b)
    if axis < 0 or spare < 0 or any(n not in (1, m) for m, n in zip(a[axis:], b, strict=False)):
        raise ModelError(f"{node.label}: shape {b} does not broadcast to {a} from axis {axis} on")
    if spare:
        shape = (*b, *(1,) * spare)
        node.inputs[1] = facts.reshape(node.inputs[1], shape, node)
