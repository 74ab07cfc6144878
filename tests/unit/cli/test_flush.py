"""`syncd flush`: its exit code says whether everything is in the store."""

from __future__ import annotations

from typing import Any

import pytest

from syncd.cli import common
from tests.unit.cli.answering import answering
from tests.unit.cli.home import Home

NOTHING: dict[str, Any] = {
    "files": 0, "left": 0, "failed": 0, "kept_back": {}, "unreadable": 0,
    "actions": {"Upload": 0, "Copy": 0, "Refresh": 0, "Delete": 0}, "bytes_sent": 0, "bytes_saved": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("more", "code", "told"),
    [
        ({}, 0, "nothing to do; 0 bytes sent, 0 saved; 0 failed; 0 left"),
        ({"actions": NOTHING["actions"] | {"Upload": 2}, "bytes_sent": 5}, 0, "2 uploaded; 5 bytes sent"),
        ({"failed": 1}, common.EXIT_PARTLY, "1 failed"),
        ({"unreadable": 1}, common.EXIT_PARTLY, "nothing to do"),
        ({"kept_back": {"docs": "the root is missing"}}, common.EXIT_PARTLY, "docs: the root is missing"),
        ({"left": 3}, common.EXIT_UNSETTLED, "3 left"),
        ({"left": 3, "failed": 1}, common.EXIT_PARTLY, "1 failed; 3 left"),
        ({"left": 3, "kept_back": {"docs": "it is paused by the operator"}}, common.EXIT_UNSETTLED, "paused"),
    ],
)
def test_the_exit_code_says_what_came_of_it(home: Home, more: dict[str, Any], code: int, told: str) -> None:
    """A failure weighs more than what is left, since a failed file is left, too."""
    with answering(home, NOTHING | more) as heard:
        done = home.run("flush", "docs", "--timeout", "2s")
    assert (done.exit_code, told in done.output) == (code, True)
    assert heard[0] | {"command": "flush", "name": "docs", "seconds": 2.0, "scan": False} == heard[0]
