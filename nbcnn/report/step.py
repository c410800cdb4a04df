"""A training step of any network, on random targets: for timings, which do not depend on what is learned."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import numpy as np

from nbcnn.model import Model
from nbcnn.optim import SGD
from nbcnn.passes.specialize import specialize
from nbcnn.trainer import Trainer

__all__ = ["RandomStep"]


class RandomStep:
    """One optimization step a call, always on the same batch; returns the loss.

    Batch norms use batch statistics, dropout is on, every weight that training changes is trained by SGD with
    momentum. The loss is cross-entropy where the first output is (N, classes), squared error elsewhere. The learning
    rate is 0, so that the loss stays what it is; a step does the same work with any.
    """

    def __init__(self, model: Model, feeds: Mapping[str, np.ndarray], seed: int = 0) -> None:
        shapes = {name: (array.shape, array.dtype) for name, array in feeds.items()}
        whole = specialize(model.graph, shapes, model.dtype)
        output = whole.outputs[0]
        rng = np.random.default_rng(seed)
        if len(output.dims) == 2 and output.dims[1] > 1:
            self.loss = "cross_entropy"
            self.target = rng.integers(0, output.dims[1], output.dims[0])
        else:
            self.loss = "squared_error"
            self.target = rng.standard_normal(output.dims).astype(model.dtype)
        self.feeds = dict(feeds)
        optimizer = SGD(lr=0.0, momentum=0.9)
        self.trainer = Trainer(model, self.loss, optimizer, output=model.graph.outputs[0].name)
        if self.trainer.scale is not None:
            self.trainer.scale.patience = sys.maxsize

    def __call__(self) -> float:
        """Steps that are skipped, because gradients in float16 overflow, are repeated: they do less than others. The
        factor of the loss is never raised again, so that only the first call has any.
        """
        done = self.trainer.steps_done
        while self.trainer.steps_done == done:
            loss = self.trainer.step(self.feeds, self.target)
        return loss
