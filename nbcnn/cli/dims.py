"""Options that give numbers to dimensions a file leaves open."""

from __future__ import annotations

from typing import Any

import click

__all__ = ["Binding", "Shape"]


class Binding(click.ParamType):
    """N=2"""

    name = "binding"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        name, sign, number = str(value).rpartition("=")
        if not sign or not name or not number.isdigit() or int(number) < 1:
            self.fail(f"{value!r} is not of the form NAME=NUMBER", param, ctx)
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
        return name, shape
