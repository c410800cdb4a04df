"""Random wirings of the operators that passes merge, move and drop: nothing of that may change a result.

Outputs are compared with onnxruntime's, weight gradients with finite differences of the loss in float64.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from networks import assert_close, onnxruntime_run, proto
from onnx import helper

import nbcnn

SIZE = 6
KINDS = ["conv", "pointwise", "norm", "relu", "clip", "add", "smooth", "move", "scale", "pass"]
KINDS += ["shared", "multiply", "join", "pool", "product"]


class Wiring:
    """Grows a network node by node; every value has shape (N, 4, SIZE, SIZE)."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.values = ["x"]
        self.nodes: list[onnx.NodeProto] = []
        self.arrays: dict[str, np.ndarray] = {}

    def pick(self) -> str:
        """An earlier value, mostly a recent one, so that chains come about which a pass would fuse."""
        back = min(int(self.rng.geometric(0.6)), len(self.values))
        return self.values[-back]

    def weight(self, *shape: int, low: float = -0.4, high: float = 0.4) -> str:
        name = f"w{len(self.arrays)}"
        self.arrays[name] = self.rng.uniform(low, high, shape).astype(np.float32)
        return name

    def add(self, op: str, *inputs: str, **attrs: object) -> None:
        out = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [out], f"{op} {out}", **attrs))
        self.values.append(out)

    def grow(self) -> None:
        kind = self.rng.choice(KINDS)
        x = self.pick()
        if kind == "conv":
            bias = [self.weight(4)] if self.rng.random() < 0.5 else []
            group = int(self.rng.choice([1, 1, 2, 4]))
            self.add("Conv", x, self.weight(4, 4 // group, 3, 3), *bias, pads=[1, 1, 1, 1], group=group)
        elif kind == "pointwise":
            self.add("Conv", x, self.weight(4, 4, 1, 1))
        elif kind == "norm":
            positive = {"low": 0.5, "high": 1.5}
            self.add(
                "BatchNormalization", x, self.weight(4, **positive), *(self.weight(4) for _ in range(2)),
                self.weight(4, **positive),
            )  # fmt: skip
        elif kind == "relu":
            self.add("Relu", x)
        elif kind == "clip":
            bounds = [f"bound{len(self.arrays)}.{end}" for end in ("low", "high")]
            self.arrays |= {name: np.array(v, np.float32) for name, v in zip(bounds, (-0.3, 0.6), strict=True)}
            self.add("Clip", x, *bounds)
        elif kind == "add":
            self.add("Add", x, self.pick())
        elif kind == "scale":
            self.add("Add", x, self.weight(4, 1, 1))
        elif kind == "smooth":
            self.add(str(self.rng.choice(["Sigmoid", "Tanh"])), x)
        elif kind == "shared":
            known = [name for name, array in self.arrays.items() if array.shape == (4, 4, 1, 1)]
            self.add("Conv", x, str(self.rng.choice(known)) if known else self.weight(4, 4, 1, 1))
        elif kind == "multiply":
            self.add("Mul", x, self.pick())
        elif kind == "join":
            self.add("Concat", x, self.pick(), axis=1)
            self.add("Conv", self.values.pop(), self.weight(4, 8, 1, 1))
        elif kind == "pool":
            self.add("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1])
        elif kind == "product":
            self.add("MatMul", x, self.weight(SIZE, SIZE))
        elif kind == "move":
            self.add("Transpose", x, perm=[0, 1, 3, 2])
        else:
            self.add(str(self.rng.choice(["Identity", "Dropout"])), x)

    def model(self, outputs: int) -> onnx.ModelProto:
        """With the last value and some of the others as outputs."""
        others = [v for v in self.values[1:-1] if self.rng.random() < 0.3][: outputs - 1]
        shape = ["N", 4, SIZE, SIZE]
        found = {name: shape for name in [*others, self.values[-1]]}
        return proto(self.nodes, {"x": shape}, found, self.arrays)


@pytest.mark.parametrize("seed", range(40))
def test_inference(seed: int) -> None:
    wiring = Wiring(seed)
    for _ in range(int(wiring.rng.integers(3, 16))):
        wiring.grow()
    source = wiring.model(outputs=3)
    x = wiring.rng.standard_normal((2, 4, SIZE, SIZE)).astype(np.float32)
    model = nbcnn.load(source)
    for got, want in zip(model.run(None, {"x": x}), onnxruntime_run(source, {"x": x}), strict=True):
        assert_close(got, want, 1e-5 * max(1.0, float(np.abs(want).max())))
    last = model.run([wiring.values[-1]], {"x": x})[0]
    assert_close(last, onnxruntime_run(source, {"x": x})[-1], 1e-5 * max(1.0, float(np.abs(last).max())))


@pytest.mark.parametrize("seed", range(100, 125))
def test_gradients(seed: int) -> None:
    """One step of plain gradient descent at rate 1 hands back the gradient; the loss falls by that much along it."""
    wiring = Wiring(seed)
    wiring.add("Conv", "x", wiring.weight(4, 4, 3, 3), pads=[1, 1, 1, 1])
    for _ in range(int(wiring.rng.integers(3, 14))):
        wiring.grow()
    wiring.add("Add", wiring.values[-1], "v0")
    source = wiring.model(outputs=1)
    x = wiring.rng.standard_normal((2, 4, SIZE, SIZE))
    t = wiring.rng.standard_normal((2, 4, SIZE, SIZE))
    kinds = ("BatchNormalization", "Dropout") if seed % 2 else ("Dropout",)
    frozen = [n.name for n in source.graph.node if n.op_type in kinds]

    def trainer(model: nbcnn.Model, lr: float) -> nbcnn.Trainer:
        return nbcnn.Trainer(model, "squared_error", nbcnn.SGD(lr=lr), freeze=frozen)

    model = nbcnn.load(source, dtype="float64")
    start = {name: p.value for name, p in model.parameters.items()}
    steps = trainer(model, 1.0)
    first = steps.step(x, t)
    gradient = {name: start[name] - model.parameters[name].value for name in steps.trained}
    assert any(g.any() for g in gradient.values())
    v = {name: wiring.rng.standard_normal(g.shape) if g.any() else np.zeros(g.shape) for name, g in gradient.items()}
    still = trainer(model, 0.0)

    def loss(step: float) -> float:
        for name, direction in v.items():
            model.parameters[name].value = start[name] + step * direction
        return still.step(x, t)

    assert loss(0.0) == pytest.approx(first, abs=1e-12)
    eps = 1e-6
    slope = (loss(eps) - loss(-eps)) / (2 * eps)
    want = sum(float((gradient[name] * v[name]).sum()) for name in v)
    assert want == pytest.approx(slope, abs=2e-6 * max(1.0, abs(slope)))
