"""The catalogue of remedies is true to the code: see `tests/remedies`. What it claims of the tests is proven
by `python -m tests.torture.remedies`, which takes longer than a run of the tests should.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.torture.remedies.catalogue import HAZARDS, REMEDIES
from tests.torture.remedies.kinds import Remedy

PROJECT = Path(__file__).resolve().parents[3]

every_remedy = pytest.mark.parametrize(
    "remedy", REMEDIES, ids=[f"{remedy.hazard}-{number}" for number, remedy in enumerate(REMEDIES)]
)


@pytest.mark.parametrize("hazard", HAZARDS)
def test_every_hazard_is_met(hazard: str) -> None:
    """Each hazard that counts has at least one remedy that can be taken away."""
    assert any(remedy.hazard == hazard for remedy in REMEDIES), HAZARDS[hazard]


@every_remedy
def test_a_remedy_is_where_it_is_said_to_be(remedy: Remedy) -> None:
    """What would be taken away stands in its file once, and what would stand there instead is Python."""
    assert remedy.hazard in HAZARDS
    assert remedy.edits
    for edit in remedy.edits:
        text = (PROJECT / edit.file).read_text(encoding="utf-8")
        assert text.count(edit.old) == 1, f"{edit.file}: {edit.old!r}"
        assert edit.new != edit.old
        if edit.file.endswith(".py"):
            ast.parse(text.replace(edit.old, edit.new))


@every_remedy
def test_the_tests_of_a_remedy_exist(remedy: Remedy) -> None:
    """Every id leads to a test function."""
    assert remedy.tests
    for name in remedy.tests:
        path, *inside = name.split("::")
        assert inside, name
        assert tuple(inside) in _functions(path), name


@cache
def _functions(path: str) -> frozenset[tuple[str, ...]]:
    """Names of the tests in a file: functions, methods of classes, and what is made by assignment."""
    tree = ast.parse((PROJECT / path).read_text(encoding="utf-8"))
    found: set[tuple[str, ...]] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            found.add((node.name,))
        elif isinstance(node, ast.ClassDef):
            found.update((node.name, item.name) for item in node.body if isinstance(item, ast.FunctionDef))
        elif isinstance(node, ast.Assign):
            found.update((target.id,) for target in node.targets if isinstance(target, ast.Name))
    return frozenset(found)
