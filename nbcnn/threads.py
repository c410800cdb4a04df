"""The number of threads that the engine computes with."""

from __future__ import annotations

from nbcnn.errors import InputError

__all__ = ["get_num_threads", "set_num_threads"]

_chosen = 0


def set_num_threads(count: int) -> None:
    """Compute with `count` threads from now on; raises InputError for less than one or more than the machine has."""
    from nbcnn.kernels.cpu.threads import most

    global _chosen  # noqa: PLW0603 (one setting for the whole process, as users expect of it)
    given: object = count  # callers are not all type-checked
    if not isinstance(given, int) or not 1 <= given <= most():
        raise InputError(f"set_num_threads({count!r}): this machine can use 1 to {most()} threads")
    _chosen = count


def get_num_threads() -> int:
    """How many threads the engine computes with; by default, all that the machine has."""
    from nbcnn.kernels.cpu.threads import most

    return _chosen or most()
