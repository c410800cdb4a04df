"""Numbers that options take."""

from __future__ import annotations

import math
from typing import Any

import click

__all__ = ["Fraction", "Number", "Numbers"]


class Number(click.FloatRange):
    """A number inside of a range; NaN is inside of any of click's."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


class Numbers(click.ParamType):
    """ "0.5" or "0.485,0.456,0.406"."""

    name = "numbers"

    def __init__(self, positive: bool = False) -> None:
        self.positive = positive

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        try:
            numbers = tuple(float(text) for text in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a number, nor several with commas between them", param, ctx)
        if not all(map(math.isfinite, numbers)):
            self.fail(f"{value!r} is not finite", param, ctx)
        if self.positive and min(numbers) <= 0:
            self.fail(f"{value!r} must be greater than zero", param, ctx)
        return numbers


class Fraction(click.ParamType):
    """A path, or a number from 0 to below 1; given on as text."""

    name = "fraction"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value)
        try:
            number = float(text)
        except ValueError:
            return text
        if not 0 <= number < 1:
            self.fail(f"{text} is no fraction from 0 to below 1 (nor a path)", param, ctx)
        return text
