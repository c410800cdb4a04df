"""The group of commands: help, options that stand anywhere, errors as one line, exit codes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NoReturn

import click
import pytest
from click.testing import Result

from nbcnn.cli import check
from nbcnn.cli.dims import Binding, Shape
from nbcnn.cli.main import COMMANDS, program

Cli = Callable[..., Result]
MAIN = [sys.executable, "-c", "from nbcnn.cli.main import main; main()"]


def test_help_names_every_command(cli: Cli) -> None:
    result = cli("--help")
    assert result.exit_code == 0
    assert all(name in result.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(cli: Cli, name: str) -> None:
    result = cli(name, "--help")
    assert result.exit_code == 0
    assert "--debug" in result.stdout and "--threads" in result.stdout


def test_as_a_module() -> None:
    command = [sys.executable, "-m", "nbcnn"]
    process = subprocess.run([*command, "check"], check=False, capture_output=True, text=True)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.startswith("Usage: nbcnn check")


def test_version(cli: Cli) -> None:
    try:
        version = metadata.version("nbcnn")
    except metadata.PackageNotFoundError:
        pytest.skip("nbcnn is not installed, only on the path: it has no version")
    assert cli("--version").stdout == f"nbcnn {version}\n"


@pytest.mark.parametrize(
    "args",
    [
        ("nothing",),
        ("summary",),
        ("summary", "m.onnx", "--what"),
        ("--threads", "0", "summary", "m.onnx"),
        ("summary", "m.onnx", "--threads", "100000"),
        ("infer", "m.onnx"),
        ("infer", "m.onnx", "a.npy", "b.png"),
        ("infer", "m.onnx", "a.png", "--size", "0"),
        ("infer", "m.onnx", "a.png", "--mean", "x"),
        ("validate", "m.onnx", "--dim", "N"),
        ("summary", "m.onnx", "--shape", "input=a"),
        ("train", "--data", "digits"),
        ("train", "m.onnx"),
        ("train", "m.onnx", "--data", "x", "--device", "gpu"),
        ("train", "m.onnx", "--data", "x", "--epochs", "0"),
    ],
)
def test_wrong_usage_exits_with_2(cli: Cli, lenet: Path, args: tuple[str, ...]) -> None:
    result = cli(*(lenet if arg == "m.onnx" else arg for arg in args))
    assert result.exit_code == 2, result.output
    assert "Usage:" in result.stderr and "Error: " in result.stderr
    assert "Traceback" not in result.output


def test_the_same_thing_has_the_same_option_everywhere() -> None:
    commands = {name: program.get_command(click.Context(program), name) for name in COMMANDS}
    for name, command in commands.items():
        assert command is not None
        options = {option: parameter for parameter in command.params for option in parameter.opts}
        assert ("--exact" in options) == ("--autotune" in options), name
        assert all(key == "--dim" for key, option in options.items() if isinstance(option.type, Binding)), name
        assert all(key == "--shape" for key, option in options.items() if isinstance(option.type, Shape)), name


def broken(error: BaseException) -> Callable[..., NoReturn]:
    def fail(*args: object, **options: object) -> NoReturn:
        raise error

    return fail


def test_unexpected_error_is_one_line(fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check.command, "callback", broken(ZeroDivisionError("a\nb")))
    line = fails("check", "m.onnx")
    assert line == "nbcnn: error: ZeroDivisionError: a b (unexpected; run with --debug to see where)"


@pytest.mark.parametrize("args", [("--debug", "check", "m.onnx"), ("check", "m.onnx", "--debug")])
def test_debug_shows_the_traceback(cli: Cli, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]) -> None:
    monkeypatch.setattr(check.command, "callback", broken(ZeroDivisionError("oh")))
    result = cli(*args)
    assert result.exit_code == 1
    assert "Traceback" in result.stderr and "in fail" in result.stderr


def test_ctrl_c_is_one_line(fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check.command, "callback", broken(KeyboardInterrupt()))
    assert fails("check", "m.onnx", code=130) == "nbcnn: error: interrupted"


def test_out_of_memory_is_one_line(fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check.command, "callback", broken(MemoryError()))
    assert "out of memory" in fails("check", "m.onnx")


def test_closed_pipe_is_quiet() -> None:
    command = " ".join(f"'{part}'" for part in [*MAIN, "train", "--help"])
    process = subprocess.run(
        ["bash", "-c", f"{command} | true"], capture_output=True, text=True, check=False, timeout=60
    )
    assert process.stderr == ""


def test_entry_point_is_the_program() -> None:
    assert program.name == "nbcnn"
