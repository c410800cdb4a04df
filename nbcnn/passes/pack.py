"""Give the matrix kernels their weights in panels.

Rules:
1. a weight read by an operator that has a `packing` goes through `PackWeights` (once for each packing); the gradient
   by the weights comes out in panels and goes through `UnpackWeights`;
2. where a parameter is itself stored in panels (`Parameter.storage`), readers of the same panels read it directly, the
   gradient by the input takes them through `TransposeWeights`, and whatever wants ONNX order goes through
   `UnpackWeights`; Winograd's factors are made from the panels of the same product, through `WinogradWeights`;
3. a gradient that was unpacked only to update such a parameter (or to be looked at before) is not unpacked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from nbcnn.graph import Graph, Node
from nbcnn.ops import lookup
from nbcnn.ops.packing import Packing
from nbcnn.ops.winograd import Factors
from nbcnn.parameter import Parameter

__all__ = ["WEIGHT_GRADS", "WEIGHT_INPUT", "pack_weights"]

WEIGHT_INPUT = {
    "BatchConv": 1,
    "BatchConvInputGrad": 1,
    "Conv": 1,
    "ConvInputGrad": 1,
    "Gemm": 1,
    "GemmInputGrad": 1,
    "ConvTranspose": 1,
    "PlanesConv": 1,
}
WEIGHT_GRADS = ("BatchConvWeightGrad", "ConvWeightGrad", "GemmWeightGrad")


class _Packer:
    def __init__(self, graph: Graph, parameters: Mapping[str, Parameter]) -> None:
        self.graph = graph
        self.stored: dict[str, Packing] = {}
        self.nodes: list[Node] = []
        self.made: dict[tuple[str, object], str] = {}
        for name, parameter in parameters.items():
            if parameter.storage is not None and name in graph.values:
                self.stored[name] = parameter.storage.key[0]  # type: ignore[assignment]

    def panels(self, name: str, packing: Packing | Factors) -> str:
        """The name under which a weight can be read in this packing."""
        home = self.stored.get(name)
        if home == packing:
            return name
        if (name, packing) not in self.made:
            value = self.graph.values[name]
            new = self.graph.new_value(f"{name}.panels", value.dtype, (packing.size,), "packed")
            if isinstance(packing, Packing):
                self.graph.values[new].kept = packing.kept
            if isinstance(packing, Factors):
                node = Node("WinogradWeights", [self.panels(name, packing.base)], [new], {"packing": packing})
            elif home is not None and packing.kept is not None and replace(packing, kept=None) == home:
                node = Node("PackWeights", [name], [new], {"packing": home.narrowed(packing.kept)})
            elif home is not None and home.inner == 1 and home.transposed() == replace(packing, kept=None):
                node = Node("TransposeWeights", [name], [new], {"packing": home})
            else:
                node = Node("PackWeights", [self.plain(name)], [new], {"packing": packing})
            self.nodes.append(node)
            self.made[name, packing] = new
        return self.made[name, packing]

    def plain(self, name: str) -> str:
        """The name under which a value can be read in ONNX order."""
        home = self.stored.get(name)
        if home is None:
            return name
        if (name, "plain") not in self.made:
            value = self.graph.values[name]
            new = self.graph.new_value(f"{name}.plain", value.dtype, value.dims)
            self.nodes.append(Node("UnpackWeights", [name], [new], {"packing": home}))
            self.made[name, "plain"] = new
        return self.made[name, "plain"]


def pack_weights(graph: Graph, parameters: Mapping[str, Parameter]) -> None:
    packer = _Packer(graph, parameters)
    values = graph.values
    unpacked: dict[str, tuple[str, Packing | Factors]] = {}
    weights = {node.inputs[1]: node.inputs[0] for node in graph.nodes if _updates(node, 0) and len(node.inputs) > 1}
    for node in graph.nodes:
        slot = WEIGHT_INPUT.get(node.op)
        wanted: dict[int, Packing | Factors] = {}
        if node.op == "InvertedResidual":
            wanted = node.attrs["packings"] = lookup(node).packings(node, values)  # type: ignore[attr-defined]
        if slot is not None or node.op in WEIGHT_GRADS:
            packing: Packing | Factors = lookup(node).packing(node, values)  # type: ignore[attr-defined]
            if slot is not None and "halves" in node.attrs:
                packing = replace(packing, kept=node.attrs["halves"])
            weight = node.inputs[slot] if slot is not None else node.outputs[0]
            node.attrs |= {"packing": packing, "kernel": values[weight].dims[2:]}
            wanted = {slot: packing} if slot is not None else {}
        for index, name in enumerate(node.inputs):
            if index in wanted:
                node.inputs[index] = packer.panels(name, wanted[index])
            elif name in packer.stored and not _updates(node, index):
                node.inputs[index] = packer.plain(name)
            elif name in unpacked and packer.stored.get(_updated(node, name, weights)) == unpacked[name][1]:
                node.inputs[index] = unpacked[name][0]
        packer.nodes.append(node)
        if node.op in WEIGHT_GRADS:
            value = values[node.outputs[0]]
            new = graph.new_value(f"{value.name}.panels", value.dtype, (packing.size,), "packed")
            packer.nodes.append(Node("UnpackWeights", [new], [value.name], {"packing": packing}))
            node.outputs[0] = new
            unpacked[value.name] = (new, packing)
    for name, home in packer.stored.items():
        values[name].layout, values[name].shape = "packed", (home.size,)
    graph.nodes = packer.nodes
    graph.prune()


def _updated(node: Node, gradient: str, weights: Mapping[str, str]) -> str:
    """The weight that a node updates by a gradient, or is going to be updated by it; "" for other nodes."""
    if not node.attrs.get("effect"):
        return ""
    return weights.get(gradient, "") if node.op == "Unscale" else node.inputs[0]


def _updates(node: Node, index: int) -> bool:
    """Whether a node changes this input's parameter where it lies, element by element."""
    return bool(node.attrs.get("effect")) and index == 0
