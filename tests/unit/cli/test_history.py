"""`syncd history`."""

from __future__ import annotations

import json

from tests.unit.cli.answering import answering
from tests.unit.cli.home import Home


def test_the_newest_comes_last(home: Home) -> None:
    """As in a log; programs get the newest first."""
    at = "2026-01-31T12:00:00Z"
    first = {"at": at, "source": "docs", "path": "a", "action": "uploaded", "bytes": 5, "detail": "new"}
    second = {**first, "action": "deleted", "bytes": 0, "detail": "deleted locally"}
    with answering(home, {"actions": [second, first]}) as heard:
        assert home.run("history", "docs").stdout.splitlines() == [
            f"{at}  uploaded docs:a: 5 bytes, new",
            f"{at}  deleted  docs:a: deleted locally",
        ]
        assert json.loads(home.run("history", "--json", "-n", "7").stdout) == [second, first]
    assert [request["limit"] for request in heard] == [50, 7]
