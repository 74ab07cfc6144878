"""What the command line may ask of a running daemon."""

from __future__ import annotations

from tests.support.waiting import wait_until
from tests.unit.daemon.conftest import Home


def test_the_operators_words_arrive(home: Home) -> None:
    """Deletions that wait go, an accepted root is taken; for an unknown source it is said so."""
    home.content["sources"][0] |= {"on_delete": "delete", "max_delete": 0}
    (home.root / "watched" / "a").write_text("x")
    (home.root / "watched" / "b").write_text("y")
    made = home.start()
    home.arrives("a")
    home.arrives("b")
    (home.root / "watched" / "a").unlink()
    runner = made._pipeline.source_runners["docs"]
    wait_until("it waits", lambda: runner.news.deletes_parked == 1)
    assert home.ask(command="allow-deletes", source="docs") == {"allowed": 1}
    wait_until("it is gone", lambda: not (home.root / "mirror" / "a").exists())
    (home.root / "watched").rename(home.root / "old")
    (home.root / "watched").mkdir()
    (home.root / "watched" / "c").write_text("z")
    wait_until("it waits", lambda: "--accept-root docs" in runner.news.waiting_for)
    assert "--accept-root docs" in home.ask(command="status")["sources"][0]["waiting_for"]
    assert home.ask(command="accept-root", source="docs") == {"accepted": True}
    home.arrives("c")
    for command in ("allow-deletes", "accept-root"):
        assert "knows no such source" in home.ask(command=command, source="dosc")["error"]
    assert "unknown command" in home.ask(command="nonsense")["error"]
