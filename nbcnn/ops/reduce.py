"""Reductions: ReduceSum, ReduceMean, ReduceMax, ReduceMin, ReduceProd, ReduceL1, ReduceL2, ReduceSumSquare,
ReduceLogSum, ReduceLogSumExp; and the sums that gradients need, ChannelSum and ReduceSumTo.

runs.py says how kernels reduce over any axes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from nbcnn.binder import Binder
from nbcnn.errors import ModelError, UnsupportedError
from nbcnn.graph import Node, Value
from nbcnn.kernels import opcodes
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.broadcast import combine
from nbcnn.ops.elementwise import constants
from nbcnn.ops.runs import bind_reduction
from nbcnn.ops.strided import strides

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

CODES = {
    "ReduceL1": opcodes.SUM_OF_SIZES,
    "ReduceL2": opcodes.SUM_OF_SQUARES,
    "ReduceLogSum": opcodes.SUM,
    "ReduceLogSumExp": opcodes.SUM,
    "ReduceMax": opcodes.MAX,
    "ReduceMean": opcodes.SUM,
    "ReduceMin": opcodes.MIN,
    "ReduceProd": opcodes.PRODUCT,
    "ReduceSum": opcodes.SUM,
    "ReduceSumSquare": opcodes.SUM_OF_SQUARES,
}
FINISH = {"ReduceL2": opcodes.SQRT, "ReduceLogSum": opcodes.LOG}
"""What is made of a sum at the end."""
PLAIN = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd")
"""Over no axes, these give back what they got."""

AXES = 6


# --- in NumPy ---------------------------------------------------------------------------------------------------------


def _largest(x: np.ndarray, **axes: Any) -> np.ndarray:
    return x.max(initial=_limit(x.dtype, -1), **axes)


def _smallest(x: np.ndarray, **axes: Any) -> np.ndarray:
    return x.min(initial=_limit(x.dtype, 1), **axes)


def _limit(dtype: np.dtype, sign: int) -> Any:
    """The least (sign -1) or greatest (1) value of a type, infinite for floats."""
    if dtype.kind == "b":
        return sign > 0
    if dtype.kind in "iu":
        return np.iinfo(dtype).max if sign > 0 else np.iinfo(dtype).min
    return sign * inf


def _log_of_sum(x: np.ndarray, **axes: Any) -> np.ndarray:
    with np.errstate(divide="ignore"):  # the logarithm of 0 is minus infinity, as the standard says
        return np.log(x.sum(**axes))


def _log_sum_exp(x: np.ndarray, *, axis: tuple[int, ...], keepdims: bool) -> np.ndarray:
    x = x.astype(np.float64)
    top = np.clip(_largest(x, axis=axis, keepdims=True), -np.finfo(np.float64).max, np.finfo(np.float64).max)
    found = _log_of_sum(np.exp(x - top), axis=axis, keepdims=True) + top
    return found if keepdims else found.squeeze(axis)


FOLDS: dict[str, Callable[..., Any]] = {
    "ReduceL1": lambda x, **axes: np.abs(x).sum(**axes),
    "ReduceL2": lambda x, **axes: np.sqrt(np.square(x).sum(**axes)),
    "ReduceLogSum": _log_of_sum,
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": _largest,
    "ReduceMean": np.mean,
    "ReduceMin": _smallest,
    "ReduceProd": np.prod,
    "ReduceSum": np.sum,
    "ReduceSumSquare": lambda x, **axes: np.square(x).sum(**axes),
}


@register(*CODES)
class Reduce(Op):
    """ONNX opsets 1, 11, 13, 18 (axes as an input; ReduceSum: 13), 20 (ReduceMax, ReduceMin of booleans). Normalized:
    attributes axes (not negative), keepdims. Integers and booleans are NumPy's.
    """

    since = 1

    def normalize(self, node: Node, facts: Facts) -> None:
        x = facts.value(node, 0)
        rank = len(x.dims)
        given = facts.ints(node, 1, "axes", "the axes")
        if not given:
            given = [] if node.attrs.get("noop_with_empty_axes", 0) else list(range(rank))
        if any(not -rank <= axis < rank for axis in given):
            raise ModelError(f"{node.label}: axes {given} are outside the input's shape {x.dims}")
        axes = tuple(sorted({axis % rank for axis in given}))
        if node.op == "ReduceMean" and prod(x.dims[axis] for axis in axes) == 0:
            raise ModelError(f"{node.label}: nothing to reduce in {x.dims} over axes {axes}")
        node.inputs = node.inputs[:1]
        node.attrs = {"axes": axes, "keepdims": bool(node.attrs.get("keepdims", 1))}
        if not axes and node.op in PLAIN:
            node.op, node.attrs = "Identity", {"shape": x.dims}

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x = inputs[0]
        assert x is not None and x.dtype is not None
        if node.op == "Identity":
            return [(x.dtype, x.dims)]
        axes, keepdims = node.attrs["axes"], node.attrs["keepdims"]
        shape = [1 if i in axes else n for i, n in enumerate(x.dims) if keepdims or i not in axes]
        return [(x.dtype, tuple(shape))]

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        x = arrays[0]
        if x is None or node.op == "Identity":
            return None if x is None else [x]
        result = FOLDS[node.op](x, axis=node.attrs["axes"], keepdims=node.attrs["keepdims"])
        return [np.asarray(result).astype(x.dtype)]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        return [_gradient(node, back, dy)]

    def bind(self, node: Node, b: Binder) -> None:
        x, y, axes = b.value(node.inputs[0]), b.value(node.outputs[0]), node.attrs["axes"]
        assert x.dtype is not None
        if x.dtype.kind != "f":
            super().bind(node, b)
        elif node.op == "ReduceLogSumExp":
            _bind_log_sum_exp(b, x, y, axes)
        elif node.op in FINISH:
            total = _like(b, y, "sum")
            bind_reduction(b, CODES[node.op], x, total, axes)
            _apply(b, FINISH[node.op], total, y)
        else:
            count = prod(x.dims[axis] for axis in axes)
            scale = 1 / max(count, 1) if node.op == "ReduceMean" else 1.0
            bind_reduction(b, CODES[node.op], x, y, axes, scale)


def _like(b: Binder, value: Value, hint: str) -> Value:
    """Another value of the same type, shape and layout, for what is computed on the way."""
    return b.value(b.graph.new_value(f"{value.name}.{hint}", value.dtype, value.dims, value.layout))


def _apply(b: Binder, code: int, x: Value, y: Value, scalars: tuple[float, float] = (0.0, 0.0)) -> None:
    """y = one step of the element-wise kernel on x."""
    if y.size:
        program = b.constant(np.array([(code, opcodes.X, 0, opcodes.Y)], np.int64))
        source = b.buffer(x.name)
        b.call("elementwise", program, constants(b, scalars), source, source, b.buffer(y.name), b.empty())


def _bind_log_sum_exp(b: Binder, x: Value, y: Value, axes: Sequence[int]) -> None:
    """The largest element is taken out of the sum, so that no exponential is too large; kept finite, so that what is
    infinite stays so.
    """
    most = float(np.finfo(b.dtype).max)
    largest, top, shifted, powers, total, rest = (
        _like(b, value, hint)
        for value, hint in ((y, "max"), (y, "top"), (x, "shifted"), (x, "exp"), (y, "sum"), (y, "log"))
    )
    bind_reduction(b, opcodes.MAX, x, largest, axes)
    _apply(b, opcodes.CLIP, largest, top, (-most, most))
    steps = strides(x), steps_into(top, x, axes)
    combine(b, opcodes.SUB, (b.buffer(x.name), b.buffer(top.name)), steps, shifted)
    _apply(b, opcodes.EXP, shifted, powers)
    bind_reduction(b, opcodes.SUM, powers, total, axes)
    _apply(b, opcodes.LOG, total, rest)
    combine(b, opcodes.ADD, (b.buffer(rest.name), b.buffer(top.name)), (strides(y), strides(y)), y)


# --- gradients ------------------------------------------------------------------------------------------------------


def _gradient(node: Node, back: Backward, dy: str) -> str:
    x, y = node.inputs[0], node.outputs[0]
    attrs = {"axes": node.attrs["axes"]}
    dims = back.graph.values[x].dims

    def repeated(name: str, scale: float = 1.0) -> str:
        return back.add("Repeat", [name], like=x, attrs=attrs | {"scale": scale})

    if node.op in ("ReduceMax", "ReduceMin"):
        return back.add("ReduceMaxGrad", [x, y, dy], like=x, attrs=attrs)
    if node.op == "ReduceProd":
        return back.add("ReduceProdGrad", [x, dy], like=x, attrs=attrs)
    if node.op == "ReduceMean":
        return repeated(dy, 1 / max(prod(dims[axis] for axis in attrs["axes"]), 1))
    if node.op == "ReduceL1":
        return back.add("Mul", [repeated(dy), back.add("Sign", [x], like=x)], like=x)
    if node.op == "ReduceSumSquare":
        return back.add("Mul", [repeated(dy, 2.0), x], like=x)
    if node.op == "ReduceL2":
        # x / y, and 0 where y is 0: there y is taken as 1.
        zero = back.graph.new_value(f"{y}.zero", back.graph.values[y].dtype, ())
        back.graph.initializers[zero] = np.zeros((), back.graph.values[y].dtype)
        length = back.add("Add", [y, back.add("Equals", [y, zero], like=y)], like=y)
        return back.add("Mul", [repeated(back.add("Div", [dy, length], like=y)), x], like=x)
    if node.op == "ReduceLogSum":
        inverse = back.add("Exp", [back.add("Neg", [y], like=y)], like=y)
        return repeated(back.add("Mul", [dy, inverse], like=y))
    if node.op == "ReduceLogSumExp":
        share = back.add("Exp", [back.add("Sub", [x, repeated(y)], like=x)], like=x)
        return back.add("Mul", [repeated(dy), share], like=x)
    return repeated(dy)


@register("Repeat")
class Repeat(Op):
    """inputs: dY -> dX: dY times the attribute `scale`, repeated along the attribute `axes` of dX, the gradient of a
    sum or mean.
    """

    halves = 1

    def bind(self, node: Node, b: Binder) -> None:
        dy, dx, axes = b.value(node.inputs[0]), b.value(node.outputs[0]), node.attrs["axes"]
        steps = steps_into(dy, dx, axes)
        scale = b.constant(np.array([node.attrs["scale"]], b.dtype))
        combine(b, opcodes.MUL, (b.buffer(dy.name), scale), (steps, (0,) * len(steps)), dx)


def steps_into(y: Value, x: Value, axes: Sequence[int]) -> tuple[int, ...]:
    """Strides in y along every ONNX axis of x, 0 along those that y was reduced over."""
    own = strides(y)
    if len(own) == len(x.dims):
        return tuple(0 if axis in axes else own[axis] for axis in range(len(own)))
    left = iter(own)
    return tuple(0 if axis in axes else next(left) for axis in range(len(x.dims)))


@register("ReduceMaxGrad")
class ReduceMaxGrad(Op):
    """inputs: X, Y, dY -> dX of ReduceMax and ReduceMin: dY goes to the first, in ONNX order, of the elements equal to
    Y.
    """

    def bind(self, node: Node, b: Binder) -> None:
        x, y, dx = b.value(node.inputs[0]), b.value(node.inputs[1]), b.value(node.outputs[0])
        buffers = [b.buffer(v) for v in (x.name, y.name, node.inputs[2], dx.name)]
        b.call("reduce_max_grad", *buffers, *_walks(node, x, y))


@register("ReduceProdGrad")
class ReduceProdGrad(Op):
    """inputs: X, dY -> dX: dY times the product of the other factors."""

    def bind(self, node: Node, b: Binder) -> None:
        x, dy, dx = b.value(node.inputs[0]), b.value(node.inputs[1]), b.value(node.outputs[0])
        b.call("reduce_product_grad", *(b.buffer(v.name) for v in (x, dy, dx)), *_walks(node, x, dy))


def _walks(node: Node, x: Value, y: Value) -> list[tuple[int, ...]]:
    """Shape of the axes that y has, strides of x and of y along them, shape and strides of the others; six each."""
    axes, rank = node.attrs["axes"], len(x.dims)
    if rank > AXES:
        raise UnsupportedError(f"{node.label}: cannot be trained through with more than {AXES} dimensions")
    own, into = strides(x), steps_into(y, x, axes)
    kept = [axis for axis in range(rank) if axis not in axes]

    def six(values: Sequence[int], which: Sequence[int], fill: int) -> tuple[int, ...]:
        return (*(fill,) * (AXES - len(which)), *(values[axis] for axis in which))

    return [six(x.dims, kept, 1), six(own, kept, 0), six(into, kept, 0), six(x.dims, axes, 1), six(own, axes, 0)]


@register("ChannelSum")
class ChannelSum(Op):
    """inputs: dY (N, C, ...) -> dB (C): the sum over all but the channels, the gradient of a bias."""

    def bind(self, node: Node, b: Binder) -> None:
        dy, db = b.value(node.inputs[0]), b.value(node.outputs[0])
        bind_reduction(b, opcodes.SUM, dy, db, [axis for axis in range(len(dy.dims)) if axis != 1])


@register("ReduceSumTo")
class ReduceSumTo(Op):
    """inputs: dY -> dX: the sum over the axes along which X was repeated to give Y's shape."""

    def bind(self, node: Node, b: Binder) -> None:
        dy, dx = b.value(node.inputs[0]), b.value(node.outputs[0])
        spare = len(dy.dims) - len(dx.dims)
        axes = [i for i, n in enumerate(dy.dims) if i < spare or (dx.dims[i - spare] == 1 and n != 1)]
        bind_reduction(b, opcodes.SUM, dy, dx, axes)
