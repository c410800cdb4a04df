"""onnx's own test suite: what is taken of it, and passes, operator by operator. Ends with 1 when a test fails."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

from bench.onnx_excluded import OPERATORS, TESTS
from bench.options import add_out, finish, start
from bench.report import table
from nbcnn.onnx_io.backend import Backend

__all__ = ["KINDS", "Test", "collect", "configure", "render", "run"]

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator", "real")
"""Tests of single operators; of small graphs; of networks and operators that PyTorch exported; of light models."""
REPORT = Path(__file__).parents[1] / "docs" / "onnx-suite.md"


@dataclass(frozen=True)
class Test:
    """One test. about: the operator that it is about, or its kind. expanded: whether the operator is written out as the
    function that defines it. excluded: why it is not taken, "" where it is.
    """

    name: str
    kind: str
    about: str
    expanded: bool
    excluded: str
    case: Any


def collect() -> list[Test]:
    """The whole suite."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the computation of what is expected
        cases = [(kind, case) for kind in KINDS for case in load_model_tests(kind=kind)]
    about = {c.name: c.model.graph.node[0].op_type for kind, c in cases if kind == "node"}
    return [_test(kind, case, about) for kind, case in cases]


def _test(kind: str, case: Any, about: dict[str, str]) -> Test:
    base, mark, _ = case.name.partition("_expanded")
    expanded = kind == "node" and bool(mark)
    subject = about.get(base, about[case.name]) if kind == "node" else kind
    used = _operators(_model(case).graph) if kind != "real" else set()
    reasons = [TESTS[case.name]] if case.name in TESTS else [OPERATORS[op] for op in sorted(used) if op in OPERATORS]
    if subject in OPERATORS:
        reasons.insert(0, OPERATORS[subject])
    return Test(case.name, kind, subject, expanded, reasons[0] if reasons else "", case)


def _model(case: Any) -> onnx.ModelProto:
    return case.model or onnx.load(Path(case.model_dir) / "model.onnx")


def _operators(graph: onnx.GraphProto) -> set[str]:
    found = {node.op_type for node in graph.node}
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                found |= _operators(inner)
    return found


def configure(parser: argparse.ArgumentParser) -> None:
    add_out(parser, "onnx")
    parser.add_argument("--onnxruntime", action="store_true", help="run the tests that are taken there too")
    parser.add_argument("--write", action="store_true", help=f"write docs/{REPORT.name}")


def run(args: argparse.Namespace) -> int:
    tests = collect()
    if args.write:
        REPORT.write_text(render(tests), encoding="utf-8")
    machine = start(args)
    taken = [test for test in tests if not test.excluded and test.kind != "real"]
    failed = {test.name: problem for test in taken if (problem := _problem(test, _here))}
    peers = {test.name for test in taken if args.onnxruntime and not _problem(test, _there)}
    rows = []
    for kind in KINDS[:-1]:
        for expanded in (False, True):
            group = [t for t in tests if t.kind == kind and t.expanded == expanded]
            names = [t.name for t in group if not t.excluded]
            if group:
                passed = sum(name not in failed for name in names)
                theirs = sum(name in peers for name in names) if args.onnxruntime else None
                label = f"{kind}, as functions" if expanded else kind
                rows.append((label, len(group), len(group) - len(names), len(names), passed, theirs))
    print(table(("tests", "all", "excluded", "taken", "passed", "onnxruntime"), rows))
    for name, problem in failed.items():
        print(f"{name}: {problem}", file=sys.stderr)
    keys = ("tests", "all", "excluded", "taken", "passed", "onnxruntime")
    finish(args, machine, [dict(zip(keys, row, strict=True)) for row in rows])
    return 1 if failed else 0


Compute = Callable[[onnx.ModelProto, Sequence[Any]], Sequence[Any]]


def _problem(test: Test, compute: Compute) -> str:
    """What is wrong with the results, in one line; "" when they are right."""
    model = _model(test.case)
    try:
        for inputs, outputs in _data(test.case):
            Runner.assert_similar_outputs(outputs, compute(model, inputs), test.case.rtol, test.case.atol)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return ""


def _here(model: onnx.ModelProto, inputs: Sequence[Any]) -> Sequence[Any]:
    return Backend.run_model(model, inputs)


def _there(model: onnx.ModelProto, inputs: Sequence[Any]) -> Sequence[Any]:
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=False)))


def _data(case: Any) -> Iterator[tuple[list[Any], list[Any]]]:
    """Inputs and outputs of each data set."""
    if case.data_sets is not None:
        yield from (([_array(x) for x in inputs], [_array(y) for y in outputs]) for inputs, outputs in case.data_sets)
        return
    for folder in sorted(Path(case.model_dir).glob("test_data_set_*")):
        yield _arrays(folder, "input"), _arrays(folder, "output")


def _array(given: Any) -> Any:
    """Some tests hold their arrays as messages."""
    return numpy_helper.to_array(given) if isinstance(given, onnx.TensorProto) else given


def _arrays(folder: Path, side: str) -> list[np.ndarray]:
    found = []
    for number in range(len(list(folder.glob(f"{side}_*.pb")))):
        tensor = onnx.TensorProto.FromString((folder / f"{side}_{number}.pb").read_bytes())
        found.append(numpy_helper.to_array(tensor))
    return found


HEAD = """\
# onnx's own tests

Written by `python -m bench onnx --write`; do not edit. onnx {version} has {all} tests of backends; {taken} are taken,
and pass: the project's own tests run them. The others are left out for the reasons below.

"""


def render(tests: Sequence[Test]) -> str:
    """docs/onnx-suite.md."""
    taken, left_out = [t for t in tests if not t.excluded], [t for t in tests if t.excluded]
    lines = [HEAD.format(version=onnx.__version__, all=len(tests), taken=len(taken))]
    lines += ["| about | tests | taken | as functions | taken |", "|---|---|---|---|---|"]
    for about in sorted({t.about for t in taken}, key=lambda a: (a in KINDS, a)):
        own = [t for t in tests if t.about == about]
        counts = []
        for expanded in (False, True):
            group = [t for t in own if t.expanded == expanded]
            counts += [len(group), sum(not t.excluded for t in group)]
        lines.append(f"| {about} | {counts[0]} | {counts[1]} | {counts[2] or ''} | {counts[3] if counts[2] else ''} |")
    lines += ["", "| left out because of | tests | about |", "|---|---|---|"]
    for reason, count in Counter(t.excluded for t in left_out).most_common():
        about = ", ".join(sorted({t.about for t in left_out if t.excluded == reason}))
        lines.append(f"| {reason} | {count} | {about} |")
    return "\n".join(lines) + "\n"
