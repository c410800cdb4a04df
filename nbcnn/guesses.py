"""What the dimensions are taken for that a file leaves open, where nobody says."""

from __future__ import annotations

from nbcnn.graph import Graph

__all__ = ["CHANNELS", "PICTURE", "channels"]

CHANNELS, PICTURE = 3, 224

PASSING = {"Add", "BatchNormalization", "Cast", "Clip", "Div", "Identity", "Mul", "Pad", "Relu", "Sub"}
"""What a file may do to pictures before their first convolution, which leaves their channels what they are."""


def channels(graph: Graph, name: str) -> int:
    """The channels of an input: as many as the weights of a convolution that reads it take; CHANNELS without one."""
    waiting, seen = [name], {name}
    consumers = graph.consumers()
    while waiting:
        for node in consumers.get(waiting.pop(), []):
            weight = graph.initializers.get(node.input(1)) if node.op == "Conv" and not node.domain else None
            if weight is not None and weight.ndim > 2 and node.inputs[0] in seen:
                return int(weight.shape[1]) * int(node.attrs.get("group", 1))
            if node.op in PASSING and node.outputs[0] not in seen:
                seen.add(node.outputs[0])
                waiting.append(node.outputs[0])
    return CHANNELS
