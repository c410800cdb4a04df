"""A new head: the last layer of a classifier replaced by one for another number of classes.

Pure graph edits. Every name stays, and so does every node, but that weights which came to the head through Identity,
Reshape or Transpose are stored directly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from nbcnn.arguments import check_count
from nbcnn.errors import InputError, ModelError
from nbcnn.graph import Graph, Node, Value
from nbcnn.init import Initializer, initializer
from nbcnn.labels import remember_labels, remembered_labels
from nbcnn.model import Model
from nbcnn.surgery.weights import arriving, constant, drop_unread, root, source, store, unread

__all__ = ["Head", "find_head", "new_head"]

HEADS = ("Conv", "Gemm", "MatMul")
POOLS = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReduceMean")
VIEWS = ("Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
ACTIVATIONS = ("LogSoftmax", "Relu", "Sigmoid", "Softmax")
PASSED = (*POOLS, *VIEWS, *ACTIVATIONS)
"""What may stand between a head and the output: operators that work for any number of classes."""


@dataclass(frozen=True)
class Head:
    """node: the layer. bias: the Add behind it that brings its bias, if it has one. path: the nodes behind it, in
    order.

    classes: how many it has. weight_axis: the axis of its weight that counts them.
    """

    node: Node
    bias: Node | None
    path: list[Node]
    classes: int
    weight_axis: int


def new_head(
    model: Graph | Model,
    classes: int,
    *,
    output: str | None = None,
    init: str | Initializer = "glorot_uniform",
    seed: int = 0,
    labels: Iterable[str] | None = None,
) -> Graph:
    """A copy of a source graph, or of a model's with its present weights, whose last layer is new and gives `classes`
    numbers.

    output: the output that it makes, where there are several. init: how the weight begins, a name or a function of
    nbcnn.init; the bias begins at zero. labels: the names of the new classes, one each, for the metadata, which forgets
    the names of the old ones in any case. Raises InputError, or ModelError that says why this network's head cannot be
    replaced.
    """
    check_count("classes", classes)
    graph = source(model, "a new head goes on")
    remember_labels(graph, labels)
    names = remembered_labels(graph)
    if names is not None and len(names) != classes:
        raise InputError(f"labels are {len(names)} names, and the new head has {classes} classes")
    nodes, outputs = unread(graph)
    spared = outputs.union(*(node.outputs for node in nodes))
    head = find_head(graph, output)
    _replace_weight(graph, head, classes, lambda shape: initializer(init)(shape, seed))
    _replace_bias(graph, head, classes)
    for node in (head.node, *head.path):
        if node.op == "Reshape":
            _mend_reshape(graph, node, head.classes, classes)
        for name in filter(None, node.outputs):
            _mend_value(graph, name, head.classes, classes)
    drop_unread(graph, spared)
    return graph


def find_head(graph: Graph, output: str | None = None) -> Head:
    """The last Conv, Gemm or MatMul that makes an output; raises InputError or ModelError."""
    names = graph.output_names()
    if output is None and len(names) > 1:
        raise InputError(f"this network has {len(names)} outputs, {', '.join(names)}: say which one gets a new head")
    if output is not None and output not in names:
        raise InputError(f"no output {output!r}; this network gives {names}")
    producers, path, bias = graph.producers(), list[Node](), None
    name = output or names[0]
    while True:
        node = producers.get(name)
        if node is None:
            raise ModelError(
                f"no new head: no Conv, Gemm or MatMul with weights of its own comes before output {names[0]!r}"
            )
        if node.op in HEADS:
            break
        if node.op == "Add" and bias is None and (data := _data_operand(graph, producers, node)) is not None:
            bias, name = node, data
        elif node.op in PASSED:
            name = node.inputs[0]
        else:
            raise ModelError(
                f"no new head: {node.label} stands between the last layer and the output, "
                "and what it does may depend on the number of classes"
            )
        path.insert(0, node)
    _check_readers(graph, [node, *path])
    array = _weight(graph, producers, node)
    axis = _class_axis(node)
    return Head(node, bias, path, array.shape[axis], axis)


def _data_operand(graph: Graph, producers: dict[str, Node], add: Node) -> str | None:
    """The operand of an Add that is not its bias; None when neither is a bias."""
    weights = [root(producers, name) in graph.initializers for name in add.inputs]
    return add.inputs[weights.index(False)] if sum(weights) == 1 else None


def _class_axis(node: Node) -> int:
    """The axis of the weight that counts the classes."""
    if node.op == "Conv":
        return 0
    return 0 if node.op == "Gemm" and node.attrs.get("transB", 0) else -1


def _weight(graph: Graph, producers: dict[str, Node], node: Node) -> np.ndarray:
    """The head's weight in the shape in which it arrives, or a ModelError."""
    if node.op == "Conv" and node.attrs.get("group", 1) != 1:
        raise ModelError(f"no new head: {node.label} has groups, each with classes of its own")
    array = arriving(graph, producers, node.inputs[1])
    if array is None:
        raise ModelError(f"no new head: the weight of {node.label}, {node.inputs[1]!r}, is not stored in the file")
    if array.ndim < 2 or (node.op == "MatMul" and array.ndim != 2):
        raise ModelError(f"no new head: the weight of {node.label} has shape {list(array.shape)}, which is no matrix")
    return array


def _check_readers(graph: Graph, nodes: list[Node]) -> None:
    """The head's result may go to the output only: elsewhere it would get a new meaning."""
    inside = {id(node) for node in nodes}
    readers = graph.consumers()
    for node in nodes:
        for name in node.outputs:
            for reader in readers.get(name, []):
                if id(reader) not in inside:
                    raise ModelError(f"no new head: {reader.label} uses the classes of {nodes[0].label} too")


def _replace_weight(graph: Graph, head: Head, classes: int, make: Callable[[tuple[int, ...]], np.ndarray]) -> None:
    old = _weight(graph, graph.producers(), head.node)
    shape = list(old.shape)
    shape[head.weight_axis] = classes
    first = np.moveaxis(np.empty(shape, np.uint8), head.weight_axis, 0).shape
    array = np.moveaxis(make(first), 0, head.weight_axis)
    store(graph, head.node, 1, np.ascontiguousarray(array, dtype=old.dtype), "head")


def _replace_bias(graph: Graph, head: Head, classes: int) -> None:
    """Zeros in the place of the bias, in its shape but for the number of classes."""
    producers = graph.producers()
    node, slot = head.node, 2
    if head.bias is not None:
        node = head.bias
        slot = next(i for i, name in enumerate(node.inputs) if root(producers, name) in graph.initializers)
    if not node.input(slot):
        return
    old = arriving(graph, producers, node.inputs[slot])
    if old is None:
        raise ModelError(f"no new head: the bias of {node.label}, {node.inputs[slot]!r}, is not stored in the file")
    shape = tuple(classes if n == head.classes else n for n in old.shape)
    store(graph, node, slot, np.zeros(shape, old.dtype), "head")


def _mend_reshape(graph: Graph, node: Node, old: int, new: int) -> None:
    """Where the target shape spells the number of classes, let it spell the new one."""
    shape = constant(graph, graph.producers(), node.input(1))
    if shape is None:
        raise ModelError(f"no new head: {node.label} takes a shape that is computed")
    if old == new or old not in shape[1:]:
        return
    name = graph.fresh(f"{node.inputs[1]}.head")
    changed = np.array([new if i and n == old else n for i, n in enumerate(shape)], np.int64)
    graph.initializers[name] = changed
    graph.values[name] = Value(name, changed.dtype, changed.shape)
    node.inputs[1] = name


def _mend_value(graph: Graph, name: str, old: int, new: int) -> None:
    """Bring what is declared of a value behind the head up to date: the classes lie on axis 1, or on the last."""
    declared = [v for v in (graph.values.get(name), *graph.outputs) if v is not None and v.name == name]
    for value in declared:
        if value.shape is None:
            continue
        dims = list(value.shape)
        axis = next((i for i in (1, len(dims) - 1) if 0 <= i < len(dims) and dims[i] == old), None)
        if axis is not None:
            dims[axis] = new
        elif not any(d == new for d in dims[1:]):
            dims = [d if i == 0 or not isinstance(d, int) else None for i, d in enumerate(dims)]
        value.shape = tuple(dims)
