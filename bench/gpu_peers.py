"""The other side on a GPU: PyTorch, whose convolutions are cuDNN's, in the layout and precision that are asked for.

Where PyTorch has no GPU (Numba's simulator then stands for ours) it computes on the processor, so that everything but
the times can be tried there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from bench.gpu_timing import REPEAT, WARM, GpuSide
from bench.layers import Layer
from bench.peers import torch_module
from nbcnn.errors import DeviceError

__all__ = ["FACTOR", "LAYOUTS", "TorchConv", "TorchNetwork", "TorchStep", "check_torch", "forget", "precision"]

LAYOUTS = {"torch": torch.contiguous_format, "torch channels_last": torch.channels_last}
ON_GPU = torch.cuda.is_available()
WHERE = torch.device("cuda" if ON_GPU else "cpu")
HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}
FACTOR = 2.0**10
"""Of the loss in float16, at first: so small that no step of a benchmark is skipped."""


def check_torch() -> None:
    """Raise DeviceError where our side has a GPU and PyTorch has none."""
    from nbcnn.kernels.cuda._cuda import TARGET

    if TARGET == "gpu" and not ON_GPU:
        raise DeviceError(f"PyTorch {torch.__version__} cannot use the GPU, so there is nothing to compare with")


@contextmanager
def precision(name: str, search: bool = True) -> Iterator[None]:
    """PyTorch's own settings: "tf32" lets cuDNN and cuBLAS use tensor cores for float32, the others do not. search: let
    cuDNN try its algorithms for the fastest.
    """
    allowed = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    torch.backends.cudnn.benchmark = search
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = allowed


def forget() -> None:
    """Give PyTorch's memory back to the GPU."""
    if ON_GPU:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def put(array: np.ndarray, layout: torch.memory_format = torch.contiguous_format) -> torch.Tensor:
    return torch.from_numpy(np.array(array)).to(WHERE).contiguous(memory_format=layout)


def side(name: str, work: Callable[[], Any], repeat: int = 1) -> GpuSide:
    """What `work` starts in PyTorch's stream; repeat: how often one call does what is asked for."""

    def spans(calls: int) -> list[float]:
        if not ON_GPU:
            clock = [perf_counter()]
            for _ in range(calls):
                work()
                clock.append(perf_counter())
            return [(b - a) / repeat for a, b in pairwise(clock)]
        events = [torch.cuda.Event(enable_timing=True) for _ in range(calls + 1)]
        events[0].record()
        for event in events[1:]:
            work()
            event.record()
        events[-1].synchronize()
        return [a.elapsed_time(b) / 1e3 / repeat for a, b in pairwise(events)]

    return GpuSide(name, spans)


def captured(name: str, work: Callable[[], Any], repeat: int = 1) -> GpuSide:
    """`repeat` times `work` as a CUDA graph; as it is where there is no GPU."""

    def all_of_them() -> None:
        for _ in range(repeat):
            work()

    if not ON_GPU:
        return side(name, all_of_them, repeat)
    apart = torch.cuda.Stream()
    apart.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(apart):  # as torch.cuda.graph asks for
        for _ in range(WARM):
            work()
    torch.cuda.current_stream().wait_stream(apart)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        all_of_them()
    return side(name, graph.replay, repeat)


def automatic(how: str) -> torch.autocast:
    """What a network runs under in a precision; of 16 bits, PyTorch chooses operator by operator. Weights are made so
    anew in each such context.
    """
    return torch.autocast(WHERE.type, HALVES.get(how), enabled=how in HALVES)


class TorchNetwork:
    """Inference of a network of bench.torch_nets. converted: its weights and x are given the type of 16 bits of the
    precision `how` once; else it runs under torch.autocast.
    """

    def __init__(
        self,
        name: str,
        weights: Mapping[str, np.ndarray],
        x: np.ndarray,
        layout: torch.memory_format,
        how: str,
        converted: bool = False,
    ) -> None:
        self.module = torch_module(name, weights).to(WHERE).to(memory_format=layout).eval()  # type: ignore[call-overload]
        self.x, self.how = put(x, layout), how
        if converted:
            self.module, self.x, self.how = self.module.to(HALVES[how]), self.x.to(HALVES[how]), "fp32"

    def __call__(self) -> torch.Tensor:
        with torch.inference_mode(), automatic(self.how):
            found: torch.Tensor = self.module(self.x)
            return found

    def result(self) -> np.ndarray:
        found: np.ndarray = self().float().cpu().numpy()
        return found


class TorchStep:
    """One training step a call, as bench.peers.TorchStep, whose loss stays on the GPU. Dropout is off.

    In precisions of 16 bits under torch.autocast, with weights in float32; in float16 the loss is scaled, and the fused
    optimizer looks for overflows on the GPU, so that nobody waits for the host.
    """

    def __init__(
        self,
        name: str,
        weights: Mapping[str, np.ndarray],
        x: np.ndarray,
        t: np.ndarray,
        layout: torch.memory_format,
        lr: float,
        momentum: float,
        how: str,
    ) -> None:
        self.module = torch_module(name, weights).to(WHERE).to(memory_format=layout).train()  # type: ignore[call-overload]
        for part in self.module.modules():
            if isinstance(part, torch.nn.Dropout):
                part.eval()
        fused = True if ON_GPU and how in HALVES else None  # else PyTorch chooses
        self.optimizer = torch.optim.SGD(self.module.parameters(), lr=lr, momentum=momentum, fused=fused)
        self.scaler = torch.amp.GradScaler(WHERE.type, init_scale=FACTOR, enabled=how == "fp16")
        self.x, self.t, self.how = put(x, layout), put(t), how

    def __call__(self) -> torch.Tensor:
        self.optimizer.zero_grad()
        with automatic(self.how):
            loss = functional.cross_entropy(self.module(self.x), self.t)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()


class TorchConv:
    """One convolution: forward, and its two gradients apart; all of it in 16 bits if the precision says so."""

    def __init__(
        self, layer: Layer, x: np.ndarray, w: np.ndarray, dy: np.ndarray, layout: torch.memory_format, how: str
    ) -> None:
        half = len(layer.pads) // 2
        if layer.pads[:half] != layer.pads[half:]:
            raise ValueError(f"{layer.label}: PyTorch has no pads that differ at the two ends, {layer.pads}")
        self.x, self.w, self.dy = (put(a, layout).to(HALVES.get(how, torch.float32)) for a in (x, w, dy))
        self.settings = layer.strides, layer.pads[:half], layer.dilations
        self.group = layer.group

    def forward(self) -> torch.Tensor:
        return torch.conv2d(self.x, self.w, None, *self.settings, self.group)

    def by_data(self) -> torch.Tensor:
        found: torch.Tensor = self._gradients([True, False, False])[0]
        return found

    def by_weights(self) -> torch.Tensor:
        found: torch.Tensor = self._gradients([False, True, False])[1]
        return found

    def _gradients(self, wanted: list[bool]) -> Any:
        options = (None, *self.settings, False, [0, 0], self.group, wanted)
        return torch.ops.aten.convolution_backward(self.dy, self.x, self.w, *options)

    def sides(self, name: str) -> dict[str, GpuSide]:
        """Direction, as in bench.layers -> what to time."""
        works = (self.forward, self.by_data, self.by_weights)
        directions = ("forward", "input gradient", "weight gradient")
        return {d: captured(name, work, REPEAT) for d, work in zip(directions, works, strict=True)}
