"""The optimizers of ONNX's domain ai.onnx.preview.training, version 1: Adam, Adagrad, Momentum.

A file that holds its own training step has them as nodes. The trainer's own are in update.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbcnn.binder import Binder
from nbcnn.errors import ModelError
from nbcnn.graph import Node, Value
from nbcnn.kernels import opcodes
from nbcnn.ops.base import Facts, Op, Shaped, register
from nbcnn.ops.elementwise import need_float

DOMAIN = "ai.onnx.preview.training"


class _Optimizer(Op):
    """Inputs: rate R, number of steps made T, and n tensors each of: X, gradients G, and the states that it keeps.

    -> n each of: new X, and its new states. Normalized: attribute settings, by position as the kernel says.
    """

    since = 1
    differentiable = False
    code = 0
    states = 1
    defaults: tuple[tuple[str, float | None], ...] = ()
    """Attributes and their default values, in the order of the kernel's settings; None: it must be given."""

    def normalize(self, node: Node, facts: Facts) -> None:
        self.check(node, facts)
        facts.need_floats(node, range(2, len(node.inputs)))
        settings = []
        for name, default in self.defaults:
            value = node.attrs.get(name, default)
            if value is None:
                raise ModelError(f"{node.label}: the attribute {name} is missing")
            settings.append(float(value))
        node.attrs = {"settings": tuple(settings), "nesterov": node.attrs.get("mode") == "nesterov"}

    def check(self, node: Node, facts: Facts) -> None:
        tensors, each = node.inputs[2:], self.states + 2
        if not tensors or len(tensors) % each or len(node.outputs) != len(tensors) // each * (each - 1):
            raise ModelError(
                f"{node.label}: {len(node.inputs)} inputs and {len(node.outputs)} outputs are not {each} inputs and "
                f"{each - 1} outputs for each tensor, after R and T"
            )
        count = len(tensors) // each
        for index, name in enumerate(tensors):
            dims, wanted = facts.graph.values[name].dims, facts.graph.values[tensors[index % count]].dims
            if dims != wanted:
                raise ModelError(f"{node.label}: {name!r} has shape {dims}, not that of its tensor, {wanted}")

    def infer(self, node: Node, inputs: Sequence[Value | None]) -> list[Shaped]:
        count = len(node.outputs) // (self.states + 1)
        found = []
        for index, x in enumerate(inputs[2 : 2 + count], 2):
            assert x is not None
            found.append((need_float(node, x, index), x.dims))
        return found * (self.states + 1)

    def bind(self, node: Node, b: Binder) -> None:
        rate, steps, *tensors = (b.buffer(name) for name in node.inputs)
        count = len(node.outputs) // (self.states + 1)
        results = [b.buffer(name) for name in node.outputs]
        code = opcodes.NESTEROV if node.attrs["nesterov"] else self.code
        settings = (*node.attrs["settings"], 0.0, 0.0, 0.0)[:5]
        for k in range(count):
            given, made = tensors[k::count], results[k::count]
            given += [b.empty()] * (4 - len(given))
            made += [b.empty()] * (3 - len(made))
            if made[0].size:
                b.call("training_step", code, rate, steps, *given, *made, settings)


@register(f"{DOMAIN}.Adam")
class Adam(_Optimizer):
    """Kingma and Ba, arXiv:1412.6980. States: V, H, averages of gradients and of their squares."""

    code = opcodes.ADAM
    states = 2
    defaults = (
        ("norm_coefficient", 0.0),
        ("norm_coefficient_post", 0.0),
        ("alpha", float(np.float32(0.9))),
        ("beta", float(np.float32(0.999))),
        ("epsilon", 1e-6),
    )


@register(f"{DOMAIN}.Adagrad")
class Adagrad(_Optimizer):
    """Duchi et al., Journal of Machine Learning Research 12, 2011. State: H, the sum of squared gradients."""

    code = opcodes.ADAGRAD
    defaults = (("norm_coefficient", 0.0), ("decay_factor", 0.0), ("epsilon", 1e-6))


@register(f"{DOMAIN}.Momentum")
class Momentum(_Optimizer):
    """Gradient descent with momentum, mode "standard" or "nesterov". State: V, the sum of gradients that fades."""

    code = opcodes.MOMENTUM
    defaults = (("norm_coefficient", None), ("alpha", None), ("beta", None))

    def check(self, node: Node, facts: Facts) -> None:
        if node.attrs.get("mode") not in ("standard", "nesterov"):
            raise ModelError(f"{node.label}: mode {node.attrs.get('mode')!r} is neither 'standard' nor 'nesterov'")
        super().check(node, facts)
