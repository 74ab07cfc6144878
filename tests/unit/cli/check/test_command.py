"""`syncd check`: which checks run, what it prints and the exit code."""

from __future__ import annotations

import json
import os

from syncd.cli.check.command import check
from tests.unit.cli.home import Home


def test_check_tells_each_finding(home: Home) -> None:
    """For a person a line each, for a program JSON; thorough tries everything."""
    shown = home.run("check")
    assert shown.exit_code == 0
    assert "ok   mirror: writable" in shown.stdout
    thorough = json.loads(home.run("check", "--thorough", "--json").stdout)["checks"]
    assert len(thorough) > len(shown.stdout.splitlines())
    assert not any(row["passed"] is False for row in thorough)


def test_check_of_a_store_that_is_not_there_is_69(home: Home) -> None:
    """With the mark that it failed."""
    home.mirror.rmdir()
    done = home.run("check")
    assert (done.exit_code, "FAIL store mirror" in done.stdout) == (69, True)


def test_check_may_be_quiet(home: Home) -> None:
    """For a service that only wants the exit code."""
    assert home.run("check", "--config-only", "-q").output == ""
    assert "is right" in home.run("check", "--config-only").output


def test_check_passes_where_everything_is_right(home: Home) -> None:
    """And leaves nothing in the store."""
    found: list[tuple[str, bool | None]] = []
    code = check(home.settings, lambda name, passed, detail: found.append((name, passed)), thorough=False)
    assert code == 0
    assert ("mirror: writable", True) in found
    assert [path for path in os.listdir(home.root / "mirror") if path != ".syncd"] == []


def test_check_says_what_is_wrong_with_a_store_by_its_exit_code(home: Home) -> None:
    """A directory that is not there is a store that cannot be reached."""
    settings = home.settings
    (home.root / "mirror").rmdir()
    found: list[tuple[str, bool | None, str]] = []
    assert check(settings, lambda *row: found.append(row), thorough=False) == 69
    assert any(name == "store mirror" and passed is False for name, passed, _ in found)
