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
from syncd.daemon.control import Asks, ControlServer
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
    assert not status.of_everything(home.options)["daemon"]["running"]
    totals = {"bytes_sent": 0, "bytes_saved": 0, "requests": 0}
    empty: dict[str, Any] = {"sources": [], "in_flight": [], "failures": [], "totals": totals}
    for answer, running, error in (
        ({"daemon": {"running": True}, **empty}, True, "None"),
        ({"daemon": {"running": True}}, False, "cannot be read"),
        ({"error": "busy"}, False, "busy"),
    ):
        server = ControlServer(home.settings.state_dir, lambda request, asks, answer=answer: answer)
        server.start()
        daemon = status.of_everything(home.options)["daemon"]
        server.stop()
        assert (daemon["running"], error in str(daemon.get("error"))) == (running, True)


def test_a_daemon_that_hangs_does_not_hang_the_command(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while the state answers instead."""
    os.makedirs(home.settings.state_dir)
    release = threading.Event()

    def hang(request: dict[str, Any], asks: Asks) -> dict[str, Any]:
        release.wait(30)
        return {}

    server = ControlServer(home.settings.state_dir, hang)
    server.start()
    monkeypatch.setattr(control, "_SECONDS", 0.2)
    assert "timed out" in str(status.of_everything(home.options)["daemon"]["error"])
    release.set()
    monkeypatch.setattr(control, "_SECONDS", 30.0)
    server.stop()


def test_a_state_that_may_not_be_read_is_an_error(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not an empty answer."""

    def refuse(directory: str) -> None:
        raise StateError("the state directory cannot be read")

    monkeypatch.setattr(common, "open_state", refuse)
    with pytest.raises(StateError):
        status.of_everything(home.options)


def test_of_one_file_it_says_one_word_first(home: Home) -> None:
    """Then why; with --json the same word is data. A path that is in no source is an error."""
    file = home.watched / "a"
    file.write_text("x")
    home.run("sync")
    shown = home.run("status", str(file))
    assert shown.exit_code == 0
    assert shown.stdout.startswith("stored     docs: as a since 20")
    told = json.loads(home.run("status", str(file), "--json").stdout)
    assert (told["state"], told["recorded"]["size"]) == ("stored", 1)
    missing = home.run("status", str(home.watched / "b")).stdout
    assert missing == "unknown    docs: there is no such file, and nothing is recorded\n"
    elsewhere = home.run("status", "/etc/host\x1b[2J")
    assert (elsewhere.exit_code, elsewhere.stderr) == (
        1,
        "syncd: /etc/host\\x1b[2J is in no source of the configuration\n",
    )


def test_watching_shows_it_again_and_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --json, one line each time, until the end."""
    shown = iter(range(2))

    def sleep(seconds: float) -> None:
        if next(shown, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr(status.time, "sleep", sleep)
    done = home.run("status", "--watch", "--json")
    assert done.exit_code == 130
    assert [json.loads(line)["daemon"]["running"] for line in done.stdout.splitlines()] == [False] * 3
