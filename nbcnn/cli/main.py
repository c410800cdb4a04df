"""`nbcnn`: the group of commands, and how their errors reach the user.

The commands and what `nbcnn --help` says of them are listed here, so that the help loads none of them.
"""

from __future__ import annotations

import sys
import traceback
from importlib import import_module
from typing import Any

import click

from nbcnn.errors import InputError, NbcnnError

__all__ = ["main", "program"]

COMMANDS = {
    "train": "Train or fine-tune a network; without arguments, a demonstration on handwritten digits.",
    "infer": "Run a network on pictures or arrays.",
    "validate": "Compare a network's outputs with onnxruntime's.",
    "summary": "Show a network's layers: shapes, parameters, multiply-adds, memory.",
    "check": "Say what of a network can run and be trained, and why not.",
    "bench": "Time a network on this machine, layer by layer and beside onnxruntime.",
    "export": "Write a network for another opset, or changed: cut, renamed, another batch size.",
    "warmup": "Compile ahead of time what a network needs on this machine.",
}
"""Name -> line of help. The command is `command` in nbcnn/cli/<name>.py."""

DEBUG = "nbcnn.debug"
FAILED, USAGE, INTERRUPTED = 1, 2, 130


def report(error: BaseException, message: str) -> None:
    """One line on the standard error; the traceback too with --debug."""
    if click.get_current_context().find_root().meta.get(DEBUG):
        traceback.print_exception(error)
    click.echo(f"nbcnn: error: {message}", err=True)


class Program(click.Group):
    """Loads commands when they are asked for, and turns what goes wrong in them into one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"nbcnn.cli.{cmd_name}").command
        known = {parameter.name for parameter in command.params}
        command.params += [option for option in everywhere() if option.name not in known]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        from nbcnn.cli.compiling import announced

        try:
            with announced():
                return super().invoke(ctx)
        except NbcnnError as error:
            report(error, str(error))
            ctx.exit(FAILED)
        except KeyboardInterrupt as error:
            report(error, "interrupted")
            ctx.exit(INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # click knows what to do with these
        except MemoryError as error:
            report(error, "out of memory: use smaller batches or pictures")
            ctx.exit(FAILED)
        except Exception as error:
            text = " ".join(str(error).split())
            if text.startswith("NBCNN_"):  # a variable of the environment, which kernels look at as they are imported
                report(error, text)
                ctx.exit(USAGE)
            report(error, f"{type(error).__name__}: {text} (unexpected; run with --debug to see where)")
            ctx.exit(FAILED)


def set_debug(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        ctx.find_root().meta[DEBUG] = True


def set_threads(ctx: click.Context, parameter: click.Parameter, value: int | None) -> None:
    if value is not None:
        from nbcnn.threads import set_num_threads

        try:
            set_num_threads(value)
        except InputError as error:
            raise click.BadParameter(str(error), ctx, parameter) from None


def everywhere() -> list[click.Option]:
    """The options that may stand before and behind a command's name."""
    return [
        click.Option(
            ["--threads"],
            type=click.IntRange(min=1),
            metavar="N",
            expose_value=False,
            callback=set_threads,
            help="Compute with N threads (default: all).",
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=set_debug,
            help="Show a traceback when something fails.",
        ),
    ]


program = Program(
    "nbcnn",
    params=everywhere(),
    help="Run, train and save convolutional networks that live in ONNX files.",
    epilog="'nbcnn COMMAND --help' tells more of a command.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
click.version_option(package_name="nbcnn", message="%(prog)s %(version)s")(program)


def main() -> None:
    """The entry point of the `nbcnn` script."""
    try:
        program(prog_name="nbcnn")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
