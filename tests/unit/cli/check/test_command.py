"""`syncd check`: which checks run, what it prints and the exit code."""

from __future__ import annotations

import json
import os

import pytest

from syncd.cli.check.command import check
from syncd.storage.dir.store import DirStore
from tests.unit.cli.home import Home


def test_check_tells_each_finding(home: Home) -> None:
    """Lines for people, JSON for programs; thorough tries everything, and nothing is left in the store."""
    shown = home.run("check")
    assert shown.exit_code == 0
    assert "ok   mirror: writable" in shown.stdout
    thorough = json.loads(home.run("check", "--thorough", "--json").stdout)["checks"]
    assert len(thorough) > len(shown.stdout.splitlines())
    assert not any(row["passed"] is False for row in thorough)
    assert [path for path in os.listdir(home.mirror) if path != ".syncd"] == []


def test_check_has_the_exit_code_of_the_worst_store_error(home: Home) -> None:
    """A directory that is not there is a store that cannot be reached."""
    settings = home.settings
    home.mirror.rmdir()
    found: list[tuple[str, bool | None, str]] = []
    assert check(settings, lambda *row: found.append(row), thorough=False) == 69
    assert any(name == "store mirror" and passed is False for name, passed, _ in found)
    assert "FAIL store mirror" in home.run("check").stdout


def test_check_says_what_is_unusual_about_a_directory_store(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As notes: a share is no fault."""
    monkeypatch.setattr(DirStore, "remarks", lambda self: ["names are cut"])
    shown = home.run("check")
    assert shown.exit_code == 0
    assert "note mirror: file system: names are cut" in shown.stdout


def test_check_may_be_quiet(home: Home) -> None:
    """For a service that only wants the exit code."""
    assert home.run("check", "--config-only", "-q").output == ""
    assert "is right" in home.run("check", "--config-only").output
    assert json.loads(home.run("check", "--config-only", "--json").stdout)["checks"][0]["passed"]
