"""Choosing a device: what is said where it cannot be used. On a GPU itself: tests/cuda and tests/gpu."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import nbcnn
import nbcnn.gpu
from nbcnn.devices import HOST, find_device
from nbcnn.errors import DeviceError, InputError
from nbcnn.onnx_io import write_model
from nbcnn.zoo import graph_of

MAIN = (sys.executable, "-c", "from nbcnn.cli.main import main; main()")


def fresh(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Another process, which has not imported CUDA yet."""
    names = {key: value for key, value in os.environ.items() if key != "NBCNN_CUDA"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=names | environment)


def test_wrong_names() -> None:
    with pytest.raises(InputError, match="device 'gpu' is none of cpu, cuda, auto"):
        find_device("gpu")
    with pytest.raises(InputError, match="precision 'half' is none of tf32, fp32"):
        find_device("cuda", precision="half")


def test_the_processor_is_the_default() -> None:
    model = nbcnn.zoo.lenet()
    assert model.device is HOST
    assert all(p.device is HOST for p in model.parameters.values())


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nbcnn.gpu, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match=r"needs numba-cuda, which is not installed: pip install 'nbcnn\[cuda13\]'"):
        find_device("cuda")
    assert find_device("auto") is HOST


def test_no_gpu(tmp_path: Path) -> None:
    """Hidden from CUDA, as on a machine without one."""
    hidden = {"CUDA_VISIBLE_DEVICES": "-1"}
    model = tmp_path / "lenet.onnx"
    write_model(graph_of("lenet", size=8), model)
    found = fresh(*MAIN, "validate", str(model), "--dim", "N=1", "--device", "cuda", **hidden)
    assert found.returncode == 1
    (line,) = found.stderr.splitlines()
    assert line.startswith("nbcnn: error: device 'cuda' cannot be used: there is no GPU that CUDA can use here")
    found = fresh(*MAIN, "validate", str(model), "--dim", "N=1", "--device", "auto", **hidden)
    assert found.returncode == 0, found.stderr
    assert "note: computing on cpu" in found.stderr


def test_cuda_is_not_imported_unless_asked_for() -> None:
    code = (
        "import sys, numpy as np, nbcnn; nbcnn.zoo.lenet(size=8)(np.zeros((1, 1, 8, 8), np.float32)); "
        "print([name for name in sys.modules if 'numba.cuda' in name or name.startswith('cuda')])"
    )
    found = fresh(sys.executable, "-c", code)
    assert found.stdout.strip() == "[]", found.stdout + found.stderr
