"""Arithmetic of one node: what it computes and what it must move.

Counted is what the operator's definition asks for, whatever algorithm computes it: a Winograd convolution has the
operations of the direct one, and may so pass the machine's ceiling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

from nbcnn.graph import Node, Value

__all__ = ["Work", "group_of", "multiply_adds", "work"]

Values = Mapping[str, Value]


@dataclass(frozen=True)
class Work:
    """flops: floating-point operations, a multiply-add as two. bytes: every input, weight and output once, in the type
    that it is kept in.
    """

    flops: int
    bytes: int

    @property
    def intensity(self) -> float:
        """Operations for each byte."""
        return self.flops / self.bytes if self.bytes else 0.0


@dataclass(frozen=True)
class _Product:
    """macs: products, each with its addition. weights: elements of the weight, without the padding of its panels, or
    those of each weight, by name.
    """

    macs: int
    weights: int | Mapping[str, int]


def multiply_adds(node: Node, values: Values) -> int:
    """Products of the node, each with its addition; padding is counted as if it were pixels.

    node: of a lowered graph. 0 for everything but convolutions, matrix products and their gradients.
    """
    found = _product(node, values)
    return found.macs if found else 0


def work(node: Node, values: Values) -> Work:
    """Operations and unavoidable bytes of a lowered graph's node, forward or backward."""
    product = _product(node, values)
    operations = 2 * product.macs if product else _operations(node, values)
    names = dict.fromkeys(filter(None, (*node.inputs, *node.outputs)))
    moved = sum(_bytes(values[name], product) for name in names)
    if node.attrs.get("effect"):  # what it updates, a parameter and its states, is written too
        moved += sum(_bytes(values[name], None) for name in (*node.inputs[:1], *node.inputs[2:-1]))
    return Work(operations, moved)


def _bytes(value: Value, product: _Product | None) -> int:
    assert value.stored is not None
    elements = value.size
    if product and value.layout == "packed":
        elements = product.weights if isinstance(product.weights, int) else product.weights[value.name]
    return elements * value.stored.itemsize


# --- products


def _product(node: Node, values: Values) -> _Product | None:
    rule = PRODUCTS.get(node.op)
    return rule(node, values) if rule else None


def _convolution(small: int, wide: int, kernel_of: tuple[str, int]) -> Callable[[Node, Values], _Product]:
    """The rule for an operator where every element of one array meets a window of another.

    small: where the array of elements lies among inputs (from 0) and outputs (-1); wide: the array of windows.
    kernel_of: "inputs" or "outputs", and an index: the weight, whose shape is read where it is not packed yet.
    """

    def rule(node: Node, values: Values) -> _Product:
        element, window_of = (values[(node.inputs + node.outputs[:1])[slot]] for slot in (small, wide))
        side, slot = kernel_of
        kernel = node.attrs["kernel"] if "kernel" in node.attrs else values[getattr(node, side)[slot]].dims[2:]
        taps = window_of.dims[1] // node.attrs.get("group", 1) * prod(kernel)
        results = element.size * prod(node.attrs.get("pool", ()))  # of which a fused pool has kept one each
        return _Product(results * taps, element.dims[1] * taps)

    return rule


def _gemm(node: Node, values: Values) -> _Product:
    a, y = values[node.inputs[0]], values[node.outputs[0]]
    depth = a.dims[0 if node.attrs.get("transA") else 1]
    return _Product(y.size * depth, depth * y.dims[1])


def _gemm_grad(node: Node, values: Values) -> _Product:
    """GemmInputGrad: dY (M, N) -> dA (M, K); GemmWeightGrad: A (M, K), dY (M, N)."""
    wide, deep = (node.outputs[0], node.inputs[0]) if node.op == "GemmInputGrad" else (node.inputs[0], node.inputs[1])
    (rows, depth), (_, columns) = values[wide].dims, values[deep].dims
    return _Product(rows * depth * columns, depth * columns)


def _matmul(node: Node, values: Values) -> _Product:
    a = values[node.inputs[0]].dims
    depth = a[-2] if node.attrs.get("transA") and len(a) > 1 else a[-1]
    return _Product(values[node.outputs[0]].size * depth, 0)


def _inverted_residual(node: Node, values: Values) -> _Product:
    packings = node.attrs["packings"]
    weights = {node.inputs[slot]: p.groups * p.channels * p.taps * p.run for slot, p in packings.items()}
    return _Product(node.attrs["block"].multiply_adds, weights)


PRODUCTS: dict[str, Callable[[Node, Values], _Product]] = {
    "BatchConv": _convolution(-1, 0, ("inputs", 1)),
    "BatchConvInputGrad": _convolution(0, -1, ("inputs", 1)),
    "BatchConvWeightGrad": _convolution(1, 0, ("outputs", 0)),
    "Conv": _convolution(-1, 0, ("inputs", 1)),
    "ConvInputGrad": _convolution(0, -1, ("inputs", 1)),
    "ConvWeightGrad": _convolution(1, 0, ("outputs", 0)),
    "ConvTranspose": _convolution(0, -1, ("inputs", 1)),
    "PlanesConv": _convolution(-1, 0, ("inputs", 1)),
    "InvertedResidual": _inverted_residual,
    "Gemm": _gemm,
    "GemmInputGrad": _gemm_grad,
    "GemmWeightGrad": _gemm_grad,
    "MatMul": _matmul,
}

# --- everything else

MOVES = (
    *("Concat", "ConcatGrad", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "Pad", "PadGrad", "Repeat"),
    *("Reshape", "Slice", "SliceGrad", "SpaceToDepth", "Split", "SplitGrad", "Squeeze", "ToLayout", "Transpose"),
    *("Unsqueeze", "Cast", "LossScale", "ToBatch", "FromBatch", "PackWeights", "UnpackWeights", "TransposeWeights"),
    *(
        "ChannelShuffle",
        "Compress",
        "EinsumDiagonal",
        "GatherAt",
        "GatherElements",
        "GatherND",
        "ReverseSequence",
        "Tile",
    ),
    *("Scatter", "ScatterElements", "ScatterND"),
)
"""Operators that compute nothing."""

POOLS = (
    *("MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool", "PoolGrad"),
    *("QuantizedAveragePool", "QuantizedMean"),
)

OPERATIONS = {
    "BatchNormalization": 2,
    "BatchNormalizationSums": 4,
    "BatchNormalizationInputGrad": 4,
    "Clip": 2,
    "Softmax": 4,
    "LogSoftmax": 4,
    "SoftmaxGrad": 4,
    "SoftmaxCrossEntropy": 5,
    "LRN": 4,
    "LRNGrad": 8,
    "ReduceL1": 2,
    "ReduceL2": 2,
    "ReduceLogSumExp": 4,
    "ReduceSumSquare": 2,
    "SGDUpdate": 4,
    "AdamUpdate": 12,
    "RunningAverage": 3,
}
"""Operations for each element of the larger of input and output; 1 for what is not listed."""
STATISTICS = 4
"""What mean and variance of a batch take besides."""


def _operations(node: Node, values: Values) -> int:
    if node.op in MOVES:
        return 0
    x = values[node.inputs[0]].size if node.input(0) else 0
    y = values[node.outputs[0]].size if node.output(0) else 0
    if node.op in POOLS and "window" in node.attrs:
        return min(x, y) * prod(node.attrs["window"].kernel)
    each = len(node.attrs["links"]) if node.op == "Chain" else OPERATIONS.get(node.op, 1)
    if node.op == "BatchNormalization" and node.attrs.get("training"):
        each += STATISTICS
    return max(x, y) * each


GROUPS = {
    "convolution": (
        *("Conv", "ConvInputGrad", "ConvWeightGrad"),
        *("BatchConv", "BatchConvInputGrad", "BatchConvWeightGrad", "PlanesConv", "InvertedResidual"),
    ),
    "transposed convolution": ("ConvTranspose",),
    "matrix product": ("Gemm", "GemmInputGrad", "GemmWeightGrad", "MatMul"),
    "normalization": ("BatchNormalization", "BatchNormalizationSums", "BatchNormalizationInputGrad", "LRN", "LRNGrad"),
    "pooling": POOLS,
    "movement": MOVES,
    "update": ("SGDUpdate", "AdamUpdate", "RunningAverage", "Unscale"),
}


def group_of(op: str) -> str:
    """What kind of work an operator does: a key of GROUPS, or "element by element"."""
    return next((name for name, ops in GROUPS.items() if op in ops), "element by element")
