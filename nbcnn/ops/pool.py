"""Pooling: MaxPool (ONNX opsets 1, 8, 10, 11, 12, 22), AveragePool (1, 7, 10, 11, 19, 22), LpPool (2, 11, 18, 22) and
the global pools (1, 22)."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from nbcnn.binder import Binder
from nbcnn.errors import ModelError, UnsupportedError
from nbcnn.geometry import Window, window
from nbcnn.graph import Graph, Node, Value
from nbcnn.kernels.opcodes import AVERAGE, MAXIMUM, NORM, SUM
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.runs import bind_reduction

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

__all__ = ["Pool", "all_meet", "lines_of_bytes"]

CHANNEL_BLOCK = 256
"""Channels of a task where there are few lines."""
LINES = 16
"""How many lines are enough to share out whole."""
MOST_WINDOWS = 1 << 22
"""Along an axis: each has a row in a table."""
BYTES = (np.dtype(np.uint8), np.dtype(np.int8))
BYTE = 256
"""The number of a tap of so many fits into a byte."""


def _cube(values: Sequence[int], fill: int) -> tuple[int, int, int]:
    """Spatial values as (d, h, w); one dimension alone becomes h, along which the kernels split their work."""
    if len(values) == 1:
        return fill, values[0], fill
    return (*(fill,) * (3 - len(values)), *values)  # type: ignore[return-value]


def _span(size: int, taps: int, start: int, dilation: int) -> tuple[int, int]:
    """The first kernel position inside 0..size of a window from `start` on, and one past the last."""
    first = min(max(0, -(start // dilation)), taps)
    return first, max(first, min(taps, -((start - size) // dilation)))


def _table(win: Window, include_pad: bool) -> np.ndarray:
    """The kernels' `table` (see there), axis after axis."""
    rows = []
    for size, taps, step, dilation, begin, end, out in zip(
        *(_cube(v, 1) for v in (win.size, win.kernel, win.strides, win.dilations)),
        *(_cube(v, 0) for v in (win.begins, win.ends)),
        _cube(win.out, 1),
        strict=True,
    ):
        for start in range(-begin, out * step - begin, step):
            first, last = _span(size, taps, start, dilation)
            counted = _span(size + end, taps, start, dilation)[1] if include_pad else last - first
            rows.append((start + first * dilation, last - first, counted, first))
    return np.array(rows, np.int64)


def all_meet(win: Window) -> bool:
    """Whether every window has a pixel of the picture."""
    return bool((_table(win, False)[:, 1] > 0).all())


def _meetings(win: Window) -> tuple[np.ndarray, tuple[int, ...]]:
    """The gradient's `meets` and `moves` (see there)."""
    rows, moves = [], []
    for size, count, step, dilation, out, begin in zip(
        *(_cube(v, 1) for v in (win.size, win.kernel, win.strides, win.dilations, win.out)),
        _cube(win.begins, 0),
        strict=True,
    ):
        # Position i meets tap k of window o where o * step + k * dilation = i + begin.
        move = dilation // gcd(step, dilation)
        moves += [move, step * move // dilation]
        for place in range(begin, begin + size):
            first = max(0, -(-(place - (count - 1) * dilation) // step))
            last = min(out - 1, place // step)
            while first <= last and (place - first * step) % dilation:
                first += 1
            meeting = max(0, (last - first) // move + 1)
            rows.append((first, meeting, (place - first * step) // dilation if meeting else 0))
    return np.array(rows, np.int64), tuple(moves)


def _shares(win: Window, include_pad: bool, dtype: np.dtype) -> np.ndarray:
    """The gradient's `shares` (see there)."""
    return 1 / np.maximum(_table(win, include_pad)[:, 2], 1).astype(dtype)


def _geometry(x: Value, win: Window) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The kernels' `size` and `form`."""
    return (x.dims[0], *_cube(win.size, 1), x.dims[1]), (*_cube(win.out, 1), *_cube(win.dilations, 1))


def _tiles(win: Window) -> bool:
    """Whether windows tile the picture, without overlap or rest, and are flat."""
    flat = all(k == 1 for k in win.kernel[:-2])
    whole = all(o * k == n for o, k, n in zip(win.out, win.kernel, win.size, strict=True))
    return flat and whole and win.strides == win.kernel and max(win.dilations) == 1 and not any(win.begins)


def _lines(x: Value, win: Window) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """`shape` and `taps` of the kernels for windows that tile x."""
    _, _, out_w = (1, 1, *win.out)[-3:]
    _, taps_h, taps_w = (1, 1, *win.kernel)[-3:]
    return (x.size // (x.dims[1] * out_w * taps_h * taps_w), out_w, x.dims[1]), (taps_h, taps_w)


def lines_of_bytes(b: Binder, x: Value, win: Window, include_pad: bool, dtype: np.dtype) -> tuple[Any, ...]:
    """`lines`, of this type, `size`, `form`, `table` and `along` of the kernels for bytes."""
    size, form = _geometry(x, win)
    along = (_cube(win.kernel, 1)[2], _cube(win.strides, 1)[2], _cube(win.begins, 0)[2])
    begins = (form[2] - 1) * along[1] + 1
    room = (2 * begins + (along[0] - 1) * form[5]) * size[4]
    lines = b.scratch(b.threads * room, dtype) if b.backend == "cpu" else b.empty(dtype)
    return lines, size, form, b.constant(_table(win, include_pad)), along


class Pool(Op):
    """X (N, C, D1...) -> Y (N, C, O1...). Normalized: window (a Window), mode, power (of the norm), include_pad."""

    layout = "last"
    activations = (0,)
    since = 1
    mode = MAXIMUM
    over_all = False
    halves = 1

    def normalize(self, node: Node, facts: Facts) -> None:
        x, attrs = facts.value(node, 0), node.attrs
        assert x.dtype is not None
        if not 3 <= len(x.dims) <= 5:
            raise UnsupportedError(
                f"{node.label}: 1 to 3 spatial dimensions are supported, the input has shape {x.dims}"
            )
        if x.dtype.kind != "f" and (self.mode != MAXIMUM or x.dtype.kind not in "iu"):
            raise UnsupportedError(f"{node.label}: pooling of {x.dtype} is not supported")
        settings: dict[str, Any] = {
            "mode": self.mode,
            "power": float(attrs.get("p", 2)),
            "include_pad": bool(attrs.get("count_include_pad", 0)),
            "storage_order": int(attrs.get("storage_order", 0)),
        }
        win = self._window(node, x)
        if max(win.out) > MOST_WINDOWS:
            raise ModelError(
                f"{node.label}: pooling supports {MOST_WINDOWS:,} windows along an axis, and not {win.out}"
            )
        node.attrs = settings | {"window": win}

    def _window(self, node: Node, x: Value) -> Window:
        attrs, size = node.attrs, x.dims[2:]
        if self.over_all:
            return window(size, size)
        if "kernel_shape" not in attrs:
            raise ModelError(f"{node.label}: no kernel_shape is given")
        return window(
            size,
            attrs["kernel_shape"],
            attrs.get("strides"),
            attrs.get("pads"),
            attrs.get("dilations"),
            attrs.get("auto_pad", "NOTSET"),
            bool(attrs.get("ceil_mode", 0)),
        )

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x = inputs[0]
        assert x and x.dtype
        shape = (*x.dims[:2], *node.attrs["window"].out)
        return [(x.dtype, shape), (np.dtype(np.int64), shape)][: len(node.outputs)]

    def fold(
        self, node: Node, arrays: Sequence[np.ndarray | None], inputs: Sequence[Value | None]
    ) -> list[np.ndarray] | None:
        """Of whole numbers, and at every run if they are no bytes, or where their place is asked for."""
        x = arrays[0]
        if x is None or x.dtype.kind == "f":
            return None
        y, places = largest(x, node.attrs["window"], bool(node.output(1)))
        if places is None:
            return [y]
        order = places if node.attrs["storage_order"] == 0 else _column_major(places, x.shape[2:])
        planes = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *(1,) * (x.ndim - 2))
        return [y, planes * prod(x.shape[2:]) + order]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        if dys[0] is None:
            return [None]
        x, y = node.inputs[0], node.outputs[0]
        kept = [_taps(node, back.graph)] if self.mode == MAXIMUM else [x, y] if self.mode == NORM else []
        return [back.add("PoolGrad", [dys[0], *kept], like=x, attrs=node.attrs)]

    def bind(self, node: Node, b: Binder) -> None:
        attrs, x, win = node.attrs, b.value(node.inputs[0]), node.attrs["window"]
        assert x.dtype
        if x.dtype.kind != "f":
            self._bind_integers(node, b)
            return
        size, form = _geometry(x, win)
        source, y = b.buffer(x.name), b.buffer(node.outputs[0])
        plain = attrs["mode"] != NORM and not node.output(1) and not node.output(2)
        if attrs["mode"] == AVERAGE and win.kernel == x.dims[2:] and max(win.out) == 1 and not any(win.begins):
            # One window: its sum may be split, and is read in the order in which it lies.
            bind_reduction(b, SUM, x, b.value(node.outputs[0]), range(2, len(x.dims)), 1 / win.taps)
            return
        if plain and _tiles(win):
            b.call("pool_tiles", attrs["mode"], source, y, *_lines(x, win))
            return
        table = b.constant(_table(win, attrs["include_pad"]))
        if node.output(2):
            b.call("max_pool_taps", source, y, b.buffer(node.outputs[2]), size, form, table, _cube(win.kernel, 1))
        else:
            lines = size[0] * form[0] * form[1]
            block = size[4] if lines >= LINES else CHANNEL_BLOCK
            b.call("pool", attrs["mode"], b.dtype.type(attrs["power"]), source, y, size, form, table, block)
        if node.output(1):
            _, d, h, w, _ = size
            # Column-major: the first spatial dimension runs fastest.
            order = (h * w, w, 1) if attrs["storage_order"] == 0 else (1, d, d * h)
            b.call("max_pool_indices", source, y, b.buffer(node.outputs[1]), size, form, table, order)

    def _bind_integers(self, node: Node, b: Binder) -> None:
        x, y, win = b.value(node.inputs[0]), b.value(node.outputs[0]), node.attrs["window"]
        if x.dtype not in BYTES or node.output(1) or not y.size:
            super().bind(node, b)
            return
        lowest = x.dtype.type(np.iinfo(x.dtype).min)
        lines, *places = lines_of_bytes(b, x, win, False, x.dtype)
        b.call("max_pool_bytes", b.buffer(x.name), b.buffer(y.name), lines, lowest, *places)


def largest(x: np.ndarray, win: Window, where: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """The maximum of each window of whole numbers x (N, C, D1...), and where it first lies in its plane."""
    pixels = np.moveaxis(x, 1, -1)
    spans = zip(win.out, win.strides, win.kernel, win.dilations, strict=True)
    reach = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in spans]
    extent = [max(r, b + n) for r, b, n in zip(reach, win.begins, win.size, strict=True)]
    inside = tuple(slice(b, b + n) for b, n in zip(win.begins, win.size, strict=True))
    padded = np.full((len(x), *extent, x.shape[1]), np.iinfo(x.dtype).min, x.dtype)
    padded[:, *inside] = pixels
    numbers = np.full((*extent, 1), -1)
    numbers[inside] = np.arange(prod(win.size)).reshape(*win.size, 1)
    shape = (len(x), *win.out, x.shape[1])
    best, places = np.full(shape, np.iinfo(x.dtype).min, x.dtype), np.full(shape if where else 0, -1)
    for tap in np.ndindex(*win.kernel):
        starts = [t * d for t, d in zip(tap, win.dilations, strict=True)]
        cut = tuple(slice(a, a + (o - 1) * s + 1, s) for a, o, s in zip(starts, win.out, win.strides, strict=True))
        found = padded[:, *cut]
        if where:
            here = np.broadcast_to(numbers[cut], shape)
            places = np.where((here >= 0) & ((found > best) | (places < 0)), here, places)
        np.maximum(best, found, out=best)
    return np.moveaxis(best, -1, 1), np.moveaxis(places, -1, 1) if where else None


def _column_major(places: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Row-major numbers of pixels, counted with the first dimension running fastest."""
    return np.ravel_multi_index(np.unravel_index(places, size), size, order="F")


def _taps(node: Node, graph: Graph) -> str:
    """A third output of a maximum: which tap of each window holds it. The gradient needs neither X nor Y then."""
    y = graph.values[node.outputs[0]]
    kind = np.dtype(np.uint8 if node.attrs["window"].taps <= BYTE else np.int32)
    found = graph.new_value(f"{y.name}.taps", kind, y.dims, y.layout)
    node.outputs = [y.name, node.output(1), found]
    return found


@register("MaxPool")
class MaxPool(Pool):
    """The largest pixel of each window, and its index in X. The gradient goes to the first of equals."""


@register("AveragePool")
class AveragePool(Pool):
    """The mean of each window, over pixels of the picture alone or (count_include_pad) of its padding too."""

    mode = AVERAGE


@register("LpPool")
class LpPool(Pool):
    """(sum |x|^p)^(1/p) of each window."""

    mode = NORM


@register("GlobalMaxPool")
class GlobalMaxPool(Pool):
    over_all = True


@register("GlobalAveragePool")
class GlobalAveragePool(Pool):
    mode, over_all = AVERAGE, True


@register("GlobalLpPool")
class GlobalLpPool(Pool):
    mode, over_all = NORM, True


@register("PoolGrad")
class PoolGrad(Op):
    """inputs: dY, and the taps of a maximum, or X and Y of a norm -> dX. Attributes are those of the forward node."""

    layout = "last"
    halves = 1

    def bind(self, node: Node, b: Binder) -> None:
        attrs, dx, win = node.attrs, b.value(node.outputs[0]), node.attrs["window"]
        size, form = _geometry(dx, win)
        maximum, norm = attrs["mode"] == MAXIMUM, attrs["mode"] == NORM
        meets, moves = _meetings(win)
        b.call(
            "pool_grad",
            attrs["mode"],
            b.dtype.type(attrs["power"]),
            *(b.buffer(node.inputs[i]) if norm else b.empty() for i in (1, 2)),
            b.buffer(node.inputs[0]),
            b.buffer(node.inputs[1]) if maximum else b.empty(np.uint8),
            b.buffer(dx.name),
            size,
            form,
            _cube(win.kernel, 1),
            b.constant(meets),
            moves,
            b.constant(_shares(win, attrs["include_pad"], b.dtype)),
        )
