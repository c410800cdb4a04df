"""Options that give numbers to dimensions a file leaves open."""

from __future__ import annotations

from typing import Any

import click

__all__ = ["Batch", "Binding", "Shape"]

MOST = 2**31 - 1
"""The most that one dimension may be, so that products of a few stay within 64 bits."""


class Batch(click.ParamType):
    """8"""

    name = "batch"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if not text.isdecimal() or not 1 <= int(text) <= MOST:
            self.fail(f"{value!r} is not a number from 1 to {MOST}", param, ctx)
        return int(text)


class Binding(click.ParamType):
    """N=2"""

    name = "binding"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        name, sign, number = str(value).rpartition("=")
        if not sign or not name or not number.isdecimal() or int(number) < 1:
            self.fail(f"{value!r} is not of the form NAME=NUMBER", param, ctx)
        if int(number) > MOST:
            self.fail(f"{value!r}: a dimension is at most {MOST}", param, ctx)
        return name, int(number)


class Shape(click.ParamType):
    """input=1,3,224,224, or 1,3,224,224 for the first input"""

    name = "shape"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, ...]]:
        name, _, text = str(value).rpartition("=")
        try:
            shape = tuple(int(n) for n in text.replace("x", ",").split(","))
        except ValueError:
            shape = ()
        if not shape or min(shape) < 1:
            self.fail(f"{value!r} is not of the form [NAME=]1,3,224,224", param, ctx)
        if max(shape) > MOST:
            self.fail(f"{value!r}: a dimension is at most {MOST}", param, ctx)
        return name, shape
