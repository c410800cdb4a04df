"""Progress of a training run: a bar on a terminal, a line an epoch everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from nbcnn.cli.compiling import state
from nbcnn.cli.console import console
from nbcnn.compilation import Compilation, watch_compilation

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from nbcnn.trainer import Epoch, Progress

__all__ = ["Watcher", "watch"]


class Watcher:
    """Its methods are the Trainer's callbacks."""

    def __init__(self, bar: Bar, epochs: int) -> None:
        self.bar, self.epochs = bar, epochs
        self.task = bar.add_task("planning", total=None, loss="", rate="", left="")

    def compiling(self, now: Compilation) -> None:
        self.bar.update(self.task, description=state(now), completed=now.done, total=now.total)

    def step(self, now: Progress) -> None:
        self.bar.update(
            self.task,
            description=f"epoch {now.epoch}/{now.epochs}",
            total=now.epochs * now.steps,
            completed=(now.epoch - 1) * now.steps + now.step,
            loss=f"loss {now.loss:.4f}",
            rate=f"{now.rate:,.0f} samples/s" if now.rate else "",
            left=f"{_clock(now.left)} left" if now.rate else "",
        )

    def epoch(self, done: Epoch) -> None:
        accuracy = "" if done.accuracy is None else f"  validation accuracy {done.accuracy:7.2%}"
        width = len(str(self.epochs))
        self.bar.console.print(
            f"epoch {done.number:{width}}/{self.epochs}  loss {done.loss:.4f}{accuracy}  {done.seconds:.1f} s",
            soft_wrap=True,
        )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def watch(epochs: int) -> Iterator[Watcher]:
    """The bar is there while this lasts; elsewhere than on a terminal only the lines are."""
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    screen = console()
    fields = [TextColumn(f"{{task.fields[{name}]}}") for name in ("loss", "rate", "left")]
    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        *fields,
        console=screen,
        transient=True,
        disable=not screen.is_terminal,
    )
    with bar:
        watcher = Watcher(bar, epochs)
        with watch_compilation(watcher.compiling) if screen.is_terminal else nullcontext():
            yield watcher
