"""`syncd pending`."""

from __future__ import annotations

import json

from tests.unit.cli.answering import answering
from tests.unit.cli.home import Home


def test_each_line_begins_with_the_word_of_its_file(home: Home) -> None:
    """And how many there are beside those is told."""
    file = {"source": "docs", "path": "a", "state": "settling", "reason": "it is read in 2.0 s"}
    with answering(home, {"files": [file], "total": 3}) as heard:
        assert home.run("pending", "-n", "1").stdout.splitlines() == [
            "settling   docs:a: it is read in 2.0 s",
            "... and 2 more",
        ]
        assert json.loads(home.run("pending", "--json").stdout)["files"] == [file]
    assert [request["limit"] for request in heard] == [1, 100]
    with answering(home, {"files": [], "total": 0}):
        assert home.run("pending").stdout == "nothing waits\n"
