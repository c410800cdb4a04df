"""Another batch size, or an open one, also where a file has it inside: targets of Reshape, sizes of Resize."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from nbcnn.errors import InputError, ModelError
from nbcnn.graph import Dim, Graph, Node, Value
from nbcnn.model import Model
from nbcnn.surgery.probe import Shapes, shapes_of, sizes
from nbcnn.surgery.weights import constant, drop_unread, source, store, unread

__all__ = ["set_batch"]


def set_batch(model: Graph | Model, batch: int | str) -> Graph:
    """A copy for batches of another size: a number, or a name such as "N" that leaves it open.

    The batch is the first dimension of the inputs, of all those that have the same one as the first input. Targets of
    Reshape and sizes of Resize into which an exporter has put it are rewritten. Raises ModelError, naming the node,
    where the batch cannot be told from other dimensions, or where a node rests on its size otherwise.
    """
    if not (isinstance(batch, str) and batch.isidentifier()) and not (
        isinstance(batch, int) and not isinstance(batch, bool) and batch > 0
    ):
        raise InputError(f"a batch is a number of at least 1, or a name such as 'N', not {batch!r}")
    graph = source(model, "the batch is set of")
    old = _batch_of(graph)
    batched = {v.name for v in graph.inputs if v.shape and v.shape[0] == old}
    nodes, names = unread(graph)
    spared = names.union(*(node.outputs for node in nodes))
    base = old if isinstance(old, int) else 1
    shapes = {name: (base, *s[1:]) if name in batched else s for name, s in sizes(graph).items()}
    twice = {name: (2 * base, *s[1:]) if name in batched else s for name, s in shapes.items()}
    few = shapes_of(graph, shapes)

    def mend(node: Node, many: Shapes) -> None:
        if node.op == "Reshape":
            _mend_reshape(graph, node, few, many, base)
        elif node.op == "Resize":
            _mend_resize(graph, node, few, many)

    try:
        many = shapes_of(graph, twice, mend)
    except ModelError as error:
        raise ModelError(f"the batch cannot be changed: with {2 * base} instead of {base}, {error}") from error
    drop_unread(graph, spared)
    for value in graph.inputs:
        if value.name in batched and value.shape:
            value.shape = (batch, *value.shape[1:])
    for value in (*graph.values.values(), *graph.outputs):
        if value.name in few and value.name in many and value.name not in batched:
            _declare(value, few[value.name].dims, many[value.name].dims, base, batch)
    return graph


def _batch_of(graph: Graph) -> Dim:
    """The first dimension of the first input that has one."""
    for value in graph.inputs:
        if value.shape:
            return value.shape[0]
    raise ModelError("this network has no input with a batch: no shape of an input has dimensions")


def _declare(value: Value, few: tuple[int, ...], many: tuple[int, ...], base: int, batch: int | str) -> None:
    """What follows from the batch becomes so many times the new one, in what is declared of a value."""
    if value.shape is None or len(value.shape) != len(few) or few == many:
        return
    dims: list[Dim] = []
    for known, a, b in zip(value.shape, few, many, strict=True):
        if a == b:
            dims.append(known)
        elif a == base:
            dims.append(batch)
        else:
            dims.append(a // base * batch if isinstance(batch, int) and b == 2 * a else None)
    value.shape = tuple(dims)


def _batch_axis(few: Sequence[int], many: Sequence[int]) -> int | None:
    """The only axis along which a value grows with the batch."""
    grown = [axis for axis, (a, b) in enumerate(zip(few, many, strict=True)) if a != b]
    return grown[0] if len(grown) == 1 and many[grown[0]] == 2 * few[grown[0]] else None


def _mend_reshape(graph: Graph, node: Node, few: Shapes, many: Shapes, base: int) -> None:
    """Let the axis that takes over the batch follow it: 0 copies it, -1 is what is left over.

    Elements keep their order, so that axis is the one with as many elements before it as the batch has in the input.
    """
    target = _literal(graph, node, 1, "shape")
    x, y = node.inputs[0], node.outputs[0]
    if target is None or x not in many or x not in few or y not in few:
        return
    x_few, y_few = few[x].dims, few[y].dims
    axis = _batch_axis(x_few, many[x].dims)
    if axis is None:
        return
    before, size = prod(x_few[:axis]), x_few[axis]
    whole = [d > 0 and d % base == 0 and (d % size == 0 or size % d == 0) for d in y_few]
    found = [j for j in range(len(y_few)) if whole[j] and prod(y_few[:j]) == before]
    if not found:
        raise ModelError(f"{node.label} mixes the batch with other dimensions: {list(x_few)} becomes {list(y_few)}")
    place = found[0]
    if target[place] in (0, -1):
        return
    changed = list(target)
    if place == axis and y_few[place] == size and not node.attrs.get("allowzero"):
        changed[place] = 0
    else:
        changed = [y_few[j] if d == -1 else d for j, d in enumerate(target)]
        changed[place] = -1
    _set(graph, node, 1, "shape", changed)


def _mend_resize(graph: Graph, node: Node, few: Shapes, many: Shapes) -> None:
    """Sizes that spell the batch become the scales that they stand for."""
    x, wanted = node.inputs[0], node.input(3)
    target = _literal(graph, node, 3, "sizes") if wanted else None
    if target is None or x not in few or x not in many or "axes" in node.attrs or len(target) != len(few[x].dims):
        return
    axis = _batch_axis(few[x].dims, many[x].dims)
    if axis is None or target[axis] != few[x].dims[axis]:
        return
    if node.attrs.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise ModelError(f"{node.label} has the batch in its sizes and keeps an aspect ratio")
    scales = np.array([b / a for a, b in zip(few[x].dims, target, strict=True)], np.float32)
    if [int(a * s) for a, s in zip(few[x].dims, scales, strict=True)] != target:
        raise ModelError(f"{node.label} has the batch in its sizes, {target}, and no scales give the same")
    name = graph.fresh(f"{wanted}.scales")
    graph.initializers[name] = scales
    graph.values[name] = Value(name, scales.dtype, scales.shape)
    node.inputs = [*node.inputs[:2], name]


def _literal(graph: Graph, node: Node, slot: int, attribute: str) -> list[int] | None:
    """Integers that the file spells out, as an attribute or as a constant input."""
    found = node.attrs.get(attribute)
    if found is None and node.input(slot):
        found = constant(graph, graph.producers(), node.inputs[slot])
    return None if found is None else [int(n) for n in np.atleast_1d(found)]


def _set(graph: Graph, node: Node, slot: int, attribute: str, numbers: list[int]) -> None:
    if attribute in node.attrs:
        node.attrs[attribute] = numbers
    else:
        store(graph, node, slot, np.array(numbers, np.int64), "batch")
