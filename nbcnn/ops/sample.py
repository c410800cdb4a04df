"""GridSample (ONNX opsets 16, 20, 22) and AffineGrid (20), which makes grids for it.

A sampling node is bound to two kernel calls: which pixels each sample reads, with what weights (`sampling_taps`), and
the weighted sums of their channels (`blend`). AffineGrid becomes a product (passes/decompose.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from nbcnn.binder import Binder, Buffer
from nbcnn.errors import ModelError, UnsupportedError
from nbcnn.graph import Node, Value
from nbcnn.kernels.opcodes import BORDER, CUBIC, LINEAR, NEAREST, REFLECTION, ZEROS
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.elementwise import need_float
from nbcnn.ops.gather import triple
from nbcnn.ops.strided import fill, strides

if TYPE_CHECKING:
    from nbcnn.autodiff import Backward

__all__ = ["Sampling"]

MODES = {"nearest": NEAREST, "linear": LINEAR, "bilinear": LINEAR, "cubic": CUBIC, "bicubic": CUBIC}
PADDINGS = {"zeros": ZEROS, "border": BORDER, "reflection": REFLECTION}


@dataclass(frozen=True)
class Sampling:
    """What the kernels of kernels/cpu/sample.py and blend.py are told, but for the arrays.

    size: spatial extents of x. out: of the samples' grid. form: their `form`. window: what the samples of a point are
    taps of. strides: of values; mask: of the mask. chunks, run, pitch: how y takes its channels from x.
    """

    images: int
    channels: int
    size: tuple[int, ...]
    out: tuple[int, ...]
    form: tuple[int, int, int, int, int]
    strides: tuple[int, ...]
    mask: tuple[int, ...] = (0, 0, 0, 0, 0)
    sets: int = 1
    window: tuple[int, ...] = (1, 1, 1) * 3 + (0, 0, 0)
    chunks: tuple[int, ...] = field(default=(0, 0, 0))
    run: int = 0
    pitch: int = 0

    @property
    def taps(self) -> int:
        return 1 << self.form[1] * self.form[0]

    @property
    def points(self) -> int:
        return self.images * prod(self.out)

    def _shape(self) -> tuple[object, ...]:
        grid = (self.images, *triple(self.out, 1))
        return self.form, triple(self.size, 1), grid, self.sets, self.window, self.strides, self.mask

    def _blending(self) -> tuple[int, ...]:
        return (self.points, self.sets, self.taps, self.run, self.channels, self.pitch)

    def _chunks(self, b: Binder) -> Buffer:
        return b.constant(np.array(self.chunks, np.int64))

    def bind_taps(self, b: Binder, values: Buffer, mask: Buffer) -> tuple[Buffer, Buffer]:
        """Emit the call that finds places and weights, and return these."""
        count = self.points * self.sets * self.taps
        places, weights = b.scratch(count, np.int64), b.scratch(count)
        b.call("sampling_taps", values, mask, places, weights, *self._shape())
        return places, weights

    def bind(self, b: Binder, x: Buffer, values: Buffer, mask: Buffer, y: Buffer) -> None:
        places, weights = self.bind_taps(b, values, mask)
        b.call("blend", x, y, places, weights, self._chunks(b), self._blending())

    def bind_input_grad(self, b: Binder, values: Buffer, mask: Buffer, dy: Buffer, dx: Buffer) -> None:
        """Emit what adds to dx, which holds zeros."""
        places, weights = self.bind_taps(b, values, mask)
        b.call("blend_input_grad", dy, dx, places, weights, self._chunks(b), self._blending(), self.images)

    def bind_values_grad(
        self, b: Binder, x: Buffer, values: Buffer, mask: Buffer, dy: Buffer, dvalues: Buffer, dmask: Buffer
    ) -> None:
        places, _ = self.bind_taps(b, values, mask)
        products = b.scratch(self.points * self.sets * self.taps)
        b.call("blend_products", x, dy, places, products, self._chunks(b), self._blending())
        b.call("sampling_grad", values, mask, products, dvalues, dmask, *self._shape())


# --- GridSample -------------------------------------------------------------------------------------------------------


@register("GridSample")
class GridSample(Op):
    """inputs: X (N, C, D1...), grid (N, O1..., rank), in [-1, 1], the last axis of X first -> Y (N, C, O1...).

    Opset 16 says bilinear and bicubic for linear and cubic. Cubic interpolation is Keys' with a = -0.75.
    """

    layout = "last"
    activations = (0,)
    since = 16

    def normalize(self, node: Node, facts: Facts) -> None:
        x, grid = facts.value(node, 0), facts.value(node, 1)
        need_float(node, x)
        need_float(node, grid, 1)
        rank = len(x.dims) - 2
        if not 1 <= rank <= 3:
            raise UnsupportedError(f"{node.label}: 1 to 3 spatial dimensions are supported, the input has {x.dims}")
        if len(grid.dims) != rank + 2 or grid.dims[0] != x.dims[0] or grid.dims[-1] != rank:
            raise ModelError(f"{node.label}: the grid {grid.dims} does not fit the input {x.dims}")
        if grid.size and not prod(x.dims[2:]):
            raise ModelError(f"{node.label}: there are no pixels to sample in {x.dims}")
        mode, padding = node.attrs.get("mode", "linear"), node.attrs.get("padding_mode", "zeros")
        if mode not in MODES or padding not in PADDINGS:
            raise UnsupportedError(
                f"{node.label}: mode {mode!r} is none of {', '.join(MODES)}, or padding_mode {padding!r} none of "
                f"{', '.join(PADDINGS)}"
            )
        aligned = int(bool(node.attrs.get("align_corners", 0)))
        node.attrs = {"form": (rank, MODES[mode], PADDINGS[padding], aligned, 1)}

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        x, grid = inputs[0], inputs[1]
        assert x and grid and x.dtype
        return [(x.dtype, (*x.dims[:2], *grid.dims[1:-1]))]

    def grad(self, node: Node, back: Backward, dys: list[str | None], need: list[bool]) -> list[str | None]:
        (dy,) = dys
        assert dy is not None
        x, grid = node.inputs
        return [
            back.add("GridSampleInputGrad", [grid, dy], like=x, attrs=node.attrs) if need[0] else None,
            back.add("GridSampleGridGrad", [x, grid, dy], like=grid, attrs=node.attrs) if need[1] else None,
        ]

    def bind(self, node: Node, b: Binder) -> None:
        x, grid = (b.value(name) for name in node.inputs)
        y = b.buffer(node.outputs[0])
        if b.value(node.outputs[0]).size:
            _grid_sampling(node, x, grid).bind(b, b.buffer(x.name), b.buffer(grid.name), b.empty(), y)


def _grid_sampling(node: Node, x: Value, grid: Value) -> Sampling:
    step, channels = strides(grid), x.dims[1]
    # The grid's last axis counts X's from behind.
    start, back = (len(x.dims) - 3) * step[-1], -step[-1]
    return Sampling(
        images=x.dims[0],
        channels=channels,
        size=x.dims[2:],
        out=grid.dims[1:-1],
        form=node.attrs["form"],
        strides=(start, step[0], 0, back, *triple(step[1:-1], 0)),
        run=channels,
        pitch=channels,
    )


@register("GridSampleInputGrad")
class GridSampleInputGrad(Op):
    """inputs: grid, dY -> dX."""

    def bind(self, node: Node, b: Binder) -> None:
        grid, dx = b.value(node.inputs[0]), b.value(node.outputs[0])
        fill(b, dx, 0)
        if b.value(node.inputs[1]).size:
            sampling = _grid_sampling(node, dx, grid)
            sampling.bind_input_grad(b, b.buffer(grid.name), b.empty(), b.buffer(node.inputs[1]), b.buffer(dx.name))


@register("GridSampleGridGrad")
class GridSampleGridGrad(Op):
    """inputs: X, grid, dY -> dgrid; zero where the nearest pixel is taken."""

    def bind(self, node: Node, b: Binder) -> None:
        x, grid = b.value(node.inputs[0]), b.value(node.inputs[1])
        arrays = b.buffer(x.name), b.buffer(grid.name), b.empty(), b.buffer(node.inputs[2])
        _grid_sampling(node, x, grid).bind_values_grad(b, *arrays, b.buffer(node.outputs[0]), b.empty())


# --- AffineGrid -------------------------------------------------------------------------------------------------------


@register("AffineGrid")
class AffineGrid(Op):
    """inputs: theta (N, rank, rank + 1), size (N, C, D1...) -> grid (N, D1..., rank).

    Normalized: `grid`, (rank + 1, D1 * ...), the homogeneous coordinates of every point, the last axis first.
    """

    since = 20
    rewritten = True

    def normalize(self, node: Node, facts: Facts) -> None:
        theta = facts.value(node, 0)
        size = facts.ints(node, 1, "size", "the size")
        rank = len(size or ()) - 2
        if size is None or rank not in (2, 3) or theta.dims != (size[0], rank, rank + 1):
            raise ModelError(f"{node.label}: theta {theta.dims} does not fit size {size}")
        aligned = bool(node.attrs.get("align_corners", 0))
        axes = [_centres(n, aligned) for n in size[2:]]
        points = [axis.reshape(-1) for axis in np.meshgrid(*axes, indexing="ij")][::-1]
        node.inputs = node.inputs[:1]
        facts.need_floats(node)
        node.attrs = {"grid": np.stack([*points, np.ones_like(points[0])]), "shape": (size[0], *size[2:], rank)}

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        theta = inputs[0]
        assert theta and theta.dtype
        return [(theta.dtype, node.attrs["shape"])]


def _centres(n: int, aligned: bool) -> np.ndarray:
    """Where n pixels lie between -1 and 1, which are the outermost ones, or their outer edges."""
    if aligned:
        return np.linspace(-1.0, 1.0, n) if n > 1 else np.zeros(n)
    return (2 * np.arange(n) + 1.0) / max(n, 1) - 1
