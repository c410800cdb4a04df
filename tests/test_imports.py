"""What a bare import and `nbcnn --help` load: importing Numba or onnx takes longer than printing a help text may."""

import json
import subprocess
import sys

import pytest

SLOW = {"PIL", "llvmlite", "numba", "onnx", "onnxruntime", "torch"}

IMPORT = "import nbcnn"
HELP = """
from nbcnn.cli.main import main
sys.argv = ["nbcnn", "--help"]
try:
    main()
except SystemExit as leave:
    assert not leave.code, leave.code
"""


@pytest.mark.parametrize("statement", [IMPORT, HELP], ids=["import", "help"])
def test_loads_nothing_slow(statement: str) -> None:
    code = f"import json, sys\n{statement}\nprint()\nprint(json.dumps(sorted(sys.modules)))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    modules = json.loads(process.stdout.splitlines()[-1])
    assert "nbcnn" in modules
    assert SLOW.isdisjoint(modules), f"{statement.strip()} loads {sorted(SLOW.intersection(modules))}"
