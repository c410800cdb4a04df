"""What the documents say: the README's Python examples run, commands and options exist, and so do paths and links."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import onnx.defs
import pytest

import nbcnn
from nbcnn.cli.main import program

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    ROOT / name
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/architecture.md",
        "docs/gpu.md",
        "docs/benchmarks.md",
    )
]
OPERATORS = ROOT / "docs" / "operators.md"

# Where a path that a document names may begin, beside the root.
BASES = [ROOT, ROOT / "nbcnn", ROOT / "nbcnn" / "kernels"]
PATH = re.compile(r"`((?:nbcnn|tests|bench|docs|cpu)/[\w./]*)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")

# What CONTRIBUTING.md's worked example tells its reader to extend.
ANCHORS = {
    "nbcnn/kernels/contract.py": ["KERNELS"],
    "nbcnn/kernels/cpu/elementwise.py": ["def _apply(", "def _apply_grad("],
    "nbcnn/ops/__init__.py": ["FAMILIES"],
    "nbcnn/ops/elementwise.py": ["SPECS"],
    "tests/ops/test_elementwise.py": ["UNARY"],
    "tests/test_reference.py": ["ELEMENTWISE_CASES"],
    "tests/test_reference_onnx.py": ["PLAIN"],
    "tests/test_reference_torch.py": ["def test_derivatives_at_kinks("],
}


def blocks(document: Path, language: str) -> list[str]:
    """The document's code blocks in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def shell_lines() -> Iterator[list[str]]:
    """The words of every command in the shell blocks of the README and of the document on benchmarks."""
    for block in blocks(DOCUMENTS[0], "sh") + blocks(DOCUMENTS[-1], "sh"):
        yield from filter(None, (shlex.split(line, comments=True) for line in block.splitlines()))


@pytest.fixture
def threads() -> Iterator[None]:
    """An example sets the number of threads, which is one for the whole process."""
    before = nbcnn.get_num_threads()
    yield
    nbcnn.set_num_threads(before)


def test_the_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: None) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    examples = blocks(DOCUMENTS[0], "python")
    assert len(examples) >= 5
    for number, code in enumerate(examples, 1):
        exec(compile(code, f"README.md, Python example {number}", "exec"), names)
    assert (tmp_path / "digits.onnx").is_file()


def test_what_the_python_examples_print(capsys: pytest.CaptureFixture[str]) -> None:
    """Comments behind a print say what it prints, as far as it is always the same."""
    model = nbcnn.zoo.lenet(size=8)
    text = "\n".join(blocks(DOCUMENTS[0], "python"))
    assert f"print(model.inputs)   # {model.inputs}" in text
    assert f"print(model.outputs)  # {model.outputs}" in text


def test_commands_and_their_options_exist() -> None:
    context = click.Context(program)
    seen = set()
    for words in shell_lines():
        if words[0] == "nbcnn":
            command = program.get_command(context, words[1])
            assert command is not None, words
            known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
            assert {word for word in words if word.startswith("--")} <= known, words
        else:
            assert words[:3] == ["python", "-m", "bench"], words
            assert (ROOT / "bench" / f"{words[3]}.py").is_file(), words
        seen.add((words[0], words[1]))
    assert {("nbcnn", name) for name in program.list_commands(context)} <= seen


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_paths_and_links_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    wrong = [path for path in PATH.findall(text) if not any((base / path).exists() for base in BASES)]
    for link in LINK.findall(text):
        target, _, anchor = link.partition("#")
        if target.startswith("http"):
            continue
        file = document if not target else document.parent / target
        if not file.exists() or (anchor and anchor not in anchors(file)):
            wrong.append(link)
    assert not wrong


def anchors(document: Path) -> set[str]:
    """The names by which a document's headings can be linked to."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("file", ANCHORS)
def test_the_worked_example_finds_what_it_extends(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert not [name for name in ANCHORS[file] if name not in text]


@pytest.fixture(scope="module")
def operators() -> ModuleType:
    """docs/operators.py."""
    spec = importlib.util.spec_from_file_location("docs_operators", OPERATORS.with_suffix(".py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_operators_is_that_of_the_engine(operators: ModuleType) -> None:
    text = OPERATORS.read_text(encoding="utf-8")
    written = re.search(r"ONNX up to opset (\d+)", text)
    assert written is not None
    newest = int(written[1])
    if newest > onnx.defs.onnx_opset_version():
        pytest.skip(f"the table was written with an onnx that knows opset {newest}, this one is older")
    assert text == operators.render(newest), "run `python docs/operators.py`"


def test_every_note_is_on_an_operator_that_the_engine_has(operators: ModuleType) -> None:
    assert not set(operators.NOTES) - {row[0] for row in operators.rows(onnx.defs.onnx_opset_version())}
