"""What commands print: tables, progress and numbers that a person can read. Rich is imported here only, when it is
needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from nbcnn.report.numbers import amount, mebibytes

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["amount", "console", "mebibytes", "note", "stages", "table"]

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


@contextmanager
def stages() -> Iterator[Callable[[str], None]]:
    """A line on the standard error that says what is being done, for as long as this lasts; only on a terminal."""
    from rich.console import Console

    screen = Console(stderr=True, highlight=False)
    if not screen.is_terminal:
        yield lambda text: None
        return
    from nbcnn.cli.compiling import state
    from nbcnn.compilation import watch_compilation

    with screen.status("", spinner="dots") as status, watch_compilation(lambda now: status.update(state(now))):
        yield lambda text: status.update(f"{text} ...")
