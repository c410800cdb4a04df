"""What an operator is to the engine, and where all of them are listed.

An operator's file holds its whole life but the arithmetic: what its attributes mean at each ONNX opset (`normalize`),
the shape it gives (`infer`), its value when everything is constant (`fold`), its gradient as further nodes (`grad`),
and the kernel calls that compute it (`bind`). The arithmetic is in the kernels, which are called by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from nbcnn.errors import ModelError, NbcnnError, UnsupportedError
from nbcnn.graph import Graph, Node, Value, is_float

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward
    from nbcnn.binder import Binder

__all__ = [
    "REGISTRY",
    "Facts",
    "Op",
    "Shaped",
    "UndeterminedError",
    "find",
    "full_name",
    "lookup",
    "register",
]

Shaped = tuple[np.dtype, tuple[int, ...]]
"""What `infer` says of an output: element type and ONNX-order shape."""


UNFIT = (
    ValueError, IndexError, KeyError, TypeError, AttributeError, AssertionError, ZeroDivisionError, OverflowError,
    MemoryError, NotImplementedError,
)  # fmt: skip
"""What comes of inputs or attributes that an operator was not made for."""


def unfit(node: Node, error: BaseException) -> ModelError:
    """A clear error for such a one."""
    if isinstance(error, NotImplementedError):
        return UnsupportedError(f"{node.label}: {node.op} of such inputs is not supported")
    words = " ".join(str(error).split()) or "inputs or attributes do not fit the operator"
    return ModelError(f"{node.label}: {words}")


class UndeterminedError(UnsupportedError):
    """Shapes depend on a value that is not known yet. Training cannot go on; a run first computes `value`."""

    def __init__(self, message: str, value: str) -> None:
        super().__init__(message)
        self.value = value


@dataclass
class Facts:
    """What is known of a node's surroundings while it is normalized.

    graph: the lowered graph so far, with the values of all inputs known. opset: the version of ONNX that the file was
    written for. constants: values known at plan time; foldable: those of them that no training changes. train: whether
    the plan is for training. declared: the types that the file gives to floats which are computed in another one.
    """

    graph: Graph
    opset: int
    constants: dict[str, np.ndarray]
    train: bool = False
    foldable: dict[str, np.ndarray] = field(default_factory=dict)
    declared: dict[str, np.dtype] = field(default_factory=dict)

    def define(self, name: str, array: np.ndarray) -> None:
        """Make a value a constant that may be folded."""
        self.graph.values[name] = Value(name, array.dtype, array.shape)
        self.graph.initializers[name] = self.constants[name] = self.foldable[name] = array

    def value(self, node: Node, index: int) -> Value:
        name = node.input(index)
        if not name:
            raise ModelError(f"{node.label}: input {index} is missing")
        return self.graph.values[name]

    def dtype(self, node: Node, index: int) -> np.dtype:
        """The element type that an input has by the file."""
        value = self.value(node, index)
        assert value.dtype is not None
        return self.declared.get(value.name, value.dtype)

    def need_one_type(self, node: Node, which: Iterable[int] | None = None) -> None:
        """Raise ModelError where these inputs (default: all) are not computed in one element type."""
        names = [node.input(k) for k in (range(len(node.inputs)) if which is None else which)]
        kinds = {str(self.graph.values[name].dtype) for name in names if name}
        if len(kinds) > 1:
            raise ModelError(f"{node.label}: its inputs have the types {sorted(kinds)}; they must have the same")

    def need_floats(self, node: Node, which: Iterable[int] | None = None) -> None:
        """Raise an error where these inputs (default: all) are not floats of one type."""
        places = list(range(len(node.inputs)) if which is None else which)
        for name in filter(None, (node.input(k) for k in places)):
            dtype = self.graph.values[name].dtype
            if not is_float(dtype):
                raise UnsupportedError(f"{node.label}: {node.op} takes floats, but input {name!r} holds {dtype}")
        self.need_one_type(node, places)

    def insert(
        self, op: str, inputs: list[str], shape: Iterable[int], of: Node, attrs: dict[str, Any], dtype: Any = None
    ) -> str:
        """Put a normalized node in front of the one that is being normalized; returns its output. dtype: of that,
        None for the first input's.
        """
        name = self.graph.new_value(f"{of.outputs[0]}.{op}", dtype or self.graph.values[inputs[0]].dtype, shape)
        if dtype is None and inputs[0] in self.declared:
            self.declared[name] = self.declared[inputs[0]]
        self.graph.nodes.append(Node(op, inputs, [name], attrs, name=of.name))
        return name

    def reshape(self, name: str, shape: tuple[int, ...], of: Node) -> str:
        """The same elements under another shape, for the node that is being normalized."""
        if name not in self.foldable:
            return self.insert("Reshape", [name], shape, of, {"shape": shape})
        new = self.graph.fresh(f"{of.outputs[0]}.Reshape")
        self.define(new, self.foldable[name].reshape(shape))
        return new

    def has(self, node: Node, index: int) -> bool:
        return bool(node.input(index))

    def constant(self, node: Node, index: int, what: str) -> np.ndarray | None:
        """The value of an optional input that must be known before the network runs; None when it is absent."""
        name = node.input(index)
        if not name:
            return None
        if name not in self.constants:
            raise UndeterminedError(
                f"{node.label}: {what} ({name!r}) must be a constant, but it is computed from the input data", name
            )
        return self.constants[name]

    def ints(self, node: Node, index: int, attr: str, what: str) -> list[int] | None:
        """Integers that older opsets have as an attribute and newer ones as an input; None when absent."""
        if attr in node.attrs:
            return [int(v) for v in np.atleast_1d(node.attrs[attr])]
        array = self.constant(node, index, what)
        return None if array is None else [int(v) for v in np.atleast_1d(array)]


class Op:
    """One operator. Subclasses override what differs from these defaults.

    layout: "last" works on channels-last activations only; "any" takes the layout of its inputs (all alike); "plain"
    needs ONNX order. activations: indices of the inputs that the layout is about (None: all).
    since: the first opset whose definition is understood.
    trainable: indices of inputs that hold weights, which are trained by default.
    alike: indices of inputs (None: all) that must have one element type, as the kernels take it that they have.
    rewritten: a pass makes other operators of it, which have the kernels and the gradients.
    halves: how many outputs, from the first on, may be kept in 16 bits; needs_whole: not so its inputs (see
    passes/halves.py).
    """

    layout = "any"
    activations: tuple[int, ...] | None = None
    since = 7
    trainable: tuple[int, ...] = ()
    alike: tuple[int, ...] | None = ()
    differentiable = True
    rewritten = False
    halves = 0
    needs_whole = False

    def normalize(self, node: Node, facts: Facts) -> None:
        """Rewrite attributes and inputs to the form that the other methods expect, whatever the opset."""

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        """Types and shapes of the outputs. Default: the first input's."""
        first = inputs[0]
        assert first is not None and first.dtype is not None
        return [(first.dtype, first.dims)] * len(node.outputs)

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        """The outputs in NumPy, at plan time, where they can be told from constants (`arrays`, None: not known) and
        shapes.
        """
        return None

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        """Add nodes that compute the gradients of the needed inputs; return their names, None for no gradient."""
        raise UnsupportedError(f"{node.label}: {node.op} cannot be trained through")

    def bind(self, node: Node, b: Binder) -> None:
        """Emit the kernel calls that compute the outputs. Default: `fold`, at every run, for what is no arithmetic of
        networks (integers, booleans).
        """
        if type(self).fold is Op.fold:
            raise NotImplementedError(node.op)
        inputs = [b.value(name) if name else None for name in node.inputs]
        outputs = [b.value(name) for name in node.outputs if name]
        written = [i for i, name in enumerate(node.outputs) if name]

        def compute(*arrays: np.ndarray) -> None:
            given = iter(arrays)
            read = [None if x is None else _in_onnx_order(next(given), x) for x in inputs]
            with misuse_named(node):
                found = self.fold(node, read, inputs)
                assert found is not None, node.label
                for i, y in zip(written, outputs, strict=True):
                    _in_onnx_order(next(given), y)[...] = found[i]

        b.call(compute, *(b.buffer(x.name) for x in (*inputs, *outputs) if x is not None))


@contextmanager
def misuse_named(node: Node, where: Callable[[], tuple[str, str]] = lambda: ("", "")) -> Iterator[None]:
    """What Python and NumPy raise inside becomes a ModelError that names the node; overflow and NaN are no warning, as
    they are none in kernels. where: the file, and what is known of the node's surroundings.
    """
    try:
        with np.errstate(all="ignore"):
            yield
    except NbcnnError as error:
        error.within(*where())
        raise
    except UNFIT as error:
        raise unfit(node, error).within(*where()) from error


def _in_onnx_order(array: np.ndarray, value: Value) -> np.ndarray:
    """A view of a value's flat memory, in ONNX order."""
    whole = array.reshape(value.physical)
    return np.moveaxis(whole, -1, 1) if value.layout == "last" else whole


REGISTRY: dict[str, Op] = {}
"""All operators by `full_name`."""

OpClass = TypeVar("OpClass", bound=type[Op])


def register(*names: str) -> Callable[[OpClass], OpClass]:
    """Class decorator: this class (instantiated with the name, where it takes one) is the operator of these names."""

    def enter(cls: OpClass) -> OpClass:
        for name in names:
            assert name not in REGISTRY, name
            REGISTRY[name] = cls()
        return cls

    return enter


def full_name(node: Node) -> str:
    """How REGISTRY calls a node's operator: with its domain in front, where that is not ONNX's own."""
    return node.op if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op}"


def find(node: Node) -> Op | None:
    """The operator of a node, if the engine has it."""
    return REGISTRY.get(full_name(node))


def lookup(node: Node) -> Op:
    """The operator of a node; raises UnsupportedError."""
    op = find(node)
    if op is None:
        raise UnsupportedError(f"{node.label}: operator {full_name(node)} is not supported")
    return op
