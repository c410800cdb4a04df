"""Let what stands between DequantizeLinear and QuantizeLinear work on the integers themselves.

A value is *quantized* where DequantizeLinear makes it of bytes, with one scale and a known zero point. Rules, for a
node whose inputs are quantized and whose output only a QuantizeLinear with one scale reads, maybe behind a Relu:
1. signed bytes become unsigned ones, with a zero point that is larger by 128, where only such nodes see them;
2. Conv with quantized weights (one scale, or one for each output channel) and a bias of int32 becomes QLinearConv;
   Gemm and MatMul become QLinearMatMul;
3. Add of two values of one shape becomes QuantizedAdd, AveragePool QuantizedAveragePool, and a mean over all pixels
   QuantizedMean;
4. what only moves values (Reshape, Slice, Pad with zero, Concat ...) moves bytes, which are brought to the scale of the
   result by a table where scales differ; so does MaxPool, as larger bytes are larger numbers if the scale is positive.

Everything else stays, for tables.py or to be computed in floats. Of scales, only signs are read here; their values are
read when weights are prepared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbcnn.graph import Graph, Node
from nbcnn.ops.integer import PRODUCTS
from nbcnn.ops.pool import all_meet
from nbcnn.ops.quantized import BYTE

__all__ = ["fuse_quantized"]

MOVES = ("DepthToSpace", "Expand", "Flatten", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
"""Operators of one input whose elements are copied."""


@dataclass(frozen=True)
class _Quantized:
    """A value as bytes: their name, the name of their scale, and their zero point."""

    name: str
    scale: str
    zero: int


class _Fuser:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.producers = graph.producers()
        self.readers = graph.consumers()
        self.outputs = set(graph.output_names())
        self.sole = graph.sole_readers()
        self.before: dict[int, list[Node]] = {}

    # --- what is known of values

    def zero_at(self, node: Node, slot: int) -> int | None:
        """The one zero point that is this input; None where it is not known, not one, or beside more than one scale."""
        if self.graph.values[node.inputs[slot - 1]].size != 1:
            return None
        if not node.input(slot):
            return 0
        array = self.graph.initializers.get(node.inputs[slot])
        return int(array.reshape(-1)[0]) if array is not None and array.size == 1 else None

    def zero_of(self, node: Node) -> int | None:
        """That of a Quantize- or DequantizeLinear."""
        return self.zero_at(node, 2)

    def quantized(self, name: str) -> _Quantized | None:
        """A value as unsigned bytes, if it is made of such."""
        node = self.producers.get(name)
        if node is None or node.op != "DequantizeLinear":
            return None
        zero = self.zero_of(node)
        if zero is None or self.graph.values[node.inputs[0]].dtype != BYTE:
            return None
        return _Quantized(node.inputs[0], node.inputs[1], zero)

    def result(self, node: Node) -> tuple[_Quantized, Node, dict[str, float]] | None:
        """What a node's output is quantized to, the QuantizeLinear, and what it is held between."""
        reader, low = self.sole.get(node.outputs[0]), -math.inf
        if reader is not None and (reader.op == "Relu" or _is_relu(reader)):
            reader, low = self.sole.get(reader.outputs[0]), 0.0
        if reader is None or reader.op != "QuantizeLinear":
            return None
        zero = self.zero_of(reader)
        if zero is None or reader.attrs["to"] != BYTE:
            return None
        bounds = {"low": max(low, float(-zero)), "high": float(255 - zero)}
        return _Quantized(reader.outputs[0], reader.inputs[1], zero), reader, bounds

    def constant(self, hint: str, array: np.ndarray) -> str:
        name = self.graph.new_value(hint, array.dtype, array.shape)
        self.graph.initializers[name] = array
        return name

    # --- rules

    def unsign(self) -> None:
        """Rule 1."""
        for node in self.graph.nodes:
            name = node.outputs[0]
            if node.op not in (*PRODUCTS, "QuantizeLinear") or node.attrs["to"] != np.int8 or name in self.outputs:
                continue
            made = [(node, 2 if node.op == "QuantizeLinear" else PRODUCTS[node.op].y_zero)]
            slots = made + [(reader, _zero_slot(reader, name)) for reader in self.readers.get(name, [])]
            if any(slot is None or self.zero_at(n, slot) is None for n, slot in slots):
                continue
            for n, slot in slots:
                assert slot is not None
                zero = self.constant(f"{name}.zero", np.array((self.zero_at(n, slot) or 0) + 128, BYTE))
                n.inputs += [""] * (slot + 1 - len(n.inputs))
                n.inputs[slot] = zero
            node.attrs = node.attrs | {"to": BYTE}
            if "zero" in node.attrs:
                node.attrs["zero"] += 128
            self.graph.values[name].dtype = BYTE

    def replace(self, quantize: Node, made: list[Node]) -> None:
        """Let these nodes stand for a QuantizeLinear; what it read is pruned."""
        self.before[id(quantize)] = made

    def product(self, node: Node) -> None:
        """Rule 2."""
        x, found = self.quantized(node.inputs[0]), self.result(node)
        weights = self.producers.get(node.inputs[1])
        if x is None or found is None or weights is None or weights.op != "DequantizeLinear":
            return
        y, quantize, bounds = found
        w, w_scale, w_zero = weights.inputs[0], weights.inputs[1], weights.input(2)
        values = self.graph.values
        attrs = dict(node.attrs)
        if values[w].dtype not in (np.dtype(np.int8), BYTE) or attrs.get("transA") or attrs.get("alpha", 1.0) != 1.0:
            return
        matrix = node.op != "Conv"
        axis = 0 if not matrix or attrs.get("transB") else len(values[w].dims) - 1
        if values[w_scale].size > 1 and weights.attrs["axis"] != axis:
            return
        bias = self.bias(node, x.scale, w_scale)
        if bias is None or (matrix and len(values[w].dims) != 2):
            return
        if not w_zero:
            w_zero = self.constant(f"{w}.zero", np.zeros((), values[w].dtype))
        x_zero, y_zero = (self.constant(f"{q.name}.zero", np.array(q.zero, BYTE)) for q in (x, y))
        inputs = [x.name, x.scale, x_zero, w, w_scale, w_zero, y.scale, y_zero, *([bias] if bias else [])]
        op = "QLinearMatMul" if matrix else "QLinearConv"
        kept: dict[str, Any] = {k: attrs[k] for k in ("group", "strides", "pads", "dilations") if k in attrs}
        if attrs.get("transB"):
            kept["transB"] = True
        self.replace(quantize, [Node(op, inputs, [y.name], kept | {"to": BYTE, "zero": y.zero} | bounds, node.name)])

    def bias(self, node: Node, x_scale: str, w_scale: str) -> str | None:
        """The int32 that are added to the sums; "" for none, None where there is something else."""
        if not node.input(2):
            return ""
        bias, arrays = self.producers.get(node.inputs[2]), self.graph.initializers
        if bias is None or bias.op != "DequantizeLinear" or node.attrs.get("beta", 1.0) != 1.0:
            return None
        value = self.graph.values[bias.inputs[0]]
        if (
            value.dtype != np.int32
            or len(value.dims) != 1
            or (self.graph.values[bias.inputs[1]].size == 1 and self.zero_of(bias) != 0)
        ):
            return None
        if not all(name in arrays for name in (bias.inputs[1], x_scale, w_scale)):
            return None
        product = arrays[x_scale].astype(np.float64).reshape(-1) * arrays[w_scale].astype(np.float64).reshape(-1)
        return bias.inputs[0] if np.allclose(arrays[bias.inputs[1]].astype(np.float64), product, rtol=1e-5) else None

    def add(self, node: Node) -> None:
        """Rule 3."""
        a, b, found = self.quantized(node.inputs[0]), self.quantized(node.inputs[1]), self.result(node)
        values = self.graph.values
        if a is None or b is None or found is None or values[node.inputs[0]].dims != values[node.inputs[1]].dims:
            return
        y, quantize, bounds = found
        inputs = [a.name, b.name, a.scale, b.scale, y.scale]
        attrs = {"zeros": (a.zero, b.zero, y.zero)} | bounds
        self.replace(quantize, [Node("QuantizedAdd", inputs, [y.name], attrs, node.name)])

    def mean(self, node: Node) -> None:
        """Rule 3."""
        x, found = self.quantized(node.inputs[0]), self.result(node)
        if x is None or found is None or not self.graph.values[x.name].size:
            return
        y, quantize, bounds = found
        op, attrs = "QuantizedMean", {"zeros": (x.zero, y.zero)} | bounds
        if not self.covers_all(node):
            op, attrs = "QuantizedAveragePool", attrs | {k: node.attrs[k] for k in ("window", "include_pad")}
        self.replace(quantize, [Node(op, [x.name, x.scale, y.scale], [y.name], attrs, node.name)])

    def covers_all(self, node: Node) -> bool:
        """Whether a pool has one window, which is the picture."""
        x, y = self.graph.values[node.inputs[0]], self.graph.values[node.outputs[0]]
        win = node.attrs["window"]
        no_pads = not any(win.begins) and not any(win.ends)
        return math.prod(y.dims[2:]) == 1 and no_pads and win.kernel == x.dims[2:]

    def largest(self, node: Node) -> None:
        """Rule 4. Without indices, and where every window has a pixel: the maximum of none is below all numbers."""
        dequantize, arrays = self.producers.get(node.inputs[0]), self.graph.initializers
        scale = None if dequantize is None or len(dequantize.inputs) < 2 else arrays.get(dequantize.inputs[1])
        if scale is not None and (scale > 0).all() and not node.output(1) and all_meet(node.attrs["window"]):
            self.move(node)

    def move(self, node: Node) -> None:
        """Rule 4."""
        count = len(node.inputs) if node.op == "Concat" else 1
        given, found = [self.quantized(name) for name in node.inputs[:count]], self.result(node)
        if found is None or (node.op == "Pad" and node.attrs.get("value", 0) != 0):
            return
        y, quantize, bounds = found
        made: list[Node] = []
        same = count == 1 and given[0] is not None and self.is_same(given[0], y, bounds)
        inputs = []
        for x in given:
            if x is None:
                return
            inputs.append(x.name if count == 1 else self.brought(x, y, bounds, made))
        values = self.graph.values
        moved = y.name if same or count > 1 else self.graph.new_value(y.name, BYTE, values[node.outputs[0]].dims)
        attrs = dict(node.attrs)
        if node.op == "Pad":
            attrs["value"] = given[0].zero if given[0] else 0
        made.append(Node(node.op, [*inputs, *node.inputs[count:]], [moved], attrs, node.name))
        if moved != y.name:
            assert given[0] is not None
            self.table(_Quantized(moved, given[0].scale, given[0].zero), y, bounds, y.name, made)
        self.replace(quantize, made)

    def is_same(self, x: _Quantized, y: _Quantized, bounds: dict[str, float]) -> bool:
        whole = bounds["low"] == -y.zero
        return x.scale == y.scale and x.zero == y.zero and whole

    def brought(self, x: _Quantized, y: _Quantized, bounds: dict[str, float], made: list[Node]) -> str:
        """The name under which bytes lie in the quantization of y."""
        if self.is_same(x, y, bounds):
            return x.name
        name = self.graph.new_value(f"{x.name}.brought", BYTE, self.graph.values[x.name].dims)
        self.table(x, y, bounds, name, made)
        return name

    def table(self, x: _Quantized, y: _Quantized, bounds: dict[str, float], name: str, made: list[Node]) -> None:
        table = self.graph.new_value(f"{name}.table", BYTE, (256,), "packed")
        made.append(Node("RequantizeTable", [x.scale, y.scale], [table], {"zeros": (x.zero, y.zero)} | bounds))
        made.append(Node("LookUp", [x.name, table], [name], {}))


def _zero_slot(node: Node, name: str) -> int | None:
    """Which input is the zero point of the first one, if that alone is `name`."""
    known = node.op in ("DequantizeLinear", "QLinearConv", "QLinearMatMul")
    return 2 if known and node.inputs[0] == name and name not in node.inputs[1:] else None


def _is_relu(node: Node) -> bool:
    return node.op == "Clip" and node.attrs.get("low") == 0 and node.attrs.get("high") == math.inf


def fuse_quantized(graph: Graph) -> None:
    if not any(node.op in ("QuantizeLinear", "QLinearConv") for node in graph.nodes):
        return
    fuser = _Fuser(graph)
    fuser.unsign()
    rules = {"Add": fuser.add, "AveragePool": fuser.mean, "GlobalAveragePool": fuser.mean, "Concat": fuser.move}
    rules |= {"MaxPool": fuser.largest, "GlobalMaxPool": fuser.largest}
    rules |= dict.fromkeys(("Conv", "Gemm", "MatMul"), fuser.product) | dict.fromkeys((*MOVES, "Pad"), fuser.move)
    for node in graph.nodes:
        if node.op in rules:
            rules[node.op](node)
    graph.nodes = [made for node in graph.nodes for made in fuser.before.get(id(node), [node])]
    graph.prune()
