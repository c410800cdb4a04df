"""What a file no longer has that its network had while it was trained, and what that means for training it further."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nbcnn.graph import Graph, Node

__all__ = ["Notes", "training_notes"]

NORMS = ("BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization", "LRN")
FEW = 4
"""Networks of so few convolutions are often built without batch norm."""
HIDDEN = 512
"""Hidden fully connected layers from this width on are nearly always trained with dropout."""
RENAMED = re.compile(r"^onnx::Conv_\d+$")
"""The name that PyTorch's exporter gives to a weight it has computed anew, as it does when it folds a batch norm."""

EXPORT = "or export it again in training mode (PyTorch: training=TrainingMode.PRESERVE, do_constant_folding=False)"


@dataclass(frozen=True)
class Notes:
    """batch_norm: what there is to say of batch norm that is missing, "" when there is nothing; dropout: the same of
    dropout.
    """

    batch_norm: str = ""
    dropout: str = ""

    @property
    def texts(self) -> list[str]:
        return [text for text in (self.batch_norm, self.dropout) if text]


def training_notes(graph: Graph) -> Notes:
    """Look for signs that an export for inference removed layers."""
    return Notes(_batch_norm(graph), _dropout(graph))


def _batch_norm(graph: Graph) -> str:
    convs = [node for node in graph.nodes if node.op == "Conv"]
    if len(convs) <= FEW or any(node.op in NORMS for node in graph.nodes):
        return ""
    sign = _folding_sign(graph, convs)
    what = (
        f"its batch norm was folded into its convolutions ({sign})"
        if sign
        else "it has no batch norm: it was built without, or an export folded it into the convolutions"
    )
    return (
        f"{what}. Nothing keeps the activations in range while it is trained: begin with a learning rate of about "
        f"a tenth of the usual (such as --lr 0.001), or freeze the front (--freeze), {EXPORT}"
    )


def _folding_sign(graph: Graph, convs: list[Node]) -> str:
    """What gives the folding away, "" when nothing does."""
    biased = [node for node in convs if node.input(2)]
    if not biased:
        return ""
    if any(RENAMED.match(node.input(1)) for node in convs):
        return f"the exporter renamed weights, such as {next(n.input(1) for n in convs if RENAMED.match(n.input(1)))!r}"
    depthwise = [node for node in biased if _is_depthwise(node, graph)]
    if len(depthwise) > FEW:
        return f"depthwise convolutions with a bias, such as {depthwise[0].label}, come from networks with batch norm"
    producers = graph.producers()
    for node in graph.nodes:
        sources = [producers.get(name) for name in node.inputs]
        of_data = not any(name in graph.initializers for name in node.inputs)
        if node.op == "Add" and of_data and any(s is not None and s.op == "Conv" and s.input(2) for s in sources):
            return f"the residual {node.label} follows a convolution with a bias"
    return ""


def _is_depthwise(node: Node, graph: Graph) -> bool:
    weight = graph.initializers.get(node.input(1))
    group = node.attrs.get("group", 1)
    return weight is not None and group > 1 and weight.shape[0] == group


def _dropout(graph: Graph) -> str:
    if any(node.op == "Dropout" for node in graph.nodes):
        return ""
    layers = [node for node in graph.nodes if node.op in ("Gemm", "MatMul") and node.input(1) in graph.initializers]
    wide = [node for node in layers[:-1] if min(graph.initializers[node.inputs[1]].shape) >= HIDDEN]
    if not wide:
        return ""
    return (
        f"it has no Dropout after its wide layer {wide[0].label}: an export for inference removes it. "
        f"It will overfit sooner: train for fewer epochs, with a smaller --lr or --weight-decay, {EXPORT}"
    )
