"""Broken configurations: every mistake is reported, each with its line, its key, what was found and expected.

``broken_configs.txt`` holds one after the other, each followed by exactly what is said about it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from syncd.config import load as config
from syncd.core.errors import ConfigError

SECRET = "not-to-be-seen"  # stands wherever the examples have a secret
EXAMPLES = Path(__file__).with_name("broken_configs.txt")


def _cases() -> dict[str, tuple[str, list[str]]]:
    """Title -> (configuration, problems)."""
    cases = {}
    for block in re.split(r"^=== ", EXAMPLES.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title, _, rest = block.partition("\n")
        text, _, problems = rest.partition("\n--- problems\n")
        assert title not in cases
        cases[title] = (text, problems.strip().split("\n"))
    return cases


CASES = _cases()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with what the broken configurations speak about."""
    (tmp_path / "watched" / "inner").mkdir(parents=True)
    (tmp_path / "mirror").mkdir()
    (tmp_path / "link").symlink_to("watched/inner")
    (tmp_path / "root").symlink_to("/")
    (tmp_path / "key").write_text(SECRET)
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "empty").touch()
    return tmp_path


@pytest.mark.parametrize("title", CASES)
def test_every_mistake_has_its_line_and_its_words(title: str, place: Path) -> None:
    """A broken file yields exactly the problems that stand below it, in the order of lines, and no secret."""
    text, expected = CASES[title]
    file = place / "config.yaml"
    file.write_text(text, encoding="utf-8")
    environ = {"HOME": str(place), "EMPTY": "", "SECRET": SECRET}

    with pytest.raises(ConfigError) as caught:
        config.load(str(file), environ)

    said = [str(problem) for problem in caught.value.problems]
    assert expected == [line.removeprefix(f"{file}:").replace(str(place), "{place}") for line in said]
    assert SECRET not in str(caught.value)


def test_the_examples_cover_every_key() -> None:
    """Each key that the schema knows is wrong in at least one example, so that its words have been read."""
    from syncd.config.reader import SECTIONS
    from syncd.config.values import keys

    wrong = {re.sub(r"\[\d+\]$", "", line.split(": ")[1]) for _, lines in CASES.values() for line in lines}
    wrong_keys = {key.rpartition(".")[2] for key in wrong}
    known = {key for section in SECTIONS.values() for key in keys(section)}
    assert known - wrong_keys == set()
