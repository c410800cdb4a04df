"""Operators of onnxruntime's own (domain com.microsoft) that its quantization tool writes in the QOperator format.

Each is defined by standard ones, as a file defines functions: DequantizeLinear, the operator, QuantizeLinear. The
fuse_quantized pass then makes integer kernels of them.
"""

from __future__ import annotations

from nbcnn.graph import Function, Node

__all__ = ["definition"]

UNARY = {
    "QLinearAveragePool": "AveragePool",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearSigmoid": "Sigmoid",
    "QLinearSoftmax": "Softmax",
}
"""inputs: X, its scale and zero point, scale and zero point of Y."""
BINARY = {"QLinearAdd": "Add", "QLinearMul": "Mul"}
"""inputs: A, its scale and zero point, B, its scale and zero point, scale and zero point of Y."""
OWN = ("channels_last", "opset")
"""Attributes that the standard's operator does not have."""
OPSET = 13


def definition(node: Node) -> Function | None:
    """What a node of onnxruntime's does, by standard operators; None for one that is not known."""
    if node.domain != "com.microsoft" or node.attrs.get("channels_last", 0):
        return None
    inputs = [f"i{k}" for k in range(len(node.inputs))]
    if node.op in UNARY and len(inputs) in (4, 5):
        return _between(node, UNARY[node.op], [inputs[:3]], inputs[3:], inputs)
    if node.op in BINARY and len(inputs) in (7, 8):
        return _between(node, BINARY[node.op], [inputs[:3], inputs[3:6]], inputs[6:], inputs)
    if node.op == "QLinearConcat" and len(inputs) % 3 == 2:
        return _between(node, "Concat", [inputs[k : k + 3] for k in range(2, len(inputs), 3)], inputs[:2], inputs)
    if node.op == "QGemm" and len(inputs) == 9 and not node.attrs.get("transA", 0) and node.attrs.get("alpha", 1) == 1:
        order = [*inputs[:6], inputs[7], inputs[8], inputs[6]]
        attrs = {"transB": node.attrs.get("transB", 0)}
        return Function(inputs, ["y"], {}, [Node("QLinearMatMul", order, ["y"], attrs)], {"": OPSET})
    return None


def _between(node: Node, op: str, given: list[list[str]], result: list[str], inputs: list[str]) -> Function:
    """The operator on dequantized values, quantized again. given: for each, bytes, scale and zero point."""
    nodes = [Node("DequantizeLinear", triple, [f"x{k}"]) for k, triple in enumerate(given)]
    attrs = {name: value for name, value in node.attrs.items() if name not in OWN}
    nodes.append(Node(op, [f"x{k}" for k in range(len(given))], ["r"], attrs))
    nodes.append(Node("QuantizeLinear", ["r", *result], ["y"]))
    return Function(inputs, ["y"], {}, nodes, {"": int(node.attrs.get("opset", OPSET))})
