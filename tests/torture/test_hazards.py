"""The table of hazards is complete and true to the suite: `hazards.txt` says what it holds."""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]


def _table() -> dict[str, list[str]]:
    """Each line that names a hazard, and the names of its tests."""
    table: dict[str, list[str]] = {}
    tests: list[str] = []
    for line in (TESTS / "torture/hazards.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("    "):
            tests.append(line.strip())
        elif line and not line.startswith("#"):
            assert line not in table, line
            table[line] = tests = []
    return table


TABLE = _table()


@cache
def _tests_of_the_suite() -> Counter[str]:
    """How often each name of a test is defined: as a function, as a method, or by assignment."""
    found: Counter[str] = Counter()
    for path in TESTS.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        classes = [item for node in tree.body if isinstance(node, ast.ClassDef) for item in node.body]
        for node in [*tree.body, *classes]:
            if isinstance(node, ast.FunctionDef):
                found[node.name] += 1
            elif isinstance(node, ast.Assign):
                found.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return found


def test_every_hazard_is_listed_once() -> None:
    """An id is a letter and a number, and what follows says what goes wrong."""
    ids = [hazard.partition(": ")[0] for hazard in TABLE]
    assert len(set(ids)) == len(ids) == 74  # a hazard that leaves the catalogue leaves this number, too
    assert all(name[0] in "WSTCDUHO" and name[1:].isdigit() for name in ids)
    assert all(hazard.partition(": ")[2] for hazard in TABLE)


@pytest.mark.parametrize("hazard", TABLE)
def test_a_hazard_has_tests_and_they_exist(hazard: str) -> None:
    """At least one test, and each name leads to exactly one place of the suite."""
    names = TABLE[hazard]
    assert names
    assert not {name: _tests_of_the_suite()[name] for name in names if _tests_of_the_suite()[name] != 1}
    assert all(name.startswith("test_") for name in names)
