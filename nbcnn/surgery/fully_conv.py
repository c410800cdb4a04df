"""Fully connected layers written as convolutions, so that a classifier slides over pictures of any size.

A layer over C x H x W inputs with K outputs is a convolution of K filters of H x W, and any later one a convolution of
1 x 1 (Lin et al., arXiv:1312.4400; Sermanet et al., arXiv:1312.6229). On a larger picture the network then gives a map
of scores, each of which is what it gives on a crop of the old size.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from nbcnn.errors import ModelError
from nbcnn.graph import Graph, Node
from nbcnn.model import Model
from nbcnn.surgery.probe import Shapes, declare, shapes_of, sizes
from nbcnn.surgery.weights import arriving, drop_unread, source, store, unread

__all__ = ["convert_fc_to_conv"]

POINTWISE = {"BatchNormalization", "Clip", "Dropout", "Elu", "Gelu", "HardSigmoid", "HardSwish", "Identity"}
POINTWISE |= {"LeakyRelu", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Tanh"}
POINTWISE |= {"Celu", "Mish", "Shrink", "Swish", "ThresholdedRelu"}
"""What may stand between the layers: it does the same to maps, channel by channel."""
NAMES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
"""The open dimensions of the pictures, by their number."""


@dataclass
class State:
    """graph: changes. shapes: before the change. flat: values (N, C*H*W) that are maps now -> (map's name, C, H, W).

    maps: values (N, K) that are (N, K, 1, 1) now, and more on larger pictures.
    """

    graph: Graph
    shapes: Shapes
    flat: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    maps: set[str] = field(default_factory=set)
    spatial: int = 2
    gone: list[Node] = field(default_factory=list)


def convert_fc_to_conv(model: Graph | Model) -> Graph:
    """A copy whose fully connected layers (Gemm, MatMul) are convolutions, and whose pictures may have any size.

    Outputs get spatial dimensions: (N, K) becomes (N, K, 1, 1) at the old size of the pictures. Raises ModelError,
    naming the node, where a network has no such layers or does something else with their results.
    """
    graph = source(model, "layers are converted of")
    nodes, names = unread(graph)
    spared = names.union(*(node.outputs for node in nodes))
    state = State(graph, shapes_of(graph, sizes(graph)))
    for node in list(graph.nodes):
        _convert(state, node)
    if not state.maps:
        raise ModelError("no fully connected layer to convert: no Gemm or MatMul follows pictures that are flattened")
    _check_readers(state)
    graph.nodes = [node for node in graph.nodes if node not in state.gone]
    drop_unread(graph, spared)
    _open(state)
    return graph


def _convert(state: State, node: Node) -> None:
    x = node.input(0)
    reads = [name for name in node.inputs if name in state.flat or name in state.maps]
    if node.op in ("Flatten", "Reshape") and not reads and _flattens(state, node):
        dims = state.shapes[x].dims
        state.flat[node.outputs[0]] = (x, dims[1:])
        state.spatial = len(dims) - 2
    elif not reads:
        return
    elif node.op in ("Gemm", "MatMul") and reads == [x]:
        _to_conv(state, node)
    elif x in state.maps and node.op in POINTWISE | {"Softmax", "LogSoftmax", "Add", "Flatten"}:
        _follow(state, node)
    elif x in state.flat and node.op in ("Identity", "Dropout"):
        state.flat[node.outputs[0]] = (node.outputs[0], state.flat[x][1])
        node.inputs[0] = state.flat[x][0]
    elif node.op == "Add" and node.input(1) in state.maps:
        node.inputs = node.inputs[::-1]
        _follow(state, node)
    else:
        raise ModelError(f"{node.label} follows a fully connected layer: it cannot be computed on a map of scores")


def _flattens(state: State, node: Node) -> bool:
    """Whether a node makes (N, C*H*W) of (N, C, H, W)."""
    x, y = (state.shapes.get(name) for name in (node.inputs[0], node.outputs[0]))
    if x is None or y is None or len(x.dims) < 3 or len(y.dims) != 2:
        return False
    return x.dims[0] == y.dims[0] and node.inputs[0] not in state.graph.initializers


def _to_conv(state: State, node: Node) -> None:
    """Gemm or MatMul becomes Conv; its output keeps its name."""
    graph, x = state.graph, node.inputs[0]
    weight = arriving(graph, graph.producers(), node.inputs[1])
    if weight is None or weight.ndim != 2:
        raise ModelError(f"{node.label}: its weight {node.inputs[1]!r} is not a matrix that is stored in the file")
    attrs = node.attrs
    if attrs.get("transA", 0) or attrs.get("alpha", 1.0) != 1 or attrs.get("beta", 1.0) != 1:
        raise ModelError(f"{node.label} is no plain layer: transA, alpha or beta is set")
    rows = weight if attrs.get("transB", 0) else weight.T
    kernel = state.flat[x][1] if x in state.flat else (rows.shape[1], *(1,) * state.spatial)
    filters = np.ascontiguousarray(rows.reshape(rows.shape[0], *kernel))
    if node.input(2):
        bias = arriving(graph, graph.producers(), node.inputs[2])
        if bias is None:
            raise ModelError(f"{node.label}: its bias {node.inputs[2]!r} is not stored in the file")
        if bias.shape != (rows.shape[0],):
            store(graph, node, 2, np.broadcast_to(bias.reshape(-1), rows.shape[0]).copy(), "conv")
    node.op, node.attrs = "Conv", {"kernel_shape": list(kernel[1:])}
    store(graph, node, 1, filters, "conv")
    node.inputs[0] = state.flat[x][0] if x in state.flat else x
    state.maps.add(node.outputs[0])


def _follow(state: State, node: Node) -> None:
    """A node between or behind the layers, on maps of scores."""
    graph, opset = state.graph, state.graph.opset.get("", 1)
    state.maps.add(node.outputs[0])
    if node.op == "Add":
        _add(state, node)
    elif node.op == "Flatten":
        if node.attrs.get("axis", 1) != 1:
            raise ModelError(f"{node.label} follows a fully connected layer: it cannot be computed on a map of scores")
        node.op, node.attrs = "Identity", {}
    elif node.op in ("Softmax", "LogSoftmax"):
        axis = int(node.attrs.get("axis", -1 if opset >= 13 else 1))
        if axis not in (1, -1):
            raise ModelError(f"{node.label} is over axis {axis}, not over the classes")
        if opset >= 13:
            node.attrs["axis"] = 1
        else:
            _around(graph, node, state.spatial)


def _add(state: State, node: Node) -> None:
    """The bias of a MatMul, or a sum of two maps."""
    graph, other = state.graph, node.inputs[1]
    if other in state.maps:
        return
    bias = arriving(graph, graph.producers(), other)
    if bias is None:
        raise ModelError(f"{node.label}: what it adds to a fully connected layer, {other!r}, is not stored in the file")
    if bias.size > 1:
        store(graph, node, 1, bias.reshape(-1, *(1,) * state.spatial), "conv")


def _around(graph: Graph, node: Node, spatial: int) -> None:
    """Before opset 13 Softmax is over all axes from its own on: the classes go to the last one and back."""
    first, last = graph.fresh(f"{node.inputs[0]}.last"), graph.fresh(f"{node.outputs[0]}.last")
    there = [0, *range(2, spatial + 2), 1]
    back = [0, spatial + 1, *range(1, spatial + 1)]
    place = graph.nodes.index(node)
    before = Node("Transpose", [node.inputs[0]], [first], {"perm": there})
    behind = Node("Transpose", [last], [node.outputs[0]], {"perm": back})
    node.inputs, node.outputs, node.attrs["axis"] = [first], [last], spatial + 1
    graph.nodes[place : place + 1] = [before, node, behind]


def _check_readers(state: State) -> None:
    """Flattened pictures may go to the converted layers only."""
    readers, outputs = state.graph.consumers(), state.graph.output_names()
    for node in state.graph.nodes:
        name = next(filter(None, node.outputs), "")
        if name in state.flat and state.flat[name][0] != name:
            if name in readers or name in outputs:
                raise ModelError(f"{node.label} goes elsewhere too, not only to fully connected layers")
            state.gone.append(node)


def _open(state: State) -> None:
    """Pictures of any size: the inputs, and what is declared of values that follow from them."""
    graph = state.graph
    declared = [*graph.values.values(), *graph.outputs]
    for value in declared:
        if value.name in state.maps and value.shape is not None:
            value.shape = (*value.shape, *(None,) * state.spatial)
    old = sizes(graph)
    pictures = [v for v in graph.inputs if v.shape is not None and len(v.shape) == state.spatial + 2]
    for value in pictures:
        assert value.shape is not None
        value.shape = (*value.shape[:2], *NAMES[state.spatial])
    names = {v.name for v in pictures}
    many = {n: (*s[:2], *(2 * d for d in s[2:])) if n in names else s for n, s in old.items()}
    inner = [v for v in declared if v.name not in old]
    known = {v.name: v.shape for v in inner}
    declare(inner, shapes_of(graph, old), shapes_of(graph, many))
    for value in inner:
        before = known[value.name]
        if before and value.shape and len(before) == len(value.shape):
            value.shape = tuple(
                name if isinstance(name, str) and d is not None else d
                for name, d in zip(before, value.shape, strict=True)
            )
