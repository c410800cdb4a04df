"""Compiling a kernel once instead of level by level.

By itself Numba optimizes every function alone and turns it into machine code, then links its optimized code into the
functions that call it, which are optimized and translated as a whole, and so on; the body of a prange adds two levels.
The innermost loop of a convolution went through LLVM seven times, six of them for nothing: only kernels are called
from Python. Here what a kernel is made of stays a draft, neither optimized nor translated, until the kernel itself is.
Measured on Zen 4 with Numba 0.68: all kernels of LeNet's training step took 14.7 s of one core instead of 33, those of
ResNet-50's inference 6.0 instead of 13.5. The code is as fast, or faster: it is optimized as a whole.

This leans on Numba's CodeLibrary, whose parts have kept their names since 0.57.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.compiler_lock import global_compiler_lock

__all__ = ["ApartCompiler", "KernelCompiler"]

PRANGE_BODY = "__numba_parfor_gufunc"

_depth = 0
"""How many kernels are being compiled; Numba's compiler lock is held while one is."""


class _Draft(JITCodeLibrary):
    """The code of a function that is linked into kernels, as it came from Numba.

    Functions of Numba's own, such as min, become drafts too when a kernel is the first to use them. Whoever links one
    of those outside of a kernel, or asks for its address, gets finished code.
    """

    def __init__(self, codegen: Any, name: str) -> None:
        super().__init__(codegen, name)
        self._complete = False
        self._environments: list[tuple[str, Any]] = []

    @property
    def codegen(self) -> Any:
        return self._codegen if self._complete else _LateEnvironments(self._codegen, self._environments)

    def _optimize_final_module(self) -> None:
        if self._complete:
            super()._optimize_final_module()

    def _finalize_final_module(self) -> None:
        if self._complete:
            super()._finalize_final_module()
        else:
            self._finalize_dynamic_globals()
            self._finalized = True

    def complete(self) -> None:
        """Optimize and translate it after all."""
        if not self._complete:
            self._complete = True
            self._optimize_final_module()
            self._finalize_final_module()
            for name, environment in self._environments:
                self._codegen.set_env(name, environment)

    def _get_module_for_linking(self) -> Any:
        self._ensure_finalized()
        if not _depth:
            self.complete()
        return super()._get_module_for_linking()

    def get_pointer_to_function(self, name: str) -> int:
        """Numba asks for the Python wrapper of everything that it compiles; few have one, and a prange's body, which
        has, is never called from Python.
        """
        self._ensure_finalized()
        if not self._complete and (name not in self._defined() or self.name.startswith(PRANGE_BODY)):
            return 0
        self.complete()
        return int(super().get_pointer_to_function(name))

    def _defined(self) -> set[str]:
        return {function.name for function in self.get_defined_functions()}


class _LateEnvironments:
    """A code generator that keeps environments (a function's constants) until there is code to have them."""

    def __init__(self, codegen: Any, environments: list[tuple[str, Any]]) -> None:
        self._codegen = codegen
        self.set_env: Callable[[str, Any], None] = lambda name, value: environments.append((name, value))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)


@contextmanager
def _drafting(codegen: Any) -> Iterator[None]:
    """What is compiled while this lasts stays a draft."""
    global _depth  # noqa: PLW0603 (Numba's code generator is one for the whole process, too)
    _depth += 1
    codegen.create_library = lambda name, **options: _Draft(codegen, name, **options)
    try:
        yield
    finally:
        _depth -= 1
        if not _depth:
            del codegen.create_library


class KernelCompiler(Compiler):
    """Numba's compiler for a kernel: what the kernel calls stays a draft, and only the kernel itself is finished."""

    def compile_extra(self, func: Callable[..., Any]) -> Any:
        codegen = self.state.targetctx.codegen()
        self.state.library = codegen.create_library(func.__qualname__)
        self.state.library.enable_object_caching()
        with global_compiler_lock, _drafting(codegen):
            result = super().compile_extra(func)
        for environment in result._find_referenced_environments():  # those of what was linked in
            codegen.set_env(environment.env_name, environment)
        return result


class ApartCompiler(Compiler):
    """Numba's compiler for a function that is never copied into its callers."""

    def compile_extra(self, func: Callable[..., Any]) -> Any:
        result = super().compile_extra(func)
        result.library.get_function(result.fndesc.llvm_func_name).add_function_attribute("noinline")
        return result
