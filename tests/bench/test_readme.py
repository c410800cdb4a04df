"""The README's tables are those of the reports that are kept."""

from __future__ import annotations

from pathlib import Path

from bench.readme import BEGIN, END, render


def test_the_tables_are_those_of_the_reports() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    _, begin, rest = text.partition(BEGIN)
    shown, end, _ = rest.partition(END)
    assert begin and end
    assert shown == render(), "run `python -m bench readme`"
