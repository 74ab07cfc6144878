"""`syncd pause`, and what all commands that need a daemon share."""

from __future__ import annotations

import os
from typing import Any

import pytest

from syncd.cli import common
from syncd.daemon.control import ControlServer
from tests.unit.cli.home import Home


def test_the_daemon_is_asked_and_its_answer_told(home: Home) -> None:
    """A name and a duration; without a daemon the exit code says so, and a wrong duration is wrong usage."""
    os.makedirs(home.settings.state_dir)
    assert home.run("pause").exit_code == common.EXIT_UNAVAILABLE
    heard: list[dict[str, Any]] = []

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        heard.append(request)
        return {"kind": "source", "name": "docs", "until": "2026-01-31T12:00:00Z", "was": False}

    server = ControlServer(home.settings.state_dir, answer)
    server.start()
    try:
        told = home.run("pause", "docs", "--for", "1h30m")
    finally:
        server.stop()
    assert told.output == "source docs: paused until 2026-01-31T12:00:00Z\n"
    assert heard[0] | {"command": "pause", "name": "docs", "seconds": 5400.0} == heard[0]
    wrong = home.run("pause", "--for", "2")
    assert wrong.exit_code == common.EXIT_USAGE
    assert "a duration with its unit" in wrong.stderr


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        ({"error": "no such source", "usage": True}, common.EXIT_USAGE),
        ({"error": "full"}, common.EXIT_FAILED),
    ],
)
def test_a_refusal_is_told_with_its_exit_code(home: Home, refusal: dict[str, Any], code: int) -> None:
    """A wrong name is wrong usage; what went wrong in the daemon is a failure."""
    os.makedirs(home.settings.state_dir)
    server = ControlServer(home.settings.state_dir, lambda request: refusal)
    server.start()
    try:
        done = home.run("pause", "dosc")
    finally:
        server.stop()
    assert (done.exit_code, done.stderr) == (code, f"syncd: {refusal['error']}\n")
