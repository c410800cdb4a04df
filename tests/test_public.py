"""`import nbcnn`: every public name is found, and only when it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import nbcnn


@pytest.mark.parametrize("name", nbcnn.__all__)
def test_every_name_is_found(name: str) -> None:
    value = getattr(nbcnn, name)
    assert value is getattr(nbcnn, name)
    assert name in dir(nbcnn)
    assert name in ("__version__", getattr(value, "__name__", "").rpartition(".")[2])


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'nbcnn' has no attribute 'loads'"):
        nbcnn.loads  # noqa: B018


def test_import_loads_nothing() -> None:
    code = "import sys, nbcnn; print([m for m in sys.modules if m.startswith('nbcnn.') or m == 'numpy'])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"
