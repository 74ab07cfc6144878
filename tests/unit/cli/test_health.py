"""`syncd health`."""

from __future__ import annotations

from typing import Any

import pytest

from syncd.cli import common
from tests.unit.cli.answering import answering
from tests.unit.cli.home import Home


@pytest.mark.parametrize(
    ("answer", "arguments", "word", "code"),
    [
        ({"health": "ok", "ready": False}, (), "ok", 0),
        ({"health": "ok", "ready": False}, ("--ready",), "scanning", common.EXIT_FAILED),
        ({"health": "ok", "ready": True}, ("--ready",), "ok", 0),
        (
            {"health": "the watcher sees no events", "ready": True},
            (),
            "the watcher sees no events",
            common.EXIT_FAILED,
        ),
    ],
)
def test_health_is_a_word_and_an_exit_code(
    home: Home, answer: dict[str, Any], arguments: tuple[str, ...], word: str, code: int
) -> None:
    """For probes."""
    with answering(home, answer):
        done = home.run("health", *arguments)
    assert (done.exit_code, done.stdout) == (code, f"{word}\n")


def test_without_a_daemon_there_is_no_health(home: Home) -> None:
    """And no claim of one."""
    assert home.run("health").exit_code == common.EXIT_UNAVAILABLE
