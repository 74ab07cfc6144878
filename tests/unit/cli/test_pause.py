"""`syncd pause`, and what all commands that need a daemon share."""

from __future__ import annotations

from typing import Any

import pytest

from syncd.cli import common
from tests.unit.cli.answering import answering
from tests.unit.cli.home import Home


def test_the_daemon_is_asked_and_its_answer_told(home: Home) -> None:
    """A name and a duration; without a daemon the exit code says so, and a wrong duration is wrong usage."""
    assert home.run("pause").exit_code == common.EXIT_UNAVAILABLE
    until = "2026-01-31T12:00:00Z"
    with answering(home, {"kind": "source", "name": "docs", "until": until, "was": False}) as heard:
        told = home.run("pause", "docs", "--for", "1h30m")
    assert told.output == f"source docs: paused until {until}\n"
    assert heard[0] | {"command": "pause", "name": "docs", "seconds": 5400.0} == heard[0]
    wrong = home.run("pause", "--for", "2")
    assert wrong.exit_code == common.EXIT_USAGE
    assert "a duration with its unit" in wrong.stderr


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        ({"error": "no such source", "usage": True}, common.EXIT_USAGE),
        ({"error": "the disk is full"}, common.EXIT_FAILED),
    ],
)
def test_a_refusal_is_told_with_its_exit_code(home: Home, refusal: dict[str, Any], code: int) -> None:
    """A wrong name is wrong usage; what went wrong in the daemon is a failure."""
    with answering(home, refusal):
        done = home.run("pause", "dosc")
    assert (done.exit_code, done.stderr) == (code, f"syncd: {refusal['error']}\n")
