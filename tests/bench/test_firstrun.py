"""The first run's benchmark, on a network of one layer."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

from bench.firstrun import COMMAND, Work, cells, measure
from bench.pages import write_page
from nbcnn.onnx_io import write_model
from nbcnn.zoo import graph_of

REPORTS = Path(__file__).resolve().parents[2] / "bench" / "reports"
KEPT = {"machine": json.loads((REPORTS / "models.json").read_text(encoding="utf-8"))["machine"], "settings": {}}


def test_cold_and_warm(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    write_model(graph_of("mlp", sizes=(6, 3)), path)
    row = measure(Work("warmup", ["-c", COMMAND, "warmup", str(path)], 5.0, ["infer", str(path)]), tmp_path, 1, 1)
    ((cold,), (warm,)) = row["cold"], row["warm"]
    compiled = sum(kernel["seconds"] for kernel in row["kernels"])
    assert compiled > 0 and all(kernel["functions"] > 0 for kernel in row["kernels"])
    assert cold["processor"] > warm["processor"] + compiled / 4
    path = write_page(tmp_path / "report.json", {"benchmark": "firstrun", "rows": [row], **KEPT})
    assert path is not None
    page = path.read_text(encoding="utf-8")
    (picture,) = page.split("<svg")[1:]
    ET.fromstring("<svg" + picture.partition("</svg>")[0] + "</svg>")
    assert all(kernel["kernel"] in page for kernel in row["kernels"])
    assert cells(row)[3::3] == [5.0, 2.0] and cells(row)[-1] == len(row["kernels"])
