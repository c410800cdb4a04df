"""What commands print: tables, progress and numbers that a person can read. Rich is imported here only, when it is
needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["amount", "console", "mebibytes", "note", "table"]

WIDE = 160
"""Columns of output that does not go to a terminal, so that nothing is cut off in a file or a pipe."""


def console() -> Console:
    """Rich's console on the standard output as it is now."""
    from rich.console import Console

    plain = Console(highlight=False, soft_wrap=True)
    return plain if plain.is_terminal else Console(highlight=False, width=WIDE)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = (), total: Sequence[object] = ()
) -> None:
    """Print a table; columns named in `right` are aligned to the right. total: a last row below a line."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=bool(total))
    for index, name in enumerate(columns):
        footer = Text(str(total[index])) if total else ""
        grid.add_column(name, footer, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(str(cell)) for cell in row))
    console().print(grid)


def note(text: str) -> None:
    """A remark that is not part of a command's result."""
    click.echo(f"note: {text}", err=True)


def amount(count: int) -> str:
    """12345 as "12,345"."""
    return f"{count:,}"


def mebibytes(count: int) -> str:
    """Bytes as "1.5 MiB", fewer as "1.5 KiB" or "40 B"."""
    for power, unit in ((20, "MiB"), (10, "KiB")):
        if count >= 2**power:
            return f"{count / 2**power:,.1f} {unit}"
    return f"{count} B"
