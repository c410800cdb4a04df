"""Which initializers are weights that training changes, and which nodes stay as they are.

Trainable by default are the float weights, scales and biases that operators declare (`Op.trainable`: Conv, Gemm,
MatMul, the norms, PRelu), and what is added right after a Conv, Gemm, MatMul or norm, also when they arrive through
Identity, Reshape or Transpose.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from fnmatch import fnmatchcase

from nbcnn.errors import InputError
from nbcnn.graph import Graph, Node, is_float
from nbcnn.ops import REGISTRY

__all__ = ["is_frozen", "matches", "settle", "trainable", "untie"]

CARRIERS = ("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten")
"""Operators that hand a weight on as it is."""

NORMALIZED = ("BatchNormalization",)
"""Operators of which a frozen weight freezes everything: scale and shift belong to the running statistics."""

SUMMED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization")


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name fits one of these shell-style patterns ("layer1.*")."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def called(node: Node) -> str:
    """The name by which patterns find a node: its own, or that of its first output where a file names no nodes."""
    return node.name or next(filter(None, node.outputs), "")


def is_frozen(node: Node, patterns: Sequence[str], weights: Container[str]) -> bool:
    """Whether a node is to stay as at inference: its own name fits a pattern, or that of one of the `weights` that it
    reads directly (a value computed by a frozen node does not freeze its readers).
    """
    return matches(called(node), patterns) or any(matches(name, patterns) for name in node.inputs if name in weights)


def _origin(name: str, producers: dict[str, Node]) -> str:
    """The value that a value is a mere view of."""
    while name in producers and producers[name].op in CARRIERS:
        name = producers[name].inputs[0]
    return name


def trainable(graph: Graph, train: Sequence[str] = (), freeze: Sequence[str] = ()) -> list[str]:
    """Names of the initializers to train, in the order of their use.

    train: patterns of initializers to train besides the default ones. freeze: patterns of initializers or nodes to
    leave alone. Running statistics are not trained, whatever `train` says. Raises InputError for a pattern that fits
    nothing, or nothing that can be trained.
    """
    floats = {name for name, array in graph.initializers.items() if is_float(array.dtype)}
    names = floats | {called(n) for n in graph.nodes}
    for pattern in (*train, *freeze):
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError(f"pattern {pattern!r} fits no weight and no node of this network")
    producers = graph.producers()
    statistics = _statistics(graph, producers) & floats
    for pattern in train:
        fitting = {name for name in floats if fnmatchcase(name, pattern)}
        if fitting and fitting <= statistics:
            raise InputError(f"pattern {pattern!r} fits running statistics only: no gradient trains them")
    found: dict[str, None] = {}
    for node in graph.nodes:
        whole = is_frozen(node, freeze, floats) if node.op in NORMALIZED else matches(called(node), freeze)
        if whole:
            continue
        for slot in _weight_slots(node, producers):
            name = _origin(node.input(slot), producers)
            if name in floats and not matches(name, freeze):
                found[name] = None
    extra = sorted(name for name in floats - statistics if matches(name, train) and not matches(name, freeze))
    return list(dict.fromkeys([*found, *extra]))


def _statistics(graph: Graph, producers: dict[str, Node]) -> set[str]:
    """The running means and variances of batch norms."""
    norms = [node for node in graph.nodes if node.op == "BatchNormalization"]
    return {_origin(name, producers) for node in norms for name in node.inputs[3:5]}


def _weight_slots(node: Node, producers: dict[str, Node]) -> Sequence[int]:
    if node.op in ("Add", "Sum") and len(node.inputs) == 2:
        sources = [producers.get(_origin(name, producers)) for name in node.inputs]
        return [1 - i for i, source in enumerate(sources) if source is not None and source.op in SUMMED]
    op = REGISTRY.get(node.op)
    return op.trainable if op is not None else ()


def untie(graph: Graph) -> Graph:
    """A copy in which weights that an exporter merged, because they were equal, are initializers of their own again.

    PyTorch's exporter stores tensors of equal value once and hands them on through Identity nodes; such ties are not
    meant. An initializer that several nodes read directly is shared on purpose and stays so.
    """
    copy = graph.copy()
    readers = graph.consumers()
    kept = []
    for node in copy.nodes:
        source = node.inputs[0] if node.inputs else ""
        merged = node.op == "Identity" and source in graph.initializers and len(readers[source]) > 1
        if merged and node.outputs[0] not in graph.output_names():
            copy.initializers[node.outputs[0]] = graph.initializers[source].copy()
        else:
            kept.append(node)
    copy.nodes = kept
    return copy


def settle(graph: Graph) -> Graph:
    """A copy with every batch norm and dropout as at inference, which is how the network is saved: a trainer puts them
    in training mode where it wants to, whatever the file says. A batch norm whose further outputs are read stays.
    """
    copy = graph.copy()
    producers, used = graph.producers(), {*graph.consumers(), *graph.output_names()}
    loose = set()
    for node in copy.nodes:
        if node.op == "BatchNormalization" and node.attrs.get("training_mode") and used.isdisjoint(node.outputs[1:]):
            node.attrs["training_mode"] = 0
            del node.outputs[1:]
        elif node.op == "Dropout" and _is_true(graph, producers, node.input(2)):
            loose.add(node.inputs[2])
            del node.inputs[2:]
    loose -= {*copy.consumers(), *copy.output_names()}
    copy.initializers = {name: array for name, array in copy.initializers.items() if name not in loose}
    copy.nodes = [node for node in copy.nodes if node.op != "Constant" or loose.isdisjoint(node.outputs)]
    return copy


def _is_true(graph: Graph, producers: dict[str, Node], name: str) -> bool:
    """Whether a value is known to be true before the network runs."""
    node = producers.get(name)
    constant = node.attrs.get("value") if node is not None and node.op == "Constant" else graph.initializers.get(name)
    return constant is not None and bool(constant)
