"""The other side of training steps, PyTorch, at its defaults and on as many threads as ours. That of inference is in
nbcnn/report/peer.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import nn

__all__ = ["TorchStep", "torch_module"]


def torch_module(name: str, weights: Mapping[str, np.ndarray]) -> nn.Module:
    """A network of bench.torch_nets with copies of these weights; raises RuntimeError where a name or a shape does not
    fit.
    """
    import torch

    from bench.torch_nets import MODULES

    module = MODULES[name]()
    state = {key: torch.from_numpy(np.array(array)) for key, array in weights.items()}
    for key, value in module.state_dict().items():
        if key.endswith("num_batches_tracked"):  # a counter that ONNX does not have
            state[key] = value
    module.load_state_dict(state)
    return module


class TorchStep:
    """One training step a call, on the same batch each time: forward, cross-entropy, backward, SGD with momentum; the
    loss before it.

    x (N, C, H, W) float32, t (N,) int64. channels_last: the layout in which PyTorch keeps input and weights. Dropout is
    off: two sides with random numbers of their own could not be held against each other.
    """

    def __init__(
        self,
        name: str,
        weights: Mapping[str, np.ndarray],
        x: np.ndarray,
        t: np.ndarray,
        *,
        lr: float,
        momentum: float,
        threads: int,
        channels_last: bool,
    ) -> None:
        import torch

        torch.set_num_threads(threads)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self.module = torch_module(name, weights).to(memory_format=layout)  # type: ignore[call-overload]
        self.module.train()
        for part in self.module.modules():
            if isinstance(part, torch.nn.Dropout):
                part.eval()
        self.optimizer = torch.optim.SGD(self.module.parameters(), lr=lr, momentum=momentum)
        self.x = torch.from_numpy(x).contiguous(memory_format=layout)
        self.t = torch.from_numpy(t)

    def __call__(self) -> float:
        from torch.nn.functional import cross_entropy

        self.optimizer.zero_grad()
        loss = cross_entropy(self.module(self.x), self.t)
        loss.backward()
        self.optimizer.step()
        return float(loss.item())
