"""The pages of suites: drawn from the kept reports, well formed, and complete."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from bench.__main__ import main
from bench.pages import PAGES, write_page

REPORTS = Path(__file__).resolve().parents[2] / "bench" / "reports"
DIRECTION = {"gflops": 50.0, "share": 0.5, "algorithm": "gemm", "median_ms": 2.0, "blocks_ms": [[2.0, 2.1], [1.9]]}


def kernels() -> dict[str, Any]:
    directions = dict.fromkeys(("forward", "input gradient", "weight gradient"), DIRECTION)
    row = {"network": "n<1>", "batch": 1, "layer": "3x8x8 -> 4, 3x3", "count": 2, "gflop": 0.1, "bytes": 10**7}
    models = json.loads((REPORTS / "models.json").read_text(encoding="utf-8"))
    return {"benchmark": "kernels", "machine": models["machine"], "settings": {}, "rows": [row | directions]}


def drawn(report: dict[str, Any], folder: Path) -> str:
    """The page, whose pictures have all been parsed."""
    path = write_page(folder / "report.json", report)
    assert path == folder / "report.html"
    page = path.read_text(encoding="utf-8")
    for picture in page.split("<svg")[1:]:
        ET.fromstring("<svg" + picture.partition("</svg>")[0] + "</svg>")
    return page


@pytest.mark.parametrize("name", ["models", "training"])
def test_pages_of_kept_reports(name: str, tmp_path: Path) -> None:
    report = json.loads((REPORTS / f"{name}.json").read_text(encoding="utf-8"))
    page = drawn(report, tmp_path)
    for row in report["rows"]:
        assert page.count(f"{row['network']}, batch {row['batch']}") >= 3
        assert f"{row['ratio']:.2f}×" in page
    assert report["machine"]["commit"] in page
    assert ("<h2>Roofline" in page) == any("bytes" in row for row in report["rows"])  # older reports have none


def test_a_network_whose_bytes_are_known_lies_under_the_roof(tmp_path: Path) -> None:
    report = json.loads((REPORTS / "models.json").read_text(encoding="utf-8"))
    for row in report["rows"]:
        row["bytes"] = 10**8
    assert "Roofline" in drawn(report, tmp_path)


def test_page_of_kernels(tmp_path: Path) -> None:
    page = drawn(kernels(), tmp_path)
    assert "n&lt;1&gt;, batch 1" in page and "gemm" in page and "Roofline" in page


def test_pages_without_rows(tmp_path: Path) -> None:
    for name in ("models", "kernels"):
        drawn(kernels() | {"benchmark": name, "rows": []}, tmp_path)


def test_pages_are_drawn_beside_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "k.json").write_text(json.dumps(kernels()))
    (tmp_path / "m.json").write_text('{"benchmark": "mnist"}')
    assert main(["pages", str(tmp_path / "k.json"), str(tmp_path / "m.json")]) == 0
    assert (tmp_path / "k.html").is_file() and not (tmp_path / "m.html").exists()
    assert "a report of 'mnist' has no page" in capsys.readouterr().out
    assert set(PAGES) == {"models", "training", "kernels", "firstrun", "gpu", "network"}
