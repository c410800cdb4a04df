"""Kernels, by backend. `load` finds one by name and imports nothing but the module that holds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, cast

from nbcnn.kernels.contract import KERNELS

__all__ = ["entry_point", "load"]


def load(backend: str, name: str | Callable[..., None]) -> Callable[..., Any]:
    """The kernel of this name, or for "name:alone" its form for one thread; raises KeyError for one that the contract
    does not list. A Python function is its own kernel.
    """
    if not isinstance(name, str):
        return name
    name, _, form = name.partition(":")
    module = import_module(f"nbcnn.kernels.{backend}.{KERNELS[name]}")
    kernel: Callable[..., Any] = getattr(module, name)
    return getattr(import_module(f"nbcnn.kernels.{backend}.jit"), form)(kernel) if form else kernel


def entry_point(kernel: Any, args: Sequence[Any]) -> Callable[..., None]:
    """The compiled function for arguments of these types, which it takes on trust; compiled if need be."""
    if not hasattr(kernel, "compile"):
        return cast("Callable[..., None]", kernel)
    function: Callable[..., None] = kernel.compile(tuple(kernel.typeof_pyval(a) for a in args))
    return function
