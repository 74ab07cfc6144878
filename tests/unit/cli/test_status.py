"""`syncd status`: of everything, and of one file."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

import pytest

from syncd.cli import common, status
from syncd.core.errors import StateError
from syncd.daemon import control
from syncd.daemon.control import ControlServer
from tests.unit.cli.home import Home


def test_status_is_for_people_or_for_programs(home: Home) -> None:
    """A table, or JSON."""
    (home.watched / "a").write_text("x")
    home.run("sync")
    shown = home.run("status")
    assert shown.exit_code == 0
    assert "daemon: not running" in shown.stdout
    assert json.loads(home.run("status", "--json").stdout)["sources"][0]["files"]["recorded"] == 1


def test_the_status_comes_from_the_daemon_where_one_answers(home: Home) -> None:
    """Else from the state; an answer that makes no sense is an error of the daemon."""
    os.makedirs(home.settings.state_dir)
    assert not status.of_everything(home.settings).daemon.running
    empty: dict[str, Any] = {"sources": [], "in_flight": [], "failures": [], "totals": {}}
    for answer, running, error in (
        ({"daemon": {"running": True}, **empty}, True, "None"),
        ({"daemon": {"running": True}}, False, "cannot be read"),
        ({"error": "busy"}, False, "busy"),
    ):
        server = ControlServer(home.settings.state_dir, lambda request, answer=answer: answer)
        server.start()
        daemon = status.of_everything(home.settings).daemon
        server.stop()
        assert (daemon.running, error in str(daemon.error)) == (running, True)


def test_a_daemon_that_hangs_does_not_hang_the_command(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while the state answers instead."""
    os.makedirs(home.settings.state_dir)
    release = threading.Event()

    def hang(request: dict[str, Any]) -> dict[str, Any]:
        release.wait(30)
        return {}

    server = ControlServer(home.settings.state_dir, hang)
    server.start()
    monkeypatch.setattr(control, "_SECONDS", 0.2)
    assert "timed out" in str(status.of_everything(home.settings).daemon.error)
    release.set()
    monkeypatch.setattr(control, "_SECONDS", 30.0)
    server.stop()


def test_one_file_is_found_by_its_path(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absolute, relative, through a link to its directory; a file in no source is not found."""
    (home.root / "watched" / "d").mkdir()
    (home.root / "watched" / "d" / "a").write_text("x")
    (home.root / "link").symlink_to(home.root / "watched" / "d")
    assert home.run("sync").exit_code == 0
    monkeypatch.chdir(home.root)
    for path in (str(home.root / "watched/d/a"), "watched/d/../d/a", "link/a"):
        found = status.of_path(home.settings, path)
        assert found is not None
        assert (found["path"], found["recorded"]["size"]) == ("d/a", 1)
    assert status.of_path(home.settings, "mirror/d/a") is None


def test_a_state_that_may_not_be_read_is_an_error(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not an empty answer."""
    settings = home.settings

    def refuse(directory: str) -> None:
        raise StateError("the state directory cannot be read")

    monkeypatch.setattr(common, "open_state", refuse)
    with pytest.raises(StateError):
        status.of_everything(settings)


def test_of_one_file_it_speaks_in_sentences(home: Home) -> None:
    """Or, with --json, as data; a path that is in no source is an error."""
    file = home.watched / "a"
    file.write_text("x")
    home.run("sync")
    shown = home.run("status", str(file))
    assert shown.exit_code == 0
    assert shown.stdout.startswith("stored: docs:a is stored as a since 20")
    assert "null" not in shown.stdout
    assert json.loads(home.run("status", str(file), "--json").stdout)["recorded"]["size"] == 1
    assert home.run("status", str(home.watched / "b")).stdout == "unknown: nothing is recorded about docs:b\n"
    elsewhere = home.run("status", "/etc/hostname")
    assert (elsewhere.exit_code, elsewhere.stderr) == (
        1,
        "syncd: /etc/hostname is in no source of the configuration\n",
    )


RECORDED = {"key": "d/a", "etag": "e", "size": 5, "xxh128": "ff", "since": "2026-01-31T12:34:56Z"}
UNFINISHED = {"bytes_done": 5, "bytes_total": 9}
FAILURE = {"error": "no", "attempts": 3}


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({}, ["unknown"]),
        ({"recorded": RECORDED}, ["stored"]),
        ({"unfinished": UNFINISHED}, ["uploading"]),
        ({"failure": FAILURE}, ["failed"]),
        (
            {"recorded": RECORDED, "unfinished": UNFINISHED, "failure": FAILURE},
            ["failed", "uploading", "stored"],
        ),
    ],
)
def test_a_sentence_starts_with_the_word_of_the_file(known: dict[str, Any], words: list[str]) -> None:
    """What needs attention comes first, and every number is said."""
    found = {"source": "docs", "path": "d/a", "recorded": None, "unfinished": None, "failure": None, **known}
    lines = list(status.sentences(found))
    assert [line.partition(":")[0] for line in lines if not line.startswith(" ")] == words
    text = "\n".join(lines)
    assert "docs:d/a" in text
    assert ("5 of 9 bytes" in text) == ("uploading" in words)
    assert ("3 times" in text) == ("failed" in words)


def test_output_into_a_pipe_is_not_folded(home: Home) -> None:
    """Only a terminal has a width: a program reads whole lines."""
    deep = home.root / ("a-long-name-of-a-directory" * 8)
    deep.mkdir()
    home.content["sources"][0]["path"] = str(deep)
    for columns in ("80", "20"):
        home.environ["COLUMNS"] = columns
        assert f"docs: {deep} to store mirror" in home.run("status").stdout.splitlines()
