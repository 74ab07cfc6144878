"""A flush ends when what was known is in the store, and when waiting would not help."""

from __future__ import annotations

from tests.support.waiting import wait_until
from tests.unit.daemon.conftest import Home


def test_it_ends_with_what_was_known_and_says_what_was_done(home: Home) -> None:
    """Files that settle are hastened; a missing root, a pause and the end of the time are told."""
    home.content["sources"] = [
        home.source("docs", "watched", prefix="docs/", settle="1h"),
        home.source("away", "away", prefix="away/"),
    ]
    (home.root / "watched" / "a").write_text("x")
    made = home.start()
    wait_until("it is known", lambda: made._pipeline.store_runners["mirror"].workers.queue.dirty())
    answer = home.ask(command="flush", name="docs")
    assert (answer["files"], answer["left"], answer["failed"]) == (1, 0, 0)
    assert answer["actions"]["Upload"] == 1
    assert (answer["bytes_sent"], answer["kept_back"]) == (1, {})
    (home.root / "watched" / "b").write_text("x")
    answer = home.ask(command="flush", scan=True, seconds=60)
    assert answer["left"] == 0
    assert answer["kept_back"] == {"away": "the root is missing"}
    assert (home.root / "mirror" / "docs" / "b").exists()
    home.ask(command="pause", name="docs")
    (home.root / "watched" / "c").write_text("x")
    answer = home.ask(command="flush", name="docs", scan=True)
    assert (answer["files"], answer["left"]) == (1, 1)
    assert answer["kept_back"] == {"docs": "it is paused by the operator"}
    assert "not a number" in home.ask(command="flush", seconds="soon")["error"]
