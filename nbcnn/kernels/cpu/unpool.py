"""Elements that go to, or come from, places given by index: what MaxUnpool and its gradient do, in ONNX order."""

from __future__ import annotations

from nbcnn.kernels.cpu.jit import serial, small_kernel

__all__ = ["unpool", "unpool_grad"]


@serial
def _place(index, size, target):
    """Where an index into planes of `size` (d, h, w) lies in planes of `target`."""
    w, h, d = index % size[2], index // size[2] % size[1], index // (size[1] * size[2]) % size[0]
    plane = index // (size[0] * size[1] * size[2])
    return ((plane * target[0] + d) * target[1] + h) * target[2] + w


@small_kernel
def unpool(x, indices, y, size, target):
    """y = 0, but for y[indices[i]] = x[i]; of equal indices the last counts."""
    y[:] = 0
    if size == target:
        for i in range(x.size):
            y[indices[i]] = x[i]
    else:
        for i in range(x.size):
            y[_place(indices[i], size, target)] = x[i]


@small_kernel
def unpool_grad(dy, indices, dx, size, target):
    """dx[i] = dy[indices[i]], where x[i] is what lies there."""
    if size == target:
        for i in range(dx.size):
            dx[i] = dy[indices[i]]
    else:
        for i in range(dx.size):
            dx[i] = dy[_place(indices[i], size, target)]
