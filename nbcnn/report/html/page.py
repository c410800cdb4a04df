"""A page around its sections: the head, the style, the machine, tiles and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from nbcnn.report.html.element import Markup, el, join
from nbcnn.report.machine import other_work
from nbcnn.report.numbers import number

__all__ = ["Column", "Tile", "machine_line", "machine_section", "page", "section", "table", "tiles", "two_lines"]

SIMD = {512: "AVX-512 (512 bits)", 256: "AVX2 (256 bits)", 128: "128 bits"}


def page(title: str, *sections: Markup | None, about: str) -> str:
    """A whole HTML document, which loads nothing from elsewhere."""
    style = Markup(files(__package__).joinpath("style.css").read_text(encoding="utf-8"))
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="generator", content="nbcnn"),
        el("title", title),
        el("style", style),
    )
    body = el("body", el("main", *sections, el("footer", about)))
    return "<!doctype html>\n" + el("html", head, "\n", body, lang="en") + "\n"


def section(title: str, *children: Markup | str | None) -> Markup:
    """A heading and what is below it; texts become paragraphs."""
    blocks = (c if c is None or isinstance(c, Markup) else el("p", c) for c in children)
    return el("section", el("h2", title), *blocks)


@dataclass(frozen=True)
class Tile:
    """A figure that stands out. more: below it."""

    name: str
    value: str
    unit: str = ""
    more: str = ""


def tiles(found: Sequence[Tile]) -> Markup:
    """The first one has the accent."""
    return el("div", *(_tile(tile, index == 0) for index, tile in enumerate(found)), class_="tiles")


def _tile(tile: Tile, first: bool) -> Markup:
    value = el(
        "div", tile.value, " " if tile.unit else None, el("small", tile.unit) if tile.unit else None, class_="value"
    )
    more = el("div", tile.more, class_="more") if tile.more else None
    return el("div", el("div", tile.name, class_="name"), value, more, class_="tile first" if first else "tile")


@dataclass(frozen=True)
class Column:
    """numbers: aligned to the right. wide: may break into lines."""

    title: str
    numbers: bool = False
    wide: bool = False

    @property
    def class_(self) -> str | None:
        return "n" if self.numbers else "wide" if self.wide else None


def table(columns: Sequence[Column], rows: Iterable[Sequence[Markup | str | None]]) -> Markup:
    head = el("tr", *(el("th", column.title, class_="n" if column.numbers else None) for column in columns))
    body = [
        el("tr", *(el("td", cell, class_=column.class_) for column, cell in zip(columns, row, strict=True)))
        for row in rows
    ]
    return el("div", el("table", el("thead", head), el("tbody", *body)), class_="scroll")


def two_lines(above: str, below: str) -> Markup:
    """For a table's cell: the second line is small."""
    return join(above, el("span", below, class_="under"))


def machine_line(machine: dict[str, Any]) -> str:
    """The machine in a few words."""
    threads = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}"
    return f"{machine['cpu']}, {_simd(machine)}, {threads} of {machine['cores']} cores, {machine['date'][:10]}"


def _simd(machine: dict[str, Any]) -> str:
    bits = int(machine["simd_bits"])
    return SIMD.get(bits, f"{bits} bits")


def machine_section(machine: dict[str, Any], settings: dict[str, Any]) -> Markup:
    """All that a report says of where and when its figures were taken."""
    rows = [
        *([("GPU", machine["gpu"]["name"])] if "gpu" in machine else []),
        ("processor", machine["cpu"]),
        (
            "cores, threads",
            f"{machine['cores']} cores that the process may use, {machine['threads']} threads on each side",
        ),
        ("SIMD", _simd(machine)),
        ("multiply-adds at most", _per_threads(machine["fma_gflops"], "GFLOP/s")),
        ("memory at most (triad)", _per_threads(machine["triad_gbytes"], "GB/s")),
        ("other work", other_work(machine)),
        ("system", machine["system"]),
        ("versions", ", ".join(f"{name} {version}" for name, version in machine["versions"].items())),
        ("commit", machine["commit"]),
        ("date", machine["date"]),
        ("settings", ", ".join(f"{name} {_setting(value)}" for name, value in settings.items() if value is not None)),
    ]
    pairs = [join(el("dt", name), el("dd", value)) for name, value in rows if value]
    return section("Where and when", el("dl", *pairs, class_="about"))


def _setting(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _per_threads(figures: dict[str, float], unit: str) -> str:
    """{"1": 117.0, "2": 232.0} as "117 GFLOP/s on 1 thread, 232 GFLOP/s on 2 threads"."""
    return ", ".join(f"{number(v)} {unit} on {n} thread{'s' if int(n) > 1 else ''}" for n, v in figures.items())
