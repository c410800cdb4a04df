"""Random networks of supported operators, here and in onnxruntime. Ends with 1 where one differs.

A network is a function of the seed and its number alone. Its nodes are drawn one after the other; each reads values
that are there already, so that branches, joins, values with several readers and outputs inside come about.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.options import add_out, finish, start

__all__ = ["Network", "configure", "network", "problem", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    add_out(parser, "random-graphs")
    parser.add_argument("--graphs", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first network")


def run(args: argparse.Namespace) -> int:
    machine = start(args)
    wrong, used = [], Counter[str]()
    for number in range(args.first, args.first + args.graphs):
        made = network(args.seed, number)
        used.update(node.op_type for node in made.nodes)
        found = problem(made)
        if found:
            wrong.append({"graph": number, "problem": found})
            print(f"graph {number}: {found}", file=sys.stderr, flush=True)
    print(f"{args.graphs} graphs of {sum(used.values())} nodes, {len(used)} operators: {len(wrong)} differ")
    finish(args, machine, [{"graphs": args.graphs, "operators": dict(used.most_common())}, *wrong])
    return 1 if wrong else 0


class Network:
    """Grows node by node. values: name -> shape, all float32; the first axis is the batch."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.nodes: list[onnx.NodeProto] = []
        self.arrays: dict[str, np.ndarray] = {}
        channels, height, width = (int(n) for n in rng.integers(1, 8, 3))
        self.batch = int(rng.integers(1, 4))
        self.values = {"x": (self.batch, channels, height, width)}

    def pick(self, rank: int | None = None) -> str | None:
        """A value, of this rank where one is asked for, rather a recent one."""
        names = [name for name, shape in self.values.items() if rank is None or len(shape) == rank]
        if not names:
            return None
        return names[-min(int(self.rng.geometric(0.4)), len(names))]

    def integer(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def weight(self, *shape: int, low: float = -0.7, high: float = 0.7) -> str:
        return self.store(self.rng.uniform(low, high, shape).astype(np.float32))

    def store(self, array: np.ndarray) -> str:
        name = f"w{len(self.arrays)}"
        self.arrays[name] = array
        return name

    def add(self, op: str, inputs: list[str], shape: tuple[int, ...], **attrs: object) -> None:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], f"{op} {name}", **attrs))
        self.values[name] = shape

    def model(self) -> onnx.ModelProto:
        """With the last value and some others as outputs."""
        names = [n for n in list(self.values)[1:-1] if self.rng.random() < 0.15] + list(self.values)[-1:]
        infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, self.values[name]) for name in ("x", *names)]
        weights = [numpy_helper.from_array(array, name) for name, array in self.arrays.items()]
        graph = helper.make_graph(self.nodes, "random", infos[:1], infos[1:], weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def convolution(g: Network) -> None:
    x = g.pick(4)
    assert x is not None
    n, c, h, w = g.values[x]
    kernel, stride, dilation = (g.integer(1, 3), g.integer(1, 3)), g.integer(1, 2), g.integer(1, 2)
    pads = [g.integer(0, 2) for _ in range(4)]
    group = c if g.rng.random() < 0.3 else 1
    filters = group * g.integer(1, 4) if group > 1 else g.integer(1, 20)
    sizes = [
        (size + pads[i] + pads[i + 2] - dilation * (kernel[i] - 1) - 1) // stride + 1 for i, size in enumerate((h, w))
    ]
    if min(sizes) < 1:
        return
    inputs = [x, g.weight(filters, c // group, *kernel)] + [g.weight(filters)] * int(g.rng.random() < 0.5)
    g.add("Conv", inputs, (n, filters, *sizes), pads=pads, strides=[stride] * 2, dilations=[dilation] * 2, group=group)


def transposed(g: Network) -> None:
    x = g.pick(4)
    assert x is not None
    n, c, h, w = g.values[x]
    kernel, stride = g.integer(1, 3), g.integer(1, 2)
    if max(h, w) > 20:
        return
    filters = g.integer(1, 6)
    shape = (n, filters, (h - 1) * stride + kernel, (w - 1) * stride + kernel)
    g.add("ConvTranspose", [x, g.weight(c, filters, kernel, kernel)], shape, strides=[stride] * 2)


def pool(g: Network) -> None:
    x = g.pick(4)
    assert x is not None
    n, c, h, w = g.values[x]
    kernel, stride = g.integer(1, 3), g.integer(1, 2)
    pad = g.integer(0, kernel // 2)
    sizes = [(size + 2 * pad - kernel) // stride + 1 for size in (h, w)]
    if min(sizes) < 1:
        return
    op = str(g.rng.choice(["MaxPool", "AveragePool"]))
    g.add(op, [x], (n, c, *sizes), kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)


def global_pool(g: Network) -> None:
    x = g.pick(4)
    assert x is not None
    g.add(str(g.rng.choice(["GlobalAveragePool", "GlobalMaxPool"])), [x], (*g.values[x][:2], 1, 1))


UNARY = ("Relu", "Sigmoid", "Tanh", "Abs", "Neg", "Exp", "Softplus", "Elu", "LeakyRelu", "HardSwish", "HardSigmoid")
UNARY += ("Identity", "Floor", "Erf", "Sin", "Cos", "Softsign", "Selu", "Dropout", "Ceil", "Sign")


def unary(g: Network) -> None:
    x = g.pick()
    assert x is not None
    g.add(str(g.rng.choice(UNARY)), [x], g.values[x])


def binary(g: Network) -> None:
    x = g.pick()
    assert x is not None
    shape, op = g.values[x], str(g.rng.choice(["Add", "Sub", "Mul", "Max", "Min"]))
    same = [name for name, other in g.values.items() if other == shape]
    if g.rng.random() < 0.6:
        g.add(op, [x, str(g.rng.choice(same))], shape)
    else:
        other = [d if g.rng.random() < 0.5 else 1 for d in shape[g.integer(0, len(shape) - 1) :]]
        inputs = [x, g.weight(*other)]
        g.add(op, inputs if g.rng.random() < 0.7 else inputs[::-1], shape)


def norm(g: Network) -> None:
    x = g.pick()
    assert x is not None
    shape = g.values[x]
    if len(shape) < 2:
        return
    c = shape[1]
    positive = {"low": 0.5, "high": 1.5}
    kind = g.rng.random()
    if kind < 0.5:
        inputs = [x, g.weight(c), g.weight(c), g.weight(c), g.weight(c, **positive)]
        g.add("BatchNormalization", inputs, shape)
    elif kind < 0.7:
        g.add("LayerNormalization", [x, g.weight(shape[-1]), g.weight(shape[-1])], shape, axis=-1)
    elif kind < 0.85 and len(shape) == 4 and shape[2] * shape[3] > 1:
        g.add("InstanceNormalization", [x, g.weight(c), g.weight(c)], shape)
    else:
        g.add(str(g.rng.choice(["Softmax", "LogSoftmax"])), [x], shape, axis=g.integer(1, len(shape) - 1))


def join(g: Network) -> None:
    x = g.pick()
    assert x is not None
    shape = g.values[x]
    axis = g.integer(1, len(shape) - 1) if len(shape) > 1 else 0
    rest = shape[:axis] + shape[axis + 1 :]
    fits = [n for n, s in g.values.items() if len(s) == len(shape) and s[:axis] + s[axis + 1 :] == rest]
    names = [x, str(g.rng.choice(fits))]
    total = sum(g.values[name][axis] for name in names)
    if total <= 40:
        g.add("Concat", names, (*shape[:axis], total, *shape[axis + 1 :]), axis=axis)


def move(g: Network) -> None:
    x = g.pick()
    assert x is not None
    shape = g.values[x]
    kind = g.rng.random()
    if kind < 0.35 and len(shape) > 2:
        perm = [0, *(1 + int(i) for i in g.rng.permutation(len(shape) - 1))]
        g.add("Transpose", [x], tuple(shape[i] for i in perm), perm=perm)
    elif kind < 0.5 and len(shape) > 2:
        g.add("Flatten", [x], (shape[0], int(np.prod(shape[1:]))), axis=1)
    elif kind < 0.7 and len(shape) == 4:
        target = (shape[0], shape[1] * shape[2], shape[3])
        g.add("Reshape", [x, g.store(np.array([0, -1, shape[3]]))], target)
    elif kind < 0.85:
        axis = g.integer(0, len(shape))
        if len(shape) < 5 and axis > 0:
            g.add("Unsqueeze", [x, g.store(np.array([axis]))], (*shape[:axis], 1, *shape[axis:]))
    else:
        axis = g.integer(0, len(shape) - 1)
        size = shape[axis]
        begin = g.integer(0, size - 1)
        end = g.integer(begin + 1, size)
        arrays = [g.store(np.array([number])) for number in (begin, end, axis)]
        g.add("Slice", [x, *arrays], (*shape[:axis], end - begin, *shape[axis + 1 :]))


def enlarge(g: Network) -> None:
    x = g.pick(4)
    assert x is not None
    n, c, h, w = g.values[x]
    if max(h, w) > 20:
        return
    if g.rng.random() < 0.5:
        pads = [0, 0, *(g.integer(0, 2) for _ in range(2)), 0, 0, *(g.integer(0, 2) for _ in range(2))]
        g.add("Pad", [x, g.store(np.array(pads))], (n, c, h + pads[2] + pads[6], w + pads[3] + pads[7]))
    else:
        scales = np.array([1, 1, 2, 2], np.float32)
        mode = str(g.rng.choice(["nearest", "linear"]))
        rule = "asymmetric" if mode == "nearest" else "half_pixel"
        shape = (n, c, 2 * h, 2 * w)
        more = {"nearest_mode": "floor"} if mode == "nearest" else {}
        g.add("Resize", [x, "", g.store(scales)], shape, mode=mode, coordinate_transformation_mode=rule, **more)


def reduce(g: Network) -> None:
    x = g.pick()
    assert x is not None
    shape = g.values[x]
    if len(shape) < 2:
        return
    axis = g.integer(1, len(shape) - 1)
    keep = g.integer(0, 1)
    inner = (1,) * keep
    op = str(g.rng.choice(["ReduceMean", "ReduceMax", "ReduceSum", "ReduceL2", "ReduceMin"]))
    axes = g.store(np.array([axis]))
    g.add(op, [x, axes], (*shape[:axis], *inner, *shape[axis + 1 :]), keepdims=keep)


def product(g: Network) -> None:
    x = g.pick()
    assert x is not None
    shape = g.values[x]
    width = g.integer(1, 20)
    if len(shape) == 2 and g.rng.random() < 0.6:
        g.add("Gemm", [x, g.weight(width, shape[1]), g.weight(width)], (shape[0], width), transB=1)
    elif len(shape) >= 2:
        g.add("MatMul", [x, g.weight(shape[-1], width)], (*shape[:-1], width))


KINDS: tuple[Callable[[Network], None], ...] = (
    convolution, convolution, convolution, transposed, pool, global_pool, unary, unary, unary, binary, binary, norm,
    join, move, move, enlarge, reduce, product,
)  # fmt: skip
LARGEST = 60_000
"""Elements; nothing grows from a larger value."""


def network(seed: int, number: int) -> Network:
    """The network of this number."""
    g = Network(np.random.default_rng([seed, number]))
    wanted = g.integer(2, 14)
    for _ in range(200):
        kind = KINDS[g.integer(0, len(KINDS) - 1)]
        if len(g.nodes) >= wanted:
            break
        kind(g)
        name = list(g.values)[-1]
        if np.prod(g.values[name]) > LARGEST:
            del g.values[name], g.nodes[-1]
    return g


def problem(g: Network) -> str:
    """In what the engine and onnxruntime differ, "" where they agree."""
    import onnxruntime

    import nbcnn

    model = g.model()
    x = g.rng.standard_normal(g.values["x"]).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # It fuses a Pad into a pool whose windows are no larger than the pads, and then refuses its own pool.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = session.run(None, {"x": x})
    try:
        found = nbcnn.load(model).run(None, {"x": x})
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    for info, got, want in zip(model.graph.output, found, wanted, strict=True):
        if got.shape != want.shape:
            return f"{info.name} has shape {got.shape}, not {want.shape}"
        limit = 1e-4 * max(1.0, float(np.abs(want[np.isfinite(want)]).max(initial=0.0)))
        if not np.allclose(got, want, rtol=1e-4, atol=limit, equal_nan=True):
            return f"{info.name} differs by {float(np.nanmax(np.abs(got - want))):.3g}, where {limit:.3g} is allowed"
    return ""
