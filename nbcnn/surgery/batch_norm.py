"""Batch norms folded into the convolutions before them, for export: fewer nodes, and the same numbers."""

from __future__ import annotations

import numpy as np

from nbcnn.graph import Graph, Node
from nbcnn.model import Model
from nbcnn.surgery.weights import arriving, drop_unread, source, store, unread

__all__ = ["fold_batch_norm"]

LAYERS = ("Conv", "ConvTranspose", "Gemm")


def fold_batch_norm(model: Graph | Model) -> Graph:
    """A copy in which every batch norm behind a Conv, ConvTranspose or Gemm of its own is part of that layer.

    For running only: such a network can no longer be trained as the one it was made of. The layer's output takes the
    batch norm's name, its bias the name of the batch norm's. Batch norms that compute statistics of the batch, or whose
    layer others read too, stay.
    """
    graph = source(model, "batch norms are folded of")
    nodes, names = unread(graph)
    spared = names.union(*(node.outputs for node in nodes))
    for node in [n for n in graph.nodes if n.op == "BatchNormalization" and n.domain == ""]:
        layer = graph.producers().get(node.inputs[0])
        if layer is not None and layer.op in LAYERS and _fits(graph, layer, node) and _fold(graph, layer, node):
            graph.nodes.remove(node)
    drop_unread(graph, spared)
    return graph


def _fits(graph: Graph, layer: Node, norm: Node) -> bool:
    """Whether only the batch norm reads the layer, and uses its running statistics."""
    trains = norm.attrs.get("training_mode", 0) or len([name for name in norm.outputs if name]) > 1
    spatial = norm.attrs.get("spatial", 1) or layer.op == "Gemm"
    read = sum(node.reads().count(layer.outputs[0]) for node in graph.nodes)
    alone = read == 1 and layer.outputs[0] not in graph.output_names()
    return alone and not trains and bool(spatial)


def _fold(graph: Graph, layer: Node, norm: Node) -> bool:
    """y = gamma * (w x + b - mean) / sqrt(var + epsilon) + beta as another w and b, worked out in float64."""
    producers = graph.producers()
    arrays = [arriving(graph, producers, name) for name in (layer.inputs[1], *norm.inputs[1:5])]
    bias = arriving(graph, producers, layer.inputs[2]) if layer.input(2) else np.zeros(1)
    plain = all(layer.attrs.get(name, 1.0) == 1 for name in ("alpha", "beta"))
    if bias is None or any(array is None for array in arrays) or not plain:
        return False
    weight, *wide = [np.asarray(array, np.float64) for array in arrays if array is not None]
    gamma, beta, mean, var = wide
    scale = gamma / np.sqrt(var + norm.attrs.get("epsilon", 1e-5))
    dtype = np.asarray(arrays[0]).dtype
    store(graph, layer, 1, (weight * _along_outputs(layer, weight, scale)).astype(dtype), "folded")
    shift = (np.asarray(bias, np.float64) - mean) * scale + beta
    if not layer.input(2):
        layer.inputs = [*layer.inputs[:2], norm.inputs[2]]
        norm.inputs = [name for i, name in enumerate(norm.inputs) if i != 2]
    store(graph, layer, 2, shift.astype(dtype), "folded")
    layer.outputs[0] = norm.outputs[0]
    norm.outputs = [""]
    return True


def _along_outputs(layer: Node, weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The scale of each output channel, in a shape that multiplies the weight."""
    if layer.op == "Gemm":
        return scale[:, None] if layer.attrs.get("transB", 0) else scale[None]
    if layer.op == "Conv":
        return scale.reshape(-1, *(1,) * (weight.ndim - 1))
    group = layer.attrs.get("group", 1)
    rows = np.repeat(scale.reshape(group, -1), weight.shape[0] // group, axis=0)  # (C, M/group)
    return rows.reshape(*rows.shape, *(1,) * (weight.ndim - 2))
