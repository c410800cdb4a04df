"""Operators of one input, element by element: Relu, LeakyRelu, Elu, Selu, Sigmoid, HardSigmoid, HardSwish, Tanh,
Softplus, Clip, Sign, Abs, Neg, Exp, Log, Sqrt, Erf, Floor, Ceil, Round; and chains of them.

One kernel computes them all; a `Spec` says which of its operations an operator is and with what two scalars.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from nbcnn.binder import Binder, Buffer
from nbcnn.errors import UnsupportedError
from nbcnn.graph import Graph, Node, Value
from nbcnn.kernels import opcodes
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.derivative import derivative
from nbcnn.ops.program import TENSORS, Number, Program, Step, allocate

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875
"""The default values of ONNX Selu, opset 22."""
SELU_FIRST = {"alpha": 1.6732, "gamma": 1.0507}
"""Those of opset 1."""


@dataclass(frozen=True)
class Spec:
    """code: of the kernel. keeps: what the gradient reads, "x" or "y" ("": neither; "flat": there
    is none). defaults: attributes and their
    default values. scalars: the kernel's a and b from the attributes. fold: the same in NumPy, for constants.
    """

    code: int
    keeps: str
    defaults: dict[str, float]
    scalars: Callable[[dict[str, Any]], tuple[float, float]] = lambda attrs: (0.0, 0.0)
    fold: Callable[[np.ndarray], np.ndarray] | None = None


SPECS = {
    "Relu": Spec(opcodes.CLIP, "y", {}, lambda _: (0.0, inf), lambda x: np.maximum(x, 0)),
    "LeakyRelu": Spec(opcodes.LEAKY_RELU, "y", {"alpha": 0.01}, lambda at: (at["alpha"], 0.0)),
    "Elu": Spec(opcodes.ELU, "y", {"alpha": 1.0}, lambda at: (at["alpha"], 1.0)),
    "Selu": Spec(
        opcodes.ELU,
        "y",
        {"alpha": SELU_ALPHA, "gamma": SELU_GAMMA},
        lambda at: (at["alpha"] * at["gamma"], at["gamma"]),
    ),
    "Sigmoid": Spec(opcodes.SIGMOID, "y", {}),
    "HardSigmoid": Spec(opcodes.HARD_SIGMOID, "y", {"alpha": 0.2, "beta": 0.5}, lambda at: (at["alpha"], at["beta"])),
    "Tanh": Spec(opcodes.TANH, "y", {}),
    "Softplus": Spec(opcodes.SOFTPLUS, "x", {}),
    "HardSwish": Spec(opcodes.HARD_SWISH, "x", {}),
    "Sign": Spec(opcodes.SIGN, "x", {}, fold=np.sign),
    "Abs": Spec(opcodes.ABS, "x", {}, fold=np.abs),
    "Neg": Spec(opcodes.NEG, "", {}, fold=np.negative),
    "Exp": Spec(opcodes.EXP, "y", {}, fold=np.exp),
    "Log": Spec(opcodes.LOG, "x", {}, fold=np.log),
    "Erf": Spec(opcodes.ERF, "x", {}),
    "Sqrt": Spec(opcodes.SQRT, "y", {}, fold=np.sqrt),
    "Floor": Spec(opcodes.FLOOR, "flat", {}, fold=np.floor),
    "Ceil": Spec(opcodes.CEIL, "flat", {}, fold=np.ceil),
    "Round": Spec(opcodes.ROUND, "flat", {}, fold=np.rint),
}


ON_INTEGERS = ("Abs", "Clip", "Neg", "Relu", "Sign")
"""Those that ONNX defines on integers, too."""


def need_float(node: Node, x: Value, index: int = 0) -> np.dtype:
    """The element type of an input that a kernel computes with; raises UnsupportedError for integers and booleans."""
    assert x.dtype is not None
    if x.dtype.kind != "f":
        raise UnsupportedError(
            f"{node.label}: input {index} ({x.name!r}) holds {x.dtype.name} that depends on the input data; "
            "only floats are computed with"
        )
    return x.dtype


class _Elementwise(Op):
    """What all of them share; layout and shape are the input's."""

    halves = 1

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x = inputs[0]
        assert x is not None and x.dtype is not None
        whole = x.dtype.kind in "iu" and node.op in ON_INTEGERS
        return [(x.dtype if whole else need_float(node, x), x.dims)]

    def bind_float(self, node: Node, b: Binder, code: int, scalars: tuple[float, float]) -> None:
        """Emit the forward call, or leave integers to NumPy."""
        if b.value(node.inputs[0]).dtype == b.dtype:
            bind_elementwise(node, b, code, scalars)
        else:
            Op.bind(self, node, b)


@register(*SPECS)
class Unary(_Elementwise):
    """ONNX: Relu 6, 13, 14; LeakyRelu 6, 16; Elu 6, 22; Selu 6, 22; Sigmoid, Tanh, Abs, Neg, Exp, Log, Sqrt 6, 13;
    HardSigmoid 6, 22; Softplus 1, 22; HardSwish 14, 22; Sign, Erf 9, 13; Floor, Ceil 6, 13; Round 11, 22 (halves to the
    even neighbour). Those of 6 are 1's, too, but for the defaults of Selu. inputs: X -> Y.
    """

    since = 1

    def normalize(self, node: Node, facts: Facts) -> None:
        defaults = SPECS[node.op].defaults
        if node.op == "Selu" and facts.opset < 6:
            defaults = SELU_FIRST
        node.attrs = {name: float(node.attrs.get(name, value)) for name, value in defaults.items()}

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        fold = SPECS[node.op].fold
        return None if arrays[0] is None or fold is None else [fold(arrays[0])]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        x, y, spec = node.inputs[0], node.outputs[0], SPECS[node.op]
        a, b = spec.scalars(node.attrs)
        if spec.keeps == "flat":
            return [None]
        if not spec.keeps:
            return [back.add(node.op, [dy], like=x)]
        if node.op in ("LeakyRelu", "Elu", "Selu") and (a < 0 or b < 0):
            raise UnsupportedError(
                f"{node.label}: cannot be trained through with negative coefficients {node.attrs}: "
                "its output does not tell the sign of its input"
            )
        if node.op == "Relu":
            return [back.add("ClampGrad", [y, dy], like=x, attrs={"low": 0.0, "high": inf})]
        attrs = {"code": spec.code, "a": a, "b": b}
        return [back.add("ElementwiseGrad", [y if spec.keeps == "y" else x, dy], like=x, attrs=attrs)]

    def bind(self, node: Node, b: Binder) -> None:
        spec = SPECS[node.op]
        self.bind_float(node, b, spec.code, spec.scalars(node.attrs))


@register("Clip")
class Clip(_Elementwise):
    """ONNX opsets 6 (attributes min, max), 11, 12, 13 (inputs). Normalized: attributes low and high, infinite where
    there is no bound; Max and Min, where a bound is computed from the input data.
    """

    since = 6
    alike = (0, 1, 2)

    def normalize(self, node: Node, facts: Facts) -> None:
        if any(name and name not in facts.constants for name in node.inputs[1:]):
            self._by_extremes(node, facts)
            return
        low = self._bound(node, facts, 1, "min", -inf)
        high = self._bound(node, facts, 2, "max", inf)
        node.inputs = node.inputs[:1]
        x = facts.value(node, 0)
        if x.dtype is not None and x.dtype.kind in "iu":
            range_ = np.iinfo(x.dtype)
            low, high = max(low, range_.min), min(high, range_.max)
        node.attrs = {"low": low, "high": high}
        if (low, high) == (-inf, inf):
            node.op, node.attrs = "Identity", {"shape": x.dims}

    @staticmethod
    def _by_extremes(node: Node, facts: Facts) -> None:
        x, low, high = node.inputs[0], node.input(1), node.input(2)
        if low and high:
            x = facts.insert("Max", [x, low], facts.value(node, 0).dims, node, {})
        node.op, node.inputs, node.attrs = "Min" if high else "Max", [x, high or low], {}

    @staticmethod
    def _bound(node: Node, facts: Facts, index: int, name: str, default: float) -> float:
        array = facts.constant(node, index, f"{name}, a bound,")
        return node.attrs.get(name, default) if array is None else array.reshape(()).item()

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x = inputs[0]
        assert x is not None and x.dtype is not None
        return [(x.dtype, x.dims)] if node.op != "Clip" else super().infer(node, inputs)

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        x = arrays[0]
        if x is None or node.op != "Clip":
            return [x] if x is not None and node.op == "Identity" else None
        return [np.minimum(np.maximum(x, node.attrs["low"]), node.attrs["high"]).astype(x.dtype)]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        attrs = {"code": opcodes.CLIP, "a": node.attrs["low"], "b": node.attrs["high"]}
        return [back.add("ElementwiseGrad", [node.inputs[0], dy], like=node.inputs[0], attrs=attrs)]

    def bind(self, node: Node, b: Binder) -> None:
        self.bind_float(node, b, opcodes.CLIP, (node.attrs["low"], node.attrs["high"]))


def bind_elementwise(node: Node, b: Binder, code: int, scalars: tuple[float, float]) -> None:
    """Emit the forward call of an operator that is one step."""
    bind_steps(node, b, [(code, opcodes.X, 0, opcodes.Y)], constants(b, scalars))


def constants(b: Binder, numbers: Sequence[Number]) -> Buffer:
    """The numbers of all steps, two for each, and two for one more."""
    return b.constant(np.array([*numbers, 0, 0], b.dtype))


def bind_steps(node: Node, b: Binder, steps: Sequence[Step], numbers: Buffer) -> None:
    """Emit the call that runs the program on the node's first two inputs; y takes over the memory of one of them where
    nobody else reads it.
    """
    tensors = list(filter(None, node.inputs[:2]))
    program = list(steps)
    overwrites = any(b.in_place(node.outputs[0], name) for name in tensors)
    if overwrites and b.backend == "cpu":
        # Through a slot: where a step's operand and result are one array, its loop is not vectorized.
        *_, (code, first, second, _) = program
        slot = max([opcodes.Y, *(step[3] for step in program)]) + 1
        program[-1:] = [(code, first, second, slot), (opcodes.COPY, slot, 0, opcodes.Y)]
    slots = max(step[3] for step in program) - opcodes.Y
    x, z = b.buffer(tensors[0]), b.buffer(tensors[-1])
    tiles = b.scratch((b.threads if b.backend == "cpu" else 1) * slots * opcodes.TILE) if slots else b.empty()
    b.call("elementwise", b.constant(np.array(program, np.int64)), numbers, x, z, b.buffer(node.outputs[0]), tiles)


@register("Chain")
class Chain(Op):
    """Several of these, and arithmetic, one after the other (passes/chains.py). inputs: one or two tensors of one
    shape, the constants where they rest on weights -> Y. Attributes: program, links (the operators).
    """

    activations = (0, 1)
    halves = 1

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None and not any(need[1:]), node.label  # passes/chains.py sees to that
        return [chain_gradient(back, node.attrs["program"], node.inputs[0], dy), None, None]

    def bind(self, node: Node, b: Binder) -> None:
        program, table = node.attrs["program"], node.input(2)
        numbers = b.buffer(table) if table else constants(b, program.constants)
        bind_steps(node, b, allocate(program.steps), numbers)


@register("ChainConstants")
class ChainConstants(Op):
    """inputs: single numbers -> the constants of a Chain. Attributes: known, all of them but for these; places, pairs
    of an input and where it goes.
    """

    def bind(self, node: Node, b: Binder) -> None:
        y = b.buffer(node.outputs[0])
        once = (1,) * 6
        b.call("copy_strided", constants(b, node.attrs["known"]), y, (*once[:5], y.size), 0, once, 0, once)
        for index, place in node.attrs["places"]:
            b.call("copy_strided", b.buffer(node.inputs[index]), y, once, 0, once, place, once)


def chain_nodes(
    program: Program, tensors: list[str], output: str, links: Sequence[str], graph: Graph, name: str
) -> list[Node]:
    """The Chain that writes `output`, and what it takes besides."""
    y = graph.values[output]
    names = list(dict.fromkeys(c for c in program.constants if isinstance(c, str)))
    found: list[Node] = []
    table = ""
    if names:
        assert y.dtype is not None
        known = [0.0 if isinstance(c, str) else c for c in program.constants]
        table = graph.new_value(f"{output}.constants", y.dtype, (len(known) + 2,))
        places = tuple((names.index(c), at) for at, c in enumerate(program.constants) if isinstance(c, str))
        found.append(Node("ChainConstants", names, [table], {"known": known, "places": places}, name=name))
    inputs = [*tensors, *[""] * (len(TENSORS) - len(tensors)), table]
    attrs = {"program": program, "links": tuple(links)}
    return [*found, Node("Chain", inputs, [output], attrs, name=name)]


# --- gradients ------------------------------------------------------------------------------------------------------


def chain_gradient(back: Backward, program: Program, x: str, dy: str) -> str:
    """The gradient by x of a program of one tensor."""
    value = back.graph.values[x]
    dx = back.graph.new_value(f"{x}.grad", value.dtype, value.dims, value.layout)
    back.nodes += chain_nodes(derivative(program), [x, dy], dx, ["Grad"] * len(program.steps), back.graph, name=dx)
    return dx


@register("ElementwiseGrad")
class ElementwiseGrad(Op):
    """inputs: what the operator of attribute `code` keeps (its input or its output), dY -> dX. Attributes a, b: its
    scalars.
    """

    halves = 1

    def bind(self, node: Node, b: Binder) -> None:
        bind_grad(node, b, node.attrs["code"], node.attrs["a"], node.attrs["b"])


@register("ClampGrad")
class ClampGrad(Op):
    """inputs: Y, dY -> dX: dY where Y lies between the attributes low and high, and not at them; zero elsewhere."""

    halves = 1

    def bind(self, node: Node, b: Binder) -> None:
        bind_grad(node, b, opcodes.CLAMP, node.attrs["low"], node.attrs["high"])


def bind_grad(node: Node, b: Binder, code: int, first: float, second: float) -> None:
    """Emit the backward call; dx takes over the memory of dy, or of what was kept, where nobody else reads it."""
    kept, dy = node.inputs
    in_place = b.in_place(node.outputs[0], dy) or b.in_place(node.outputs[0], kept)
    tiles = b.scratch(b.threads * opcodes.TILE) if in_place and b.backend == "cpu" else b.empty()
    arrays = (b.buffer(name) for name in (kept, dy, node.outputs[0]))
    b.call("elementwise_grad", code, *arrays, b.dtype.type(first), b.dtype.type(second), tiles)
