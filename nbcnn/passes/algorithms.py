"""Choose how each convolution, and each of its gradients, is computed: the attribute `algorithm`.

Convolutions of 3x3 taps and stride 1 may be computed by Winograd's algorithm, which multiplies less and rounds
otherwise than the direct sum of products. For the others the shape alone decides, and the name is for reports.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from nbcnn.cost import Layer, cycles
from nbcnn.graph import Graph, Node
from nbcnn.ops.conv import TRANSPOSED, direct_algorithm
from nbcnn.ops.winograd import POINTS, is_eligible

__all__ = ["Choose", "by_cost", "choose_algorithms", "direct", "layer_of"]

CONVOLUTIONS = ("Conv", "ConvInputGrad", "ConvTranspose", "ConvWeightGrad")

Choose = Callable[[Node, Graph, Sequence[str]], str]
"""(node, its graph, names of algorithms, the direct one first) -> one of the names."""


def choose_algorithms(graph: Graph, choose: Choose) -> None:
    """Set `algorithm` on every convolution; `choose` decides where there is a choice."""
    for node in graph.nodes:
        if node.op in CONVOLUTIONS:
            name = direct_algorithm(node, graph.values)
            if name == "implicit-gemm" and is_eligible(node, graph.values):
                name = choose(node, graph, (name, *POINTS))
            node.attrs["algorithm"] = name


def direct(node: Node, graph: Graph, names: Sequence[str]) -> str:
    """The direct sum of products, always."""
    return names[0]


def by_cost(node: Node, graph: Graph, names: Sequence[str]) -> str:
    """The algorithm that takes the least time by the cost model."""
    layer = layer_of(node, graph)
    return min(names, key=lambda name: cycles(layer, POINTS.get(name, 0)))


def layer_of(node: Node, graph: Graph) -> Layer:
    """What the cost model wants to know of a node that Winograd's algorithm could compute."""
    gradient, values = node.op == "ConvWeightGrad", graph.values
    changing = {other.inputs[0] for other in graph.nodes if other.attrs.get("effect")}
    y = values[node.inputs[1] if gradient else node.outputs[0]]
    w = values[node.outputs[0] if gradient else node.inputs[1]]
    depth, channels = (w.dims[0], w.dims[1]) if node.op in TRANSPOSED else (w.dims[1], w.dims[0])
    assert w.dtype is not None
    images, spatial = y.dims[0], y.dims[2:]
    return Layer(
        rows=images * prod(spatial),
        tiles={n: images * prod(-(-size // (n - 2)) for size in spatial) for n in POINTS.values()},
        depth=depth,
        channels=channels,
        itemsize=w.dtype.itemsize,
        changing=not gradient and node.inputs[1] in changing,
    )
