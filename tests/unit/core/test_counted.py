"""Counts agree with their nouns and verbs, everywhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import syncd
from syncd.core.words import counted

NOUNS = {"file": "files", "deleted file": "deleted files", "unreadable directory": "unreadable directories"}
NOUNS |= {"watch": "watches", "object": "objects", "more object": "more objects"}
VERBS = {"": "", "is": "are", "was": "were", "has": "have", "waits": "wait"}
SOURCES = sorted(Path(syncd.__file__).parent.rglob("*.py"))
BY_HAND = re.compile(
    r"""(?:\{(?![^{}]*(?:M(?:AX|OST)_|max_parts|digests|total|number_of|len\(now))[^{}]*\}|%d)\ (?:[a-z]+\ )?
    (?:files|objects|uploads|parts|names|directories|folders|deletions|attempts|sources|stores|errors
    |requests|attributes|differences|notes|watches)\b""",
    re.VERBOSE,
)
"""A number before a plural, but for bounds, which are above one."""


@given(st.integers(0, 10**9), st.sampled_from(sorted(NOUNS)), st.sampled_from(sorted(VERBS)))
def test_only_one_is_singular(count: int, noun: str, verb: str) -> None:
    """Nothing is plural, as in `0 files are`; the form is that of the number alone."""
    words = f"{noun} {verb}" if count == 1 else f"{NOUNS[noun]} {VERBS[verb]}"
    assert counted(count, noun, verb) == f"{count} {words}".rstrip()
    assert counted(count, noun, verb, ",") == f"{count:,} {words}".rstrip()


@pytest.mark.parametrize(
    ("text", "found"), [("f'{a} files'", True), ("'%d open uploads'", True), ("{MAX_A} files", False)]
)
def test_what_is_looked_for_is_found(text: str, found: bool) -> None:
    """In texts of both forms."""
    assert bool(BY_HAND.search(text)) == found


def test_no_text_has_a_plural_of_its_own() -> None:
    """Whatever may be one goes through `counted`."""
    found = [
        f"{path.name}:{number}: {line.strip()}"
        for path in SOURCES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if BY_HAND.search(line)
    ]
    assert found == []
