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


def test_without_a_daemon_the_state_answers(home: Home) -> None:
    """For those who let a timer call `syncd sync`; a store means all its sources."""
    home.content["sources"] += [{"name": "more", "path": "./more", "store": "mirror", "prefix": "more/"}]
    home.content["sources"][0]["prefix"] = "docs/"
    (home.root / "more").mkdir()
    assert home.run("history").exit_code == 0
    for path in (home.watched / "a", home.root / "more" / "b"):
        path.write_text(path.name)
        home.run("sync")

    def listed(*name: str) -> list[str]:
        return [line.split("  ")[1] for line in home.run("history", *name).stdout.splitlines()]

    both = ["uploaded docs:a: 1 byte, new", "uploaded more:b: 1 byte, new"]
    assert listed() == listed("mirror") == both
    assert listed("more") == listed(f"{home.root}/more/b") == both[1:]
    assert (home.run("history", "nope").exit_code, home.run("history", "/nope").exit_code) == (2, 1)
