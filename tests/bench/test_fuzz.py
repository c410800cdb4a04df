"""A few hundred mutated models; `python -m bench fuzz` runs 20,000."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx

from bench.__main__ import main
from bench.fuzz import verdict
from bench.mutations import mutate


def test_a_clear_error_or_a_result(tmp_path: Path) -> None:
    report = tmp_path / "fuzz.json"
    assert main(["fuzz", "--cases", "400", "--seed", "3", "--out", str(report)]) == 0
    outcomes = json.loads(report.read_text())["rows"][0]["outcomes"]
    assert sum(outcomes.values()) == 400
    assert outcomes["ran"] > 20 and outcomes["ModelError"] > 100


def test_a_case_depends_on_its_number_alone() -> None:
    source = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y) { y = Relu(x) }'
    )
    content = source.SerializeToString()
    found = [[mutate(content, np.random.default_rng([seed, 5])) for _ in range(2)] for seed in (1, 2)]
    assert found[0][0] == found[0][1] != found[1][0] == found[1][1]


def test_verdicts() -> None:
    rng = np.random.default_rng(0)
    text = '<ir_version: 8, opset_import: ["": 17]> g (float[%s] x) => (float[2] y) { y = %s(x) }'
    made = {op: onnx.parser.parse_model(text % (n, op)).SerializeToString() for op, n in (("Relu", 2), ("Abs", 10**9))}
    assert verdict(made["Relu"], rng) == "ran"
    assert verdict(made["Abs"], rng) == "loaded"
    assert verdict(b"nothing", rng).startswith("ModelError: ")
