"""Compiling ahead of time what networks will need: those of a model, or of well-known networks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

import numpy as np

from nbcnn.compilation import compile_ahead
from nbcnn.errors import InputError
from nbcnn.graph import Graph, Node, Value
from nbcnn.model import Model
from nbcnn.optim import SGD, Adam
from nbcnn.plan import Plan
from nbcnn.trainer import Trainer

__all__ = ["model_plans", "standard_plans", "warm_up"]


def warm_up(plans: Iterable[Plan]) -> int:
    """Compile all that these plans lack, in several processes at once; returns how many kernels that was."""
    return compile_ahead(chain.from_iterable(plan.calls for plan in plans))


def model_plans(model: Model, shapes: Mapping[str, Sequence[int]], train: bool = False) -> Iterator[Plan]:
    """The plan of a run on inputs of these shapes, and that of a training step.

    The step is one of SGD with momentum on the cross-entropy of the first output, (N, classes, ...): what `nbcnn train`
    does unless told otherwise. Raises InputError where that output has no classes.
    """
    feeds = {v.name: np.zeros(shapes[v.name], v.dtype or model.dtype) for v in model.graph.inputs}
    plan = model.plan(feeds)
    yield plan
    if train:
        name, dims = model.graph.output_names()[0], plan.graph.outputs[0].dims
        if len(dims) < 2:
            raise InputError(f"output {name!r} of shape {list(dims)} holds no classes to be trained on")
        trainer = Trainer(model, output=name, optimizer=SGD(lr=0.01, momentum=0.9))
        yield trainer.plan(feeds, np.zeros((dims[0], *dims[2:]), np.int64))


RUNS = (("lenet", 1), ("lenet", 32), ("lenet", 1000), ("resnet18", 1), ("resnet50", 1), ("googlenet", 1))
STEPS = (("lenet", 32), ("lenet", 1000), ("resnet18", 8), ("googlenet", 2), ("densenet121", 2))
"""Networks and batches that between them need what most others do: a small picture or a large one, few or many."""


def standard_plans() -> Iterator[Plan]:
    """Runs and training steps of well-known networks, and of a piece of a MobileNet."""
    from nbcnn import zoo

    for name, batch in RUNS:
        model = Model(zoo.graph_of(name))
        yield model.plan(_batch(model, batch))
    yield from model_plans(Model(_mobile_block("HardSwish")), {"input": (8, 16, 32, 32)}, train=True)
    yield from model_plans(Model(_mobile_block("Relu")), {"input": (1, 16, 160, 160)})
    for name, batch in STEPS:
        model = Model(zoo.graph_of(name))
        yield Trainer(model, optimizer=SGD(lr=0.01, momentum=0.9)).plan(_batch(model, batch), np.zeros(batch, np.int64))
    model = Model(zoo.graph_of("lenet"))
    yield Trainer(model, optimizer=Adam()).plan(_batch(model, 32), np.zeros(32, np.int64))


def _batch(model: Model, size: int) -> dict[str, np.ndarray]:
    (value,) = model.graph.inputs
    assert value.shape is not None
    return {value.name: np.zeros((size, *(d for d in value.shape[1:] if isinstance(d, int))), np.float32)}


def _mobile_block(activation: str) -> Graph:
    """A depthwise convolution and what surrounds it in MobileNets, which for Relu and a large picture becomes one
    kernel: input (N, 16, H, W) -> output (N, 10)."""
    graph = Graph("mobile", opset={"": 17})
    graph.initializers = {"w": np.zeros((16, 1, 3, 3), np.float32), "v": np.zeros((10, 16, 1, 1), np.float32)}
    graph.nodes = [
        Node("Conv", ["input", "w"], ["a"], {"group": 16, "pads": [1, 1, 1, 1]}),
        Node(activation, ["a"], ["b"]),
        Node("Conv", ["b", "v"], ["c"]),
        Node("GlobalAveragePool", ["c"], ["d"]),
        Node("Flatten", ["d"], ["output"]),
    ]
    graph.inputs = [Value("input", np.dtype(np.float32), ("N", 16, "H", "W"))]
    graph.outputs = [Value("output", np.dtype(np.float32), ("N", 10))]
    return graph
