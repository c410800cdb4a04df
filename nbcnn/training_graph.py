"""The graph of one training step: forward, loss, gradients, updates.

Order: forward; loss; running statistics; then each gradient, followed by the update of its weight as soon as nobody
reads either any more, so that gradients do not pile up in memory. The executor stops after the loss to look at it
before anything is changed.

Where gradients are kept in float16 they are multiplied by SCALE, and may overflow. Then the order is: forward; loss;
all gradients; FOUND, whether one overflowed, where the executor stops; running statistics; updates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from nbcnn.autodiff import differentiate
from nbcnn.devices import HOST, Device
from nbcnn.errors import ModelError
from nbcnn.graph import Graph, Node, Value
from nbcnn.lower import Feeds, lower_for_training
from nbcnn.ops import lookup
from nbcnn.optim import Optimizer
from nbcnn.parameter import Parameter
from nbcnn.passes.algorithms import Choose, choose_algorithms, direct
from nbcnn.passes.fuse import fuse_epilogues
from nbcnn.passes.halves import keep_in_halves
from nbcnn.passes.lanes import multiply_less
from nbcnn.passes.pack import WEIGHT_INPUT, pack_weights
from nbcnn.passes.pictures import read_pictures_as_given
from nbcnn.passes.specialize import Mode
from nbcnn.trainables import CARRIERS, is_frozen

__all__ = ["FOUND", "LOSS", "LOSSES", "RANDOM", "SCALE", "TARGET", "logits_of", "step_graph"]

TARGET = "nbcnn.target"
LOSS = "nbcnn.loss"
SEED = "nbcnn.seed"
SCALE = "nbcnn.scale"
FOUND = "nbcnn.found"
RANDOM = "nbcnn.rng"

LOSSES = {
    "cross_entropy": "SoftmaxCrossEntropy",
    "squared_error": "SquaredError",
    "binary_cross_entropy": "BinaryCrossEntropy",
    "binary_cross_entropy_with_logits": "BinaryCrossEntropyWithLogits",
    "hinge": "Hinge",
    "dice": "Dice",
}


def logits_of(graph: Graph, output: str, loss: str) -> str:
    """The value that the loss is taken of: for cross-entropy, what goes into the Softmax that the output comes from,
    if it does, and if nothing behind the Softmax moves its classes to another axis.
    """
    if loss != "cross_entropy":
        return output
    producers, name = graph.producers(), output
    while name in producers and producers[name].op in CARRIERS and producers[name].op != "Transpose":
        name = producers[name].inputs[0]
    node = producers.get(name)
    return node.inputs[0] if node is not None and node.op in ("Softmax", "LogSoftmax") else output


def step_graph(
    source: Graph,
    feeds: Feeds,
    target: tuple[tuple[int, ...], np.dtype],
    *,
    logits: str,
    loss: str,
    trained: Sequence[str],
    freeze: Sequence[str],
    parameters: dict[str, Parameter],
    optimizer: Optimizer,
    states: dict[str, Any],
    dtype: np.dtype,
    choose: Choose = direct,
    device: Device = HOST,
) -> Graph:
    """Build it for inputs and targets of these shapes; its one output is the loss, LOSS.

    states: arrays that live across steps, by name; those that are missing (optimizer states of weights) are added.
    """

    def frozen(node: Node) -> bool:
        return is_frozen(node, freeze, source.initializers)

    graph = lower_for_training(source, feeds, dtype, [logits], Mode(True, frozen), trained, device.backend)
    effects = [n for n in graph.nodes if n.attrs.get("effect")]
    graph.nodes = [n for n in graph.nodes if not n.attrs.get("effect")]
    _add_loss(graph, target, loss, scaled=SCALE in states)
    _own_panels(graph, parameters, trained, device.kept is not None)
    for name in {name for node in effects for name in node.inputs if name in parameters}:
        parameters[name].own()
    count = len(graph.nodes)
    gradients = differentiate(graph, {LOSS: SEED}, trained)
    if not gradients:
        raise ModelError(f"output {logits!r} depends on no trainable weight")
    before, backward = graph.nodes[:count], graph.nodes[count:]
    graph.nodes = before + effects + backward
    graph.outputs = [graph.values[name] for name in (LOSS, *gradients.values())]
    graph.prune()
    fuse_epilogues(graph)
    if SCALE in states:
        _add_unscaling(graph, gradients.values())
    # Only now: fusing moves nodes, and some of them read weights, which must not have been updated by then.
    _add_updates(graph, gradients, parameters, optimizer, states, device)
    graph.outputs = [graph.values[LOSS]]
    choose_algorithms(graph, choose)
    if choose is not direct:
        multiply_less(graph)
    if device is HOST:
        read_pictures_as_given(graph)
    keep_in_halves(graph, device.kept)
    pack_weights(graph, parameters)
    for name in (RANDOM, SCALE, FOUND):
        if name in graph.values and name in states:
            graph.initializers[name] = states[name]
    return graph


def _add_loss(graph: Graph, target: tuple[tuple[int, ...], np.dtype], loss: str, scaled: bool) -> None:
    """Append the loss of the graph's output. scaled: the gradient is to be multiplied by SCALE."""
    value = graph.outputs[0]
    if scaled:
        for name in (SCALE, FOUND):
            graph.values[name] = Value(name, value.dtype, (1,))
            graph.initializers[name] = np.zeros(1, value.dtype)
        inner, value = value, graph.values[graph.new_value(f"{value.name}.scaled", value.dtype, value.dims)]
        value.layout = inner.layout
        graph.nodes.append(Node("LossScale", [inner.name, SCALE], [value.name], name=value.name))
    shape, kind = target
    if loss == "cross_entropy" and kind == np.int64 and shape == value.dims and shape[1] > 1:
        kind = value.dtype or kind  # one-hot rows of whole numbers become floats when they are copied in
    graph.values[TARGET] = Value(TARGET, kind, shape)
    graph.inputs.append(graph.values[TARGET])
    node = Node(LOSSES[loss], [value.name, TARGET], [LOSS, f"{LOSS}.gradient"], name="loss")
    shapes = lookup(node).infer(node, [value, graph.values[TARGET]])
    for name, (dtype, dims) in zip(node.outputs, shapes, strict=True):
        graph.values[name] = Value(name, dtype, dims)
    graph.values[node.outputs[1]].layout = value.layout
    graph.values[SEED] = Value(SEED, graph.values[LOSS].dtype, (1,))
    graph.initializers[SEED] = np.ones(1, graph.values[LOSS].dtype)
    graph.nodes.append(node)


def _add_unscaling(graph: Graph, gradients: Iterable[str]) -> None:
    """Put what divides the gradients by SCALE, and looks whether they overflowed, behind them all, and what changes
    anything behind that.
    """
    effects = [n for n in graph.nodes if n.attrs.get("effect")]
    graph.nodes = [n for n in graph.nodes if not n.attrs.get("effect")]
    for name in dict.fromkeys(gradients):
        graph.nodes.append(Node("Unscale", [name, SCALE, FOUND], [], {"effect": True}, name=f"unscale {name}"))
    graph.nodes += effects


def _own_panels(graph: Graph, parameters: dict[str, Parameter], trained: Sequence[str], halves: bool) -> None:
    """Let a trained weight that one product alone reads be stored in that product's panels.

    Not for a transposed convolution: its gradient comes in the panels of the convolution that it turns round. Nor,
    with halves, for one of few channels, whose lines are no runs where it is multiplied in 16 bits.
    """
    readers = graph.consumers()
    for name in trained:
        nodes = readers.get(name, [])
        alone = len(nodes) == 1 and nodes[0].op != "ConvTranspose"
        if alone and nodes[0].inputs.index(name) == WEIGHT_INPUT.get(nodes[0].op):
            packing = lookup(nodes[0]).packing(nodes[0], graph.values)  # type: ignore[attr-defined]
            if packing.inner == 1 or not halves:
                parameters[name].store_as(packing.storage())
        parameters[name].own()


def _add_updates(
    graph: Graph,
    gradients: dict[str, str],
    parameters: dict[str, Parameter],
    optimizer: Optimizer,
    states: dict[str, Any],
    device: Device,
) -> None:
    """Insert each weight's update after the last node that reads the weight or its gradient, and after all gradients
    have been looked at.
    """
    last: dict[str, int] = {}
    first = 0
    for index, node in enumerate(graph.nodes):
        first = index if node.op == "Unscale" else first
        for name in (*node.inputs, *node.outputs):
            last[name] = index
    follow: dict[int, list[Node]] = {}
    for name, gradient in gradients.items():
        parameter = parameters[name]
        hyper = "nbcnn.hyper.weights" if len(parameter.shape) > 1 else "nbcnn.hyper.others"
        names = []
        for state in optimizer.states:
            key = f"{name}.{state}"
            if key not in states:
                states[key] = device.put(np.zeros(parameter.data.size, parameter.dtype))
            graph.values[key] = Value(key, parameter.dtype, states[key].shape, "packed")
            graph.initializers[key] = states[key]
            names.append(key)
        graph.values.setdefault(hyper, Value(hyper, states[hyper].dtype, states[hyper].shape))
        graph.initializers[hyper] = states[hyper]
        update = Node(optimizer.op, [name, gradient, *names, hyper], [], {"effect": True}, name=f"update {name}")
        follow.setdefault(max(last.get(name, 0), last[gradient], first), []).append(update)
    graph.nodes = [n for i, node in enumerate(graph.nodes) for n in (node, *follow.get(i, ()))]
