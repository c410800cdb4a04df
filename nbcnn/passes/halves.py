"""Keep activations in 16 bits, as float16 or bfloat16, for devices that multiply those faster than float32.

Rules:
1. what depends on the network's inputs, and comes out of an operator that says so (`Op.halves`), is kept in 16 bits,
unless somebody outside reads it, or an operator that wants it whole (`Op.needs_whole`): exponentials, losses and
optimizers; or nobody but products that can only multiply float32. Gradients are values like others;
2. all kernels compute in float32: they widen what they read, and round what they write. So weights, their gradients,
statistics and the optimizer's states stay float32;
3. a product (convolution, Gemm, and their gradients) multiplies 16 bits by 16 bits, with sums in float32, where its
activations are kept so and pairs of channels fill words (attribute `halves`); its weights are then packed in 16 bits.
Elsewhere it multiplies float32, for which what is kept in 16 bits is widened, once for all readers.
"""

from __future__ import annotations

import numpy as np

from nbcnn.graph import Graph, Node
from nbcnn.ops import lookup
from nbcnn.ops.packing import Packing
from nbcnn.passes.pack import WEIGHT_GRADS

__all__ = ["keep_in_halves"]

PRODUCTS = {
    "Conv": (0,),
    "ConvInputGrad": (0,),
    "ConvTranspose": (0,),
    "ConvWeightGrad": (0, 1),
    "Gemm": (0,),
    "GemmInputGrad": (0,),
    "GemmWeightGrad": (0, 1),
}
"""Which inputs are activations that are multiplied."""


def keep_in_halves(graph: Graph, kept: np.dtype | None, edges: bool = False) -> None:
    """Mark what is kept in this type, on a lowered graph whose weights are not packed yet; None changes nothing.

    edges: the network's inputs and outputs, too, as if they lay in the midst of one: to measure single operators.
    """
    if kept is None:
        return
    _mark(graph, kept, edges)
    widened: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        if _is_product(node):
            activations = [graph.values[node.inputs[index]] for index in PRODUCTS[node.op]]
            if all(value.kept for value in activations) and _in_pairs(node, graph):
                node.attrs["halves"] = kept
            else:
                for index in PRODUCTS[node.op]:
                    node.inputs[index] = _whole(node.inputs[index], graph, nodes, widened)
        nodes.append(node)
    graph.nodes = nodes


def _mark(graph: Graph, kept: np.dtype, edges: bool) -> None:
    readers = graph.consumers()
    depends = {value.name for value in graph.inputs}
    outside = set() if edges else depends | set(graph.output_names())
    able = [*depends] if edges else []
    for node in graph.nodes:
        if depends.intersection(node.inputs):
            depends.update(filter(None, node.outputs))
            able += filter(None, node.outputs[: lookup(node).halves])
    for name in able:
        value = graph.values[name]
        if value.dtype == np.float32 and name not in outside and not _wanted_whole(readers.get(name, []), graph):
            value.kept = kept


def _wanted_whole(readers: list[Node], graph: Graph) -> bool:
    if any(lookup(reader).needs_whole for reader in readers):
        return True
    return bool(readers) and all(_is_product(reader) and not _in_pairs(reader, graph) for reader in readers)


def _is_product(node: Node) -> bool:
    return node.op in PRODUCTS and not node.attrs.get("depthwise")


def _in_pairs(node: Node, graph: Graph) -> bool:
    """Whether the channels of a product's activations fill words."""
    packing: Packing = lookup(node).packing(node, graph.values)  # type: ignore[attr-defined]
    return packing.depth % 2 == 0 and (node.op not in WEIGHT_GRADS or packing.channels % 2 == 0)


def _whole(name: str, graph: Graph, nodes: list[Node], widened: dict[str, str]) -> str:
    """The name under which a value can be read in float32."""
    value = graph.values[name]
    if value.kept is None:
        return name
    if name not in widened:
        widened[name] = graph.new_value(f"{name}.whole", value.dtype, value.dims, value.layout)
        nodes.append(Node("Identity", [name], [widened[name]], {"shape": value.dims}, name=widened[name]))
    return widened[name]
