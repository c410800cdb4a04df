"""Comparison of an engine with onnxruntime's CPU session on the same model and the same inputs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import ModelProto

from nbcnn.errors import FileError, ModelError
from nbcnn.onnx_io.feeds import make_feeds
from nbcnn.onnx_io.sources import Source, reason

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["OutputReport", "Report", "Run", "compare", "open_session", "validate"]

Run = Callable[[list[str], dict[str, np.ndarray]], Sequence[np.ndarray]]
"""The engine: the arrays of the named outputs, given the inputs by name."""

TOLERANCES = {"float16": (1e-2, 1e-2), "bfloat16": (5e-2, 5e-2), "float32": (1e-4, 1e-3), "float64": (1e-7, 1e-6)}
"""Absolute and relative tolerance by the element type of an output; other types must be equal."""

SMALLEST_DENOMINATOR = 1e-3
"""Relative differences divide by the expected number, but at least by this part of the output's largest number."""


@dataclass(frozen=True)
class OutputReport:
    """How one output compares.

    max_abs: largest |actual - expected|. max_rel: largest |actual - expected| / |expected|, see SMALLEST_DENOMINATOR.
    problem: why the arrays cannot be compared, "" when they can.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    max_abs: float
    max_rel: float
    ok: bool
    problem: str = ""

    def __str__(self) -> str:
        verdict = "ok" if self.ok else self.problem or "differs"
        shape = "x".join(map(str, self.shape)) or "scalar"
        return f"{self.name} {shape} {self.dtype}: max abs {self.max_abs:.3g}, max rel {self.max_rel:.3g}: {verdict}"


@dataclass(frozen=True)
class Report:
    """The comparison of all outputs of a model with onnxruntime's."""

    outputs: tuple[OutputReport, ...]
    version: str

    @property
    def ok(self) -> bool:
        return all(output.ok for output in self.outputs)

    @property
    def max_abs(self) -> float:
        """The largest absolute difference of all outputs."""
        return max((output.max_abs for output in self.outputs), default=0.0)

    def __str__(self) -> str:
        failed = sum(not output.ok for output in self.outputs)
        verdict = f"{failed} of {len(self.outputs)} outputs differ from" if failed else "agrees with"
        return "\n".join([f"{verdict} onnxruntime {self.version}", *(f"  {output}" for output in self.outputs)])


def validate(
    model: Source,
    inputs: Mapping[str, Any] | None,
    run: Run,
    *,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    atol: float | None = None,
    rtol: float | None = None,
) -> Report:
    """Run a model through `run` and through onnxruntime, and compare every output.

    inputs: arrays by input name; None makes random ones from the model's input shapes and `seed`, with `dims` giving
    numbers to symbolic dimensions. An output is ok when |actual - expected| <= atol + rtol * |expected| everywhere;
    by default both follow from its element type (TOLERANCES).

    Raises ModelError when onnxruntime refuses the model or the inputs, or is not installed, InputError when `inputs` do
    not fit.
    """
    session = open_session(model)
    import onnxruntime

    feeds, guesses = make_feeds(session.get_inputs(), inputs, dims or {}, seed)
    names = [output.name for output in session.get_outputs()]
    try:
        expected = session.run(names, feeds)
    except Exception as error:
        hint = f" (guessed {guesses}: pass dims={{...}}, or --dim)" if guesses else ""
        if inputs is None and any(not info.shape for info in session.get_inputs()):
            hint = " (made without a shape, of which the file says nothing: pass inputs={...}, or --data)"
        raise ModelError(f"onnxruntime cannot run the model on these inputs{hint}: {reason(error)}") from error
    actual = run(names, feeds)
    reports = (compare(*triple, atol, rtol) for triple in zip(names, actual, expected, strict=True))
    return Report(tuple(reports), onnxruntime.__version__)


def open_session(model: Source) -> onnxruntime.InferenceSession:
    """An onnxruntime CPU session with its defaults; what goes wrong is raised, and not printed too."""
    if find_spec("onnxruntime") is None:
        raise ModelError("there is nothing to compare with: onnxruntime is not installed: pip install onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if isinstance(model, ModelProto):
        content: bytes | str = model.SerializeToString()
    elif isinstance(model, bytes):
        content = model
    else:
        content = os.fspath(model)
        if not os.path.isfile(content):
            raise FileError(f"{content}: no such file")
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"onnxruntime refuses the model: {reason(error)}") from error


def compare(
    name: str, actual: Any, expected: Any, atol: float | None = None, rtol: float | None = None
) -> OutputReport:
    """Compare one output. A NaN equals a NaN, an infinity one of the same sign; all else that is not finite differs."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    problem = ""
    if actual.shape != expected.shape:
        problem = f"the engine gave shape {actual.shape}"
    elif actual.dtype != expected.dtype:
        problem = f"the engine gave {actual.dtype}"
    elif expected.dtype.hasobject:
        problem = "" if np.array_equal(actual, expected) else "the texts differ"
    if problem or expected.dtype.hasobject:
        worst = float("inf") if problem else 0.0
        return OutputReport(name, expected.shape, str(expected.dtype), worst, worst, not problem, problem)
    default = TOLERANCES.get(expected.dtype.name, (0.0, 0.0))
    atol, rtol = default[0] if atol is None else atol, default[1] if rtol is None else rtol
    a, e = actual.astype(np.float64), expected.astype(np.float64)
    same = (a == e) | (np.isnan(a) & np.isnan(e))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(a - e))
    difference[np.isnan(difference)] = np.inf
    size = np.where(np.isfinite(e), np.abs(e), 0.0)
    denominator = np.maximum(size, SMALLEST_DENOMINATOR * size.max(initial=0.0))
    relative = np.divide(difference, denominator, out=np.where(same, 0.0, np.inf), where=denominator > 0)
    return OutputReport(
        name,
        expected.shape,
        expected.dtype.name,
        float(difference.max(initial=0.0)),
        float(relative.max(initial=0.0)),
        bool((difference <= atol + rtol * size).all()),
    )
