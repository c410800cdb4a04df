"""The other side: onnxruntime's CPU session at its defaults, on as many threads as ours."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nbcnn.errors import ModelError

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["session"]


def session(
    model: str | os.PathLike[str] | bytes, threads: int, profile: str | os.PathLike[str] | None = None
) -> onnxruntime.InferenceSession:
    """A session with default options (all graph optimizations are on by default), `threads` threads in an operator.

    model: a path, or the bytes of a file. profile: the beginning of the name of the file that every node's time is
    written to. Raises ModelError where onnxruntime refuses the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = os.fspath(profile)
    source = model if isinstance(model, bytes) else os.fspath(model)
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"onnxruntime refuses the model: {reason}") from error
