"""The house rules that a machine can keep: small rooms, every room tested, nothing unsaid, nothing local.

Which room may import which is the contract in ``pyproject.toml`` (import-linter).
"""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

PROJECT = Path(__file__).resolve().parent.parent
PACKAGE = PROJECT / "syncd"
TESTS = PROJECT / "tests"

LONG_MODULE_LINES = 500
"""The summary of a run names a longer module. It may be right: a module ends where its noun ends."""
FUNCTION_LINES = 50
"""Without the docstring."""
ENTRIES = 12
"""As many as a reader takes in at a glance; `syncd/cli` has one file for each command and may have more."""

Function = ast.FunctionDef | ast.AsyncFunctionDef

SOURCES = sorted(PACKAGE.rglob("*.py"))


def _name(path: Path) -> str:
    """``syncd/storage/base.py`` -> ``syncd.storage.base``; a package's ``__init__`` is the package."""
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _tracked() -> list[Path]:
    """The files that git tracks and that are there; in an unpacked archive all that came with it."""
    if not (PROJECT / ".git").exists():
        return [path for path in PROJECT.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    listed = subprocess.run(
        ["git", "-C", str(PROJECT), "ls-files", "-z"], capture_output=True, check=True, timeout=60
    )
    paths = [PROJECT / name.decode("utf-8", "surrogateescape") for name in listed.stdout.split(b"\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


every_module = pytest.mark.parametrize("path", SOURCES, ids=_name)


def test_there_is_a_house() -> None:
    """The rules below are about something: the modules that the map names are found."""
    assert {"syncd", "syncd.core.model", "syncd.core.errors", "syncd.storage.base"} <= set(
        map(_name, SOURCES)
    )


# ---- small rooms ------------------------------------------------------------------------------------------


def test_long_modules_are_named(figure: Callable[[str, object], None]) -> None:
    """The summary names each module that has outgrown a glance; nothing fails."""
    for path in SOURCES:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > LONG_MODULE_LINES:
            figure(f"lines in {_name(path)}", lines)


def test_folders_are_small() -> None:
    """A folder of the package has at most twelve entries beside its `__init__`."""
    entries: dict[Path, set[str]] = {}
    for path in _tracked():
        for entry, folder in pairwise((path, *path.parents)):
            if folder.is_relative_to(PACKAGE) and entry.name != "__init__.py":
                entries.setdefault(folder, set()).add(entry.name)

    assert entries.keys() >= {PACKAGE, PACKAGE / "core"}
    assert {
        str(folder.relative_to(PROJECT)): sorted(names)
        for folder, names in entries.items()
        if len(names) > ENTRIES and folder != PACKAGE / "cli"
    } == {}


def test_a_package_says_what_it_is_for_and_no_more() -> None:
    """Each `__init__` is one paragraph without code; the top one draws the picture and holds the version."""
    packages = {_name(path): _tree(path) for path in SOURCES if path.name == "__init__.py"}
    top = packages.pop("syncd")

    assert [ast.unparse(node).partition(" = ")[0] for node in top.body[1:]] == ["__version__"]
    assert [name for name, tree in packages.items() if len(tree.body) != 1] == []
    assert [name for name, tree in packages.items() if "\n\n" in (ast.get_docstring(tree) or "\n\n")] == []


def _lines(function: Function) -> int:
    """Lines of a function, decorators and docstring not counted."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def test_functions_are_small() -> None:
    """No function has more than 50 lines beside its docstring."""
    assert [
        f"{_name(path)}.{node.name}: {_lines(node)} lines"
        for path in SOURCES
        for node in ast.walk(_tree(path))
        if isinstance(node, Function) and _lines(node) > FUNCTION_LINES
    ] == []


# ---- every room tested ------------------------------------------------------------------------------------


@every_module
def test_values_are_structs(path: Path) -> None:
    """Making a dataclass takes thirty times as long as making a struct, and each command waits for it."""
    imported = [node for node in ast.walk(_tree(path)) if isinstance(node, ast.ImportFrom)]
    assert "dataclasses" not in {node.module for node in imported}


def test_every_module_has_a_test() -> None:
    """`syncd/a/b.py` is tested in `tests/unit/a/test_b.py`."""
    modules = [path.relative_to(PACKAGE) for path in SOURCES if not path.stem.startswith("__")]

    assert modules
    assert [
        f"{path} has no tests/unit/{path.with_name(f'test_{path.name}')}"
        for path in modules
        if not (TESTS / "unit" / path.with_name(f"test_{path.name}")).is_file()
    ] == []


# ---- nothing unsaid ---------------------------------------------------------------------------------------


@cache
def _protocols() -> tuple[frozenset[str], ...]:
    """What each protocol of the package declares, as names."""
    return tuple(
        frozenset(each.name for each in node.body if isinstance(each, Function))
        for path in SOURCES
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.ClassDef)
        and any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)
    )


def _is_said_elsewhere(method: str, owner: type) -> bool:
    """A stub of a protocol, or the implementation of what a base class or a protocol declares."""
    if getattr(owner, "_is_protocol", False) or any(method in vars(base) for base in owner.__mro__[1:]):
        return True
    return any(method in names and all(hasattr(owner, name) for name in names) for names in _protocols())


def _is_accessor(node: ast.stmt) -> bool:
    """A property's setter or deleter: its getter speaks for it."""
    decorators = node.decorator_list if isinstance(node, Function) else []
    return any(isinstance(each, ast.Attribute) and each.attr in ("setter", "deleter") for each in decorators)


def _undocumented(body: list[ast.stmt], owner: ModuleType | type) -> Iterator[str]:
    """Public classes and functions without a docstring, and the same inside public classes."""
    for node in body:
        if not isinstance(node, (ast.ClassDef, Function)) or node.name.startswith("_") or _is_accessor(node):
            continue
        is_method = isinstance(owner, type) and isinstance(node, Function)
        if ast.get_docstring(node) is None and not (is_method and _is_said_elsewhere(node.name, owner)):
            yield f"{owner.__name__}.{node.name}"
        if isinstance(node, ast.ClassDef):
            yield from _undocumented(node.body, getattr(owner, node.name))


@every_module
def test_everything_public_is_documented(path: Path) -> None:
    """Every public module, class, function and method says what it is for; a method that implements what a
    base class or a protocol declares is documented there."""
    if path.stem == "__main__":
        assert ast.get_docstring(_tree(path))
        return
    tree = _tree(path)
    module = importlib.import_module(_name(path))

    assert ast.get_docstring(tree)
    assert list(_undocumented(tree.body, module)) == []


# ---- nothing local ----------------------------------------------------------------------------------------


def _local(directory: str) -> re.Pattern[bytes]:
    """Finds an absolute path below this top directory, but not a longer path that only contains it."""
    return re.compile(rb"(?<![A-Za-z0-9_.~/}-])/" + directory.encode() + b"/")


WORKPLACE = _local("work")
ROOTS_HOME = _local("root")


def _is_local(line: bytes, content: bytes) -> bool:
    # ProtectHome= hides root's home on every machine: what is about that setting has to name it.
    return bool(WORKPLACE.search(line) or (ROOTS_HOME.search(line) and b"ProtectHome" not in content))


def test_no_path_of_one_machine() -> None:
    """No tracked file mentions a directory that only exists on one person's machine."""
    contents = {path: path.read_bytes() for path in _tracked()}
    assert Path(__file__).resolve() in contents

    found = [
        f"{path.relative_to(PROJECT)}:{number}: {line.decode(errors='replace').strip()}"
        for path, content in contents.items()
        for number, line in enumerate(content.splitlines(), start=1)
        if _is_local(line, content)
    ]

    assert found == []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("open('/{}/x')", True),
        ("see /{}/x", True),
        ("/{}/x", True),
        ("/home/me/{}/x", False),
        ("/proc/{{pid}}/{}/x", False),
        ("https://example.org/{}/x", False),
        ("~/{}/x", False),
        ("/{}s/x", False),
    ],
)
@pytest.mark.parametrize("directory", ["work", "root"])
def test_local_paths_are_recognised(line: str, directory: str, expected: bool) -> None:
    """A path from the top counts, one that only contains the same name further down does not."""
    assert expected == _is_local(line.format(directory).encode(), b"")
