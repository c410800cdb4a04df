"""How every CPU kernel is compiled (draft.py has the compiler itself), and where the machine code is kept.

Numba's own disk cache looks only at the file that holds the function, so an edit of a helper in another file would
leave stale machine code in its callers. Here the stamp of a cache entry is a hash over the source of the function's
module and of every nbcnn kernel module that it imports, directly or not. The folder is ``$NUMBA_CACHE_DIR`` where the
user set it, else the user's cache directory, so that a read-only installation works too; SIMD widths have folders of
their own.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import llvmlite
import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache

from nbcnn.kernels.cpu.draft import KernelCompiler
from nbcnn.kernels.cpu.width import WIDTH_BYTES

__all__ = ["cache_folder", "inlined", "kernel", "serial", "small_kernel"]

FASTMATH = {"nsz", "arcp", "contract", "afn", "reassoc"}
"""No nnan and no ninf: a NaN must stay a NaN, or a diverging run would look healthy."""

_PACKAGE_ROOT = Path(__file__).resolve().parents[3]
_IMPORT = re.compile(r"^\s*from (nbcnn\.kernels[\w.]*) import \(?([\w, ]*)", re.MULTILINE)


def cache_folder() -> Path:
    """Where compiled kernels are kept."""
    if numba.config.CACHE_DIR:
        base = Path(numba.config.CACHE_DIR)
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "nbcnn" / f"simd{WIDTH_BYTES * 8}"


def _module_file(name: str) -> Path | None:
    path = _PACKAGE_ROOT.joinpath(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def _imports(file: Path) -> tuple[Path, ...]:
    found = []
    for module, names in _IMPORT.findall(file.read_text()):
        for candidate in (module, *(f"{module}.{name.strip()}" for name in names.split(","))):
            path = _module_file(candidate)
            if path is not None:
                found.append(path)
    return tuple(found)


@cache
def _source_stamp(file: Path) -> str:
    """A hash over this file, every kernel file that it rests on, and the compiler's versions."""
    seen: set[Path] = set()
    waiting = [file]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting.extend(_imports(path))
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for path in sorted(seen):
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _Locator:
    """Numba's cache locator interface: a folder, and a stamp that must match for an entry to be used."""

    def __init__(self, function: Callable[..., Any], file: str) -> None:
        self._file = Path(file)

    @classmethod
    def from_function(cls, function: Callable[..., Any], file: str) -> _Locator:
        return cls(function, file)

    def get_cache_path(self) -> str:
        return str(cache_folder())

    def ensure_cache_path(self) -> None:
        cache_folder().mkdir(parents=True, exist_ok=True)

    def get_source_stamp(self) -> str:
        return _source_stamp(self._file)

    def get_disambiguator(self) -> str:
        return hashlib.sha256(str(self._file).encode()).hexdigest()[:10]


class _CacheImpl(CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012 (Numba's interface)


class _KernelCache(FunctionCache):
    _impl_class = _CacheImpl

    def _load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super()._load_overload(sig, target_context)
        except (OSError, EOFError, UnpicklingError):
            return None  # what cannot be read is compiled again

    def _save_overload(self, sig: Any, data: Any) -> None:
        try:
            super()._save_overload(sig, data)
        except OSError:
            self.disable()  # a cache that cannot be written costs compile time, not the run


OPTIONS = {"fastmath": FASTMATH, "error_model": "numpy", "nogil": True, "no_cfunc_wrapper": True}


def _kernel(function: Callable[..., Any], **options: Any) -> Any:
    dispatcher = numba.njit(function, pipeline_class=KernelCompiler, **OPTIONS, **options)
    dispatcher._cache = _KernelCache(function)
    return dispatcher


def kernel(function: Callable[..., Any]) -> Any:
    """Decorator of a kernel that the plan may bind: compiled on first use, in parallel over cores, cached on disk.

    Numba counts a prange in unsigned integers, which would compile whatever the index is passed to a second time, and
    turn arithmetic with other integers into floats: take `np.int64(index)` first.
    """
    return _kernel(function, parallel=True)


def small_kernel(function: Callable[..., Any]) -> Any:
    """Decorator of a kernel that the plan may bind, and that is too small to split."""
    return _kernel(function)


def serial(function: Callable[..., Any]) -> Any:
    """Decorator of what runs inside one thread of a kernel: its body. Only compiled code can call it, and what is kept
    on disk is the kernel that it became a part of.
    """
    return numba.njit(function, no_cpython_wrapper=True, **OPTIONS)


def inlined(function: Callable[..., Any]) -> Any:
    """As `serial`, and a copy of it in every caller: for a loop over a register tile, which a call would pass through
    memory.
    """
    return numba.njit(function, no_cpython_wrapper=True, forceinline=True, **OPTIONS)
