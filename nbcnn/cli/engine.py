"""The options that say how a network is computed, for all commands that run one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from nbcnn.cli.console import note

__all__ = ["engine", "engine_options"]

Command = TypeVar("Command", bound=Callable[..., Any])

OPTIONS = (
    click.option(
        "--exact", is_flag=True, help="Forbid algorithms that round otherwise than the direct sum of products."
    ),
    click.option(
        "--autotune", is_flag=True, help="Choose algorithms of convolutions by timing them (once for a machine)."
    ),
    click.option(
        "--device",
        type=click.Choice(["cpu", "cuda", "auto"]),
        default="cpu",
        show_default=True,
        help="Where to compute; auto takes a GPU if one works.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["tf32", "fp32", "fp16", "bf16"]),
        default="tf32",
        show_default=True,
        help="What a GPU multiplies: float32 on tensor cores, which round the factors to 10 bits; float32 in full; or "
        "16 bits, which activations are kept in, too.",
    ),
    click.option("--allow-fallback", is_flag=True, help="Run what has no CUDA kernel on the processor."),
)


def engine_options(command: Command) -> Command:
    """Give a command the options of `engine`."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def engine(options: dict[str, Any]) -> dict[str, Any]:
    """Take those options out of a command's; returns arguments of `nbcnn.load`. Says which device "auto" chose."""
    from nbcnn.devices import HALVES, HOST, find_device

    name, precision = options.pop("device"), options.pop("precision")
    device = find_device(name, precision=precision, allow_fallback=options.pop("allow_fallback"))
    if name == "auto":
        note(f"computing on {device.name}")
    if device is HOST and precision in HALVES:
        note(f"--precision {precision} is for a GPU (--device cuda): the processor computes in float32")
    return {"exact": options.pop("exact"), "autotune": options.pop("autotune"), "device": device}
