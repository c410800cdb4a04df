"""Where the machine code of kernels is kept on disk, and when it is too old to be used.

Numba's own cache looks only at the file that holds the function, so an edit of a helper in another file would leave
stale machine code in its callers. Here an entry carries a stamp: a hash over the source of the function's module and of
every nbcnn kernel module that it imports, directly or not, and over the compiler's versions and settings. An entry
with another stamp is compiled again and overwritten.

The folder is ``$NUMBA_CACHE_DIR`` where the user set it, else the user's cache directory, so that a read-only
installation works too; SIMD widths have folders of their own. Each kernel and argument types have one file, which is
replaced as a whole: any number of processes may read and write at once, and turn.py lets them wait for each other.
Where the folder cannot be written, every process compiles for itself.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import sys
import tempfile
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.compiler import CompileResult
from numba.core.registry import cpu_target
from numba.core.serialize import dumps

from nbcnn.kernels.cpu.turn import turn
from nbcnn.kernels.cpu.width import WIDTH_BYTES

__all__ = ["KernelCache", "cache_folder", "is_writable", "source_stamp", "write_whole"]

SETTINGS = ("OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "USING_SVML")
"""Of numba.config: those that change the machine code."""

_PACKAGE_ROOT = Path(__file__).resolve().parents[3]
_IMPORT = re.compile(r"^\s*from (nbcnn\.kernels[\w.]*) import (?:\(([^)]*)\)|(.*))", re.MULTILINE)


def cache_folder() -> Path:
    """Where compiled kernels are kept. Raises OSError where the user has no home."""
    if numba.config.CACHE_DIR:
        base = Path(numba.config.CACHE_DIR)
    elif os.environ.get("XDG_CACHE_HOME"):
        base = Path(os.environ["XDG_CACHE_HOME"])
    else:
        try:
            base = Path.home() / ".cache"
        except RuntimeError as error:
            raise OSError(str(error)) from None
    return base / "nbcnn" / f"simd{WIDTH_BYTES * 8}"


def is_writable() -> bool:
    """Whether what is compiled can be kept; the folder is made if need be."""
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _module_file(name: str) -> Path | None:
    path = _PACKAGE_ROOT.joinpath(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def _imports(file: Path) -> tuple[Path, ...]:
    found = []
    for module, lines, line in _IMPORT.findall(file.read_text(encoding="utf-8")):
        for candidate in (module, *(f"{module}.{name}" for name in re.findall(r"\w+", lines or line))):
            path = _module_file(candidate)
            if path is not None:
                found.append(path)
    return tuple(found)


@cache
def source_stamp(file: Path) -> str:
    """A hash over this file, every kernel file that it rests on, and the compiler's versions and settings."""
    seen: set[Path] = set()
    waiting = [file]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting.extend(_imports(path))
    settings = [getattr(numba.config, name, None) for name in SETTINGS]
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__} {settings}".encode())
    for path in sorted(seen):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def write_whole(path: Path, content: bytes) -> None:
    """Other processes see the old file or the new one, and never a part of it."""
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:16]}.tmp")
    try:
        part.write_bytes(content)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


class KernelCache:
    """The files of one kernel: what Numba asks of the cache of a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._file = Path(function.__code__.co_filename).resolve()
        self._enabled = True

    @property
    def cache_path(self) -> str:
        return str(cache_folder())

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def flush(self) -> None:
        """Forget what is kept of this kernel."""
        for path in cache_folder().glob(f"{self._name()}-*.nbc"):
            path.unlink(missing_ok=True)

    def has(self, signature: tuple[Any, ...]) -> bool:
        """Whether machine code for these argument types is kept, and is not stale."""
        try:
            with self._path(signature).open("rb") as file:
                return self._enabled and file.readline() == self._stamp()
        except OSError:
            return False

    def turn(self, signature: tuple[Any, ...]) -> AbstractContextManager[None]:
        """While this lasts no other process compiles for these types with a turn of its own; one that waited for it
        finds what was compiled.
        """
        try:
            return turn(self._path(signature))
        except OSError:
            return nullcontext()

    def load_overload(self, signature: tuple[Any, ...], target_context: Any) -> CompileResult | None:
        target_context.refresh()
        if not self.has(signature):
            return None
        try:
            _, _, content = self._path(signature).read_bytes().partition(b"\n")
            return CompileResult._rebuild(target_context, *pickle.loads(content))
        except Exception:
            return None  # a file that was damaged is compiled again, whatever pickle makes of it

    def save_overload(self, signature: tuple[Any, ...], result: CompileResult) -> None:
        if not self._enabled or result.library.has_dynamic_globals:
            return
        content = self._stamp() + dumps(result._reduce())
        try:
            path = self._path(signature)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
        except OSError:
            self.disable()  # a cache that cannot be written costs compile time, not the run

    def _name(self) -> str:
        name = self._function.__qualname__.replace("<", "").replace(">", "")
        place = hashlib.sha256(str(self._file).encode()).hexdigest()[:8]
        return f"{self._file.stem}.{name}-{place}-py{sys.version_info[0]}{sys.version_info[1]}{sys.abiflags}"

    def _path(self, signature: tuple[Any, ...]) -> Path:
        """The file for these types on this processor; a module has one, whatever version of it was compiled last."""
        key = f"{signature} {cpu_target.target_context.codegen().magic_tuple()}"
        return cache_folder() / f"{self._name()}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.nbc"

    def _stamp(self) -> bytes:
        """The first line of a file that may be used."""
        digest = hashlib.sha256(source_stamp(self._file).encode())
        digest.update(self._function.__code__.co_code)
        for cell in self._function.__closure__ or ():
            digest.update(dumps(cell.cell_contents))
        return digest.hexdigest().encode() + b"\n"
