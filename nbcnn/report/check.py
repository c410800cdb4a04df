"""Whether a network can run and be trained here: an answer for every node, and the reason where it is no."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from nbcnn.autodiff import Backward
from nbcnn.errors import ModelError, NbcnnError, UnsupportedError
from nbcnn.graph import Graph, Node, Value, is_float
from nbcnn.model import Model
from nbcnn.ops import full_name, lookup
from nbcnn.passes.specialize import Mode, Sweep, is_known, specialize
from nbcnn.report.notes import Notes, training_notes
from nbcnn.trainables import trainable

__all__ = ["CheckReport", "NodeCheck", "check"]


@dataclass
class NodeCheck:
    """One node of the file.

    runs: None when it could not be looked at, because a node before it cannot run. trains: whether gradients get
    through it; None when it need not, because no trained weight lies before it, or when it could not be looked at.
    reason: why not.
    """

    node: str
    op: str
    domain: str
    runs: bool | None = None
    trains: bool | None = None
    reason: str = ""


@dataclass
class CheckReport:
    """nodes: in the file's order. problems: what is wrong with the network as a whole. trained: names of the weights
    trained by default.
    """

    nodes: list[NodeCheck]
    problems: list[str] = field(default_factory=list)
    trained: list[str] = field(default_factory=list)
    notes: Notes = field(default_factory=Notes)

    @property
    def runs(self) -> bool:
        return not self.problems and all(node.runs for node in self.nodes)

    @property
    def trains(self) -> bool:
        return self.runs and bool(self.trained) and not any(node.trains is False for node in self.nodes)


def check(model: Model, shapes: Mapping[str, tuple[int, ...]]) -> CheckReport:
    """Look at a network for inputs of these shapes. Raises nothing for what it finds."""
    graph = model.graph
    report = CheckReport([NodeCheck(n.label, n.op, n.domain) for n in graph.nodes], notes=training_notes(graph))
    answers = {id(node): answer for node, answer in zip(graph.nodes, report.nodes, strict=True)}
    feeds = {v.name: (tuple(shapes[v.name]), v.dtype or model.dtype) for v in graph.inputs}
    _check_running(graph, feeds, model.dtype, answers)
    if report.runs:
        _check_plan(model, feeds, report)
    if report.runs:
        report.trained = trainable(graph)
        _check_training(model, feeds, report, answers)
    return report


Feeds = Mapping[str, tuple[tuple[int, ...], np.dtype]]


def _check_running(graph: Graph, feeds: Feeds, dtype: np.dtype, answers: dict[int, NodeCheck]) -> None:
    """Normalize and infer every node that it can, and go on behind those that it cannot."""
    lowered = Graph(opset=dict(graph.opset))
    sweep = Sweep(graph, lowered, dtype, Mode())
    for name, array in graph.initializers.items():
        sweep.constant(name, array, weight=is_float(array.dtype))
    for name, (shape, kind) in feeds.items():
        lowered.values[name] = Value(name, dtype if is_float(kind) else kind, shape)
    copy = graph.copy()
    originals = {id(twin): node for twin, node in zip(copy.nodes, graph.nodes, strict=True)}
    copy.sort()
    unknown: set[str] = set()
    for node in copy.nodes:
        answer = answers[id(originals[id(node)])]
        if not is_known(node, graph):
            answer.runs, answer.reason = False, f"operator {full_name(node)} is not supported"
        elif blocked := [name for name in node.inputs if name in unknown]:
            answer.reason = f"not looked at: its input {blocked[0]!r} comes from a node that cannot run"
        else:
            try:
                sweep.visit(node)
                answer.runs = True
                continue
            except NbcnnError as error:
                error.file = ""  # who asked for the report knows it
                answer.runs, answer.reason = False, _without_label(str(error), answer.node)
        unknown.update(name for name in node.outputs if not _declared(graph, lowered, name))


def _declared(source: Graph, lowered: Graph, name: str) -> bool:
    """Take a value's shape from the file, if the file says it in numbers."""
    value = source.values.get(name)
    if value is None or value.dtype is None or value.shape is None or not all(isinstance(d, int) for d in value.shape):
        return False
    lowered.values[name] = Value(name, value.dtype, value.shape)
    return True


def _check_plan(model: Model, feeds: Feeds, report: CheckReport) -> None:
    """Some corners show only when kernels are bound."""
    try:
        model.plan({name: np.zeros(shape, kind) for name, (shape, kind) in feeds.items()})
    except (ModelError, UnsupportedError) as error:
        _blame(error, report, "runs")


def _check_training(model: Model, feeds: Feeds, report: CheckReport, answers: dict[int, NodeCheck]) -> None:
    """Ask every operator that a gradient has to pass for its gradient, each by itself."""
    graph = model.graph
    try:
        lowered = specialize(graph, feeds, model.dtype, mode=Mode(True))
    except ModelError as error:
        _blame(error, report, "trains")
        return
    sources = {name: answers[id(node)] for node in graph.nodes for name in node.outputs if name}
    depends = set(report.trained)
    for node in list(lowered.nodes):
        if node.attrs.get("effect") or depends.isdisjoint(node.inputs):
            continue
        depends.update(filter(None, node.outputs))
        reason = _gradient_problem(node, lowered, depends)
        for name in node.outputs:
            if name in sources:
                sources[name].trains, sources[name].reason = not reason, _without_label(reason, sources[name].node)


def _gradient_problem(node: Node, graph: Graph, depends: set[str]) -> str:
    values = [graph.values[name] if name else None for name in node.outputs]
    dys = [graph.new_value(f"{v.name}.grad", v.dtype, v.dims, v.layout) if v else None for v in values]
    if lookup(node).rewritten:
        return ""
    try:
        lookup(node).grad(node, Backward(graph), dys, [name in depends for name in node.inputs])
    except NbcnnError as error:
        return str(error)
    return ""


def _blame(error: NbcnnError, report: CheckReport, what: str) -> None:
    """Enter an error at the node that it names, or with the network's problems when it names none."""
    for answer in report.nodes:
        if str(error).startswith(f"{answer.node}:"):
            setattr(answer, what, False)
            answer.reason = _without_label(str(error), answer.node)
            return
    report.problems.append(str(error))


def _without_label(text: str, label: str) -> str:
    return text.removeprefix(f"{label}: ")
