"""Pages and pictures: well formed, self-contained, nothing of a file's names taken as markup, marks inside their
picture.
"""

from __future__ import annotations

import copy
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from nbcnn.report.html.bars import Part, cell_bar, stacked
from nbcnn.report.html.distribution import Calls, distribution
from nbcnn.report.html.drawing import GROUPS, dot
from nbcnn.report.html.element import Markup, el, join
from nbcnn.report.html.network import network_page
from nbcnn.report.html.rates import Bar, rates
from nbcnn.report.html.ratio import Ratio, ratios
from nbcnn.report.html.roofline_plot import Point, roofline_plot
from nbcnn.report.html.scale import Linear, Log, linear_over, log_over
from nbcnn.report.html.skyline import Block, skyline
from nbcnn.report.numbers import mebibytes, number
from nbcnn.report.roofline import Roofline

VOID = {"br", "hr", "meta"}
NUMBER = re.compile(r"-?\d+\.?\d*(?:e-?\d+)?")


class Balanced(HTMLParser):
    """Fails on an end tag that closes something else; keeps what is of interest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def parsed(page: str) -> Balanced:
    found = Balanced()
    found.feed(page)
    found.close()
    assert not found.open
    return found


# --- elements and scales


def test_what_is_not_markup_is_escaped() -> None:
    assert el("p", "<b>&", Markup("<i></i>"), class_='"x"') == '<p class="&quot;x&quot;">&lt;b&gt;&amp;<i></i></p>'
    assert (
        el("circle", cx=1.0, r=2.345678, stroke_width=None, hidden=True) == '<circle cx="1" r="2.35" hidden></circle>'
    )
    assert isinstance(join("<", None, 3), Markup) and join("<", None, 3) == "&lt;3"


def test_linear_ticks_are_round() -> None:
    assert Linear(0, 10.4, 0, 100).ticks() == [0, 2, 4, 6, 8, 10]
    assert linear_over([0.07], 0, 100).ticks() == pytest.approx([0, 0.02, 0.04, 0.06])
    scale = linear_over([3.0, 9.0], 100, 0)
    assert scale(0) == 100 and scale(9.0) > 0 and scale.low == 0


def test_log_ticks_are_powers_of_ten_or_finer() -> None:
    assert Log(0.5, 2000, 0, 1).ticks() == [1, 10, 100, 1000]
    assert Log(0.9, 25, 0, 1).ticks() == [1, 2, 5, 10, 20]
    assert Log(0.75, 1.3, 0, 1).ticks() == pytest.approx([0.8, 0.9, 1, 1.2])
    assert log_over([1.0, 100.0], 0, 90, room=1.0)(10.0) == pytest.approx(45)


@pytest.mark.parametrize("values", [[], [0.0], [5.0, 5.0], [np.inf, 1.0]])
def test_scales_of_little_still_have_a_width(values: list[float]) -> None:
    for scale in (linear_over(values, 0, 100), log_over(values, 0, 100)):
        assert scale.low < scale.high and scale.ticks()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1234.5, "1,234"), (12.345, "12.3"), (1.0, "1.00"), (0.00123456, "0.00123"), (1e-9, "0.000000")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_bytes() -> None:
    assert (mebibytes(40), mebibytes(1536), mebibytes(3 << 20)) == ("40 B", "1.5 KiB", "3.0 MiB")


# --- pictures

ROOF = Roofline(100.0, 20.0)
NASTY = "<&\"'>"
PICTURES = {
    "skyline": skyline([("ours", [Block("convolution", 1.0, 250.0, NASTY), Block("movement", 0.1, 0.0, "")])], 100.0),
    "skyline without ceiling": skyline([("a", [Block("movement", 0.0, 0.0, "")]), ("b", [])], None),
    "roofline": roofline_plot([Point(NASTY, g, 2.0**i, 10.0, 0.1, NASTY) for i, g in enumerate(GROUPS)], ROOF),
    "roofline without points": roofline_plot([Point("slow", "pooling", 0.0, 0.0, 0.0, "")], ROOF),
    "few calls": distribution([Calls(NASTY, np.array([1.0, 1.0, 2.0, 50.0]), "ours")]),
    "one call": distribution([Calls("a", np.array([3.0]), "ours"), Calls("b", np.array([3.0]), "peer")]),
    "many calls": distribution([Calls("a", np.random.default_rng(0).lognormal(size=500), "ours")]),
    "stacked": stacked([(NASTY, [Part(NASTY, 1.0, "update", NASTY), Part("b", 0.0, "ours", "")], "1 ms")], "ms", "x"),
    "cell": cell_bar(0.5, "convolution", least=2.0, peer=0.1, tip=NASTY),
    "rates": rates([(NASTY, [Bar(3.0, "ours", NASTY), Bar(0.0, "peer", "")])], "GFLOP/s", 10.0, "ceiling"),
    "ratios": ratios([Ratio(NASTY, 0.5, 0.4, 2.5, tip=NASTY, each=(0.4, 2.5)), Ratio("b", 20.0, 20.0, 20.0)]),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_well_formed_and_keep_their_marks_inside(name: str) -> None:
    root = ET.fromstring(PICTURES[name])
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for element in root.iter():
        for key, most in (("x", width), ("x1", width), ("x2", width), ("cx", width)):
            assert -1 <= float(element.get(key, 0)) <= most + 1, ET.tostring(element)
        for key, most in (("y", height), ("y1", height), ("y2", height), ("cy", height)):
            assert -1 <= float(element.get(key, 0)) <= most + 1, ET.tostring(element)
        assert float(element.get("width", 0)) >= 0 and float(element.get("height", 0)) >= 0
    assert "nan" not in PICTURES[name] and "inf" not in NUMBER.sub("", PICTURES[name]).replace("inference", "")


def test_a_blocks_area_is_its_work() -> None:
    blocks = [Block("convolution", 2.0, 50.0, "a"), Block("convolution", 1.0, 100.0, "b")]
    root = ET.fromstring(skyline([("ours", blocks)], None))
    first, second = (e for e in root.iter("rect"))
    areas = [(float(e.attrib["width"]) + 0.6) * float(e.attrib["height"]) for e in (first, second)]
    assert areas[0] == pytest.approx(areas[1], rel=1e-3)


def test_points_lie_below_the_roof_as_they_should() -> None:
    """One at half of what memory allows, one at half of what arithmetic allows, one at the ceiling."""
    points = [Point("", "pooling", 1.0, 10.0, 0.1, "m"), Point("", "pooling", 50.0, 50.0, 0.1, "a")]
    root = ET.fromstring(roofline_plot([*points, Point("", "convolution", 50.0, 100.0, 0.1, "top")], ROOF))
    path = next(e for e in root.iter("path")).attrib["d"]
    (_, bottom), (ridge, top), (right, flat) = (
        (float(u), float(v)) for u, v in (p.split() for p in path[1:].split(" L"))
    )
    (mark,) = root.iter("circle")
    assert float(mark.attrib["cy"]) == pytest.approx(top, abs=0.1) and flat == top and bottom > top
    assert ridge < float(mark.attrib["cx"]) < right


@pytest.mark.parametrize("mark", sorted(set(GROUPS.values())))
def test_every_mark_can_be_drawn(mark: str) -> None:
    assert ET.fromstring(dot(5, 5, 3, "ours", mark=mark)).tag in ("circle", "polygon")


# --- the page of a network


def test_the_page_is_whole_and_loads_nothing(report: dict[str, Any]) -> None:
    page = network_page(report)
    found = parsed(page)
    assert found.tags.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert {"title", "style", "svg", "table", "figure"} <= found.tags
    assert not [name for name, _ in found.attributes if name in ("src", "href", "xlink:href") or name.startswith("on")]
    assert "url(" not in page and "@import" not in page and "http" not in page


def test_names_from_the_file_are_texts(report: dict[str, Any]) -> None:
    (hostile,) = {row["name"] for row in report["inference"]["layers"] if row["name"].startswith("<script>")}
    found = parsed(network_page(report))
    assert any(hostile in text for text in found.texts)


def test_the_page_says_what_a_report_must_name(report: dict[str, Any]) -> None:
    texts = " ".join(parsed(network_page(report)).texts)
    machine = report["machine"]
    for wanted in (machine["cpu"], machine["commit"], machine["date"], machine["versions"]["numba"], "small.onnx"):
        assert wanted in texts
    assert f"{machine['simd_bits']} bits" in texts or str(machine["simd_bits"]) in texts
    for row in (*report["inference"]["layers"], *report["training"]["layers"][:5]):
        assert row["name"] in texts


def test_the_page_of_a_network_alone_and_unmeasured(report: dict[str, Any]) -> None:
    """Without onnxruntime, ceilings and memory there is still a page, with a reason."""
    bare = copy.deepcopy(report)
    bare["machine"] |= {"fma_gflops": {}, "triad_gbytes": {}}
    bare["training"] = None
    part = bare["inference"]
    del part["timings"]["onnxruntime"]
    part |= {"peer": None, "ratio": None, "ratio_blocks": None, "peer_missing": "it is not installed", "share": None}
    part |= {"roofline": None, "differences": [], "peer_nodes": []}
    part["memory"] |= {"resident": None, "resident_missing": "no such system"}
    for row in part["layers"]:
        for key in ("peer_ms", "least_ms", "roofline", "bound"):
            del row[key]
    found = parsed(network_page(bare))
    texts = " ".join(found.texts)
    assert "no such system" in texts
    assert "it is not installed" in texts and "Roofline" not in texts


def test_very_many_layers_are_shown_in_part(report: dict[str, Any]) -> None:
    long = copy.deepcopy(report)
    long["inference"]["layers"] *= 1 + 120 // len(long["inference"]["layers"])
    long["inference"]["peer_nodes"] = []
    assert "details" in parsed(network_page(long)).tags
