"""Where compiled kernels are kept on disk: Numba's cache, but for what several processes may do to it at once.

Numba keeps one index for all types of a function, and numbers the files that it tells of: two processes that compile
for different types at once may take the same number, and then one finds the machine code of the other. Here every
kernel and types have a file of their own, which is replaced as a whole. Nor would Numba see an edit in another file:
an entry carries a stamp of all sources, and one with another stamp is compiled again and overwritten.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nbcnn.kernels.cpu.cache import source_stamp, write_whole

__all__ = ["Files", "kernel_cache"]


class Files:
    """What Numba's cache of a function saves to and loads from, in the place of `index`, which is Numba's own.

    Keys are tuples that end with the stamp.
    """

    def __init__(self, index: Any) -> None:
        self._index = index
        self._name = index._index_name.removesuffix(".nbi")

    def _path(self, key: tuple[Any, ...]) -> Path:
        digest = sha256(repr(key[:-1]).encode()).hexdigest()[:24]
        return Path(self._index._cache_path, f"{self._name}-{digest}.nbc")

    def save(self, key: tuple[Any, ...], data: Any) -> None:
        write_whole(self._path(key), self._index._dump((key[-1], data)))

    def load(self, key: tuple[Any, ...]) -> Any:
        """What was saved, or None."""
        try:
            content = self._path(key).read_bytes()
        except OSError:
            return None
        stamp, data = pickle.loads(content)
        return data if stamp == key[-1] else None

    def flush(self) -> None:
        for path in Path(self._index._cache_path).glob(f"{self._name}-*.nbc"):
            path.unlink(missing_ok=True)


def kernel_cache(function: Callable[..., None]) -> Any:
    """Numba's cache of a function, with these files."""
    from numba.cuda.dispatcher import CUDACache

    file = Path(function.__code__.co_filename)

    class Cache(CUDACache):
        def __init__(self) -> None:
            super().__init__(function)
            index: Any = vars(self)["_cache_file"]
            self._cache_file = Files(index)

        def _index_key(self, signature: Any, codegen: Any) -> Any:
            return (*super()._index_key(signature, codegen), f"{source_stamp(file)} {version('numba-cuda')}")

    return Cache()
