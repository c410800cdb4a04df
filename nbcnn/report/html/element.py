"""Elements of HTML and SVG as text. Whatever is not Markup is escaped, so that a name from a file stays a name."""

from __future__ import annotations

from html import escape

__all__ = ["Markup", "el", "join"]

VOID = ("br", "hr", "meta")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | float | None
Attribute = str | float | bool | None


def el(tag: str, *children: Child, **attributes: Attribute) -> Markup:
    """An element. `class_` is the attribute class, `text_anchor` is text-anchor; None and False leave one out."""
    texts = [tag]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = name.rstrip("_").replace("_", "-")
        texts.append(name if value is True else f'{name}="{escape(_text(value))}"')
    start = f"<{' '.join(texts)}>"
    return Markup(start if tag in VOID else f"{start}{join(*children)}</{tag}>")


def join(*children: Child) -> Markup:
    """One after the other; None is nothing."""
    return Markup("".join(c if isinstance(c, Markup) else escape(_text(c)) for c in children if c is not None))


def _text(value: str | float) -> str:
    """Numbers with two decimals at most, which for a picture is enough."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
