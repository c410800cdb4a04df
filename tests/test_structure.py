"""The shape of the source tree: who may import whom. Ruff holds what it can; here is what it cannot say."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "nbcnn"
LINKS = ("kernels", "onnx_io", "cli")

# The parts of nbcnn that a part may import; a part that is not listed may import anything but what CLOSED says.
OPEN_TO = {
    "errors": set(),
    "graph": {"errors", "filemap"},
    "memory": set(),
    "filemap": {"errors", "memory"},
    "geometry": {"errors"},
    "ops": {"binder", "errors", "graph", "geometry", "kernels", "memory", "ops", "parameter"},
    "onnx_io": {"arguments", "errors", "filemap", "graph", "geometry", "ops", "onnx_io"},
    "kernels": {"kernels"},
}
# The only parts that may import a part.
CLOSED = {
    "onnx_io": {"api", "backend", "cli", "onnx_io"},
    "cli": {"__main__", "cli"},
}
# ONNX's interface of a backend lies beside the files, and joins them to the engine as api.py does.
JOINING = {"onnx_io/backend.py": "backend"}
# The only parts that may import a package from outside.
OUTSIDE = {
    "click": {"cli"},
    "llvmlite": {"kernels"},
    "numba": {"kernels"},
    "onnx": {"backend", "onnx_io"},
    "rich": {"cli"},
    "torch": set(),
}


def part(file: Path) -> str:
    """The part of nbcnn that a file belongs to: "kernels" for nbcnn/kernels/cpu/conv.py, "graph" for nbcnn/graph.py."""
    path = file.relative_to(PACKAGE)
    return JOINING.get(path.as_posix(), path.parts[0].removesuffix(".py"))


def for_types_only(node: ast.AST) -> bool:
    """Whether this is an `if TYPE_CHECKING:`, whose body never runs."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imported(file: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import that may run; `from a import b` gives a.b, whether b is a module or not."""
    waiting: list[ast.AST] = [ast.parse(file.read_text(encoding="utf-8"), str(file))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:  # in nbcnn the linter bans relative ones
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        waiting.extend(node.orelse if for_types_only(node) else ast.iter_child_nodes(node))


def complaint(here: str, name: str) -> str | None:
    """What is wrong with part `here` importing `name`, if anything is."""
    top, _, rest = name.partition(".")
    if top != "nbcnn":
        return f"only {sorted(OUTSIDE[top])} may" if here not in OUTSIDE.get(top, {here}) else None
    there = rest.partition(".")[0]
    if here in OPEN_TO and there not in OPEN_TO[here]:
        return f"{here} may import only {sorted(OPEN_TO[here])} of nbcnn"
    if here not in CLOSED.get(there, {here}):
        return f"only {sorted(CLOSED[there])} may"
    return None


@pytest.mark.parametrize(
    ("here", "name", "allowed"),
    [
        ("graph", "nbcnn.errors.ModelError", True),
        ("graph", "nbcnn.ops.conv", False),
        ("kernels", "nbcnn.kernels.cpu.simd", True),
        ("kernels", "nbcnn.errors", False),
        ("kernels", "nbcnn", False),
        ("model", "nbcnn.onnx_io.importer", False),
        ("api", "nbcnn.onnx_io.importer", True),
        ("kernels", "numba.types", True),
        ("onnx_io", "numba", False),
        ("trainer", "numpy", True),
    ],
)
def test_complaint(here: str, name: str, allowed: bool) -> None:
    assert (complaint(here, name) is None) is allowed


def test_imported_sees_what_may_run(tmp_path: Path) -> None:
    file = tmp_path / "some.py"
    file.write_text(
        "if TYPE_CHECKING:\n    import a\nelse:\n    import b\ndef f():\n    from c.d import e as g\nfrom . import h\n"
    )
    assert set(imported(file)) == {(4, "b"), (6, "c.d.e")}


def test_imports_go_one_way() -> None:
    wrong = [
        f"{file.relative_to(ROOT)}:{line}: imports {name}: {problem}"
        for file in sorted(PACKAGE.rglob("*.py"))
        for line, name in imported(file)
        if (problem := complaint(part(file), name))
    ]
    assert not wrong, "\n".join(wrong)


def test_nobody_imports_through_the_links() -> None:
    files = [file for folder in ("nbcnn", "tests", "bench") for file in sorted((ROOT / folder).rglob("*.py"))]
    wrong = [
        f"{file.relative_to(ROOT)}:{line}: imports {name}: say nbcnn.{name}"
        for file in files
        for line, name in imported(file)
        if name.partition(".")[0] in LINKS
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.skipif((ROOT / "PKG-INFO").exists(), reason="a source distribution holds no links")
@pytest.mark.parametrize("name", LINKS)
def test_link_shows_the_code_at_the_top(name: str) -> None:
    assert (ROOT / name).readlink() == Path("nbcnn") / name
    assert (ROOT / name / "__init__.py").is_file()


def test_every_folder_of_the_package_is_a_package() -> None:
    """A folder without __init__.py would be left out of the wheel without a word."""
    folders = {file.parent for file in PACKAGE.rglob("*.py")}
    assert not [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()]
