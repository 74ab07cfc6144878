"""What only the running daemon knows reaches the status."""

from __future__ import annotations

import os

import pytest

from syncd.daemon import live
from tests.support.waiting import wait_until
from tests.unit.daemon.conftest import Home


def test_status_is_answered_while_it_runs(home: Home) -> None:
    """With everything that only the daemon knows."""
    (home.root / "watched" / "a").write_text("x")
    os.mkfifo(home.root / "watched" / "pipe")
    made = home.start()
    home.arrives("a")
    wait_until("it is scanned", lambda: made._pipeline.source_runners["docs"].first_scan_done.is_set())
    wait_until("it is counted", lambda: sum(made._live.measured().delays["docs"].counts))  # after it arrived
    report = home.ask(command="status")
    facts = report["daemon"]
    assert (facts["running"], facts["pid"], facts["health"]) == (True, os.getpid(), "ok")
    assert (len(facts["bytes_by_minute"]), sum(facts["bytes_by_minute"])) == (60, 1)
    measured = made._live.measured()
    assert (sum(measured.delays["docs"].counts), measured.answers) == (1, {"mirror": {}})  # no HTTP to a disk
    (source,) = report["sources"]
    assert source["skipped"] == {"fifo": 1}
    assert source["watch"]["mode"] == "events"
    assert source["waiting_for"] is None
    assert (source["deletes_parked"], source["deletes_reason"]) == (0, None)


def test_a_root_that_the_unit_hides_is_told_with_the_directive(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason may be our own sandbox, not the disk."""
    monkeypatch.setattr(live, "hidden_by", lambda path: "PrivateTmp=")
    (home.root / "watched").rmdir()
    made = home.start()
    wait_until("it waits", lambda: made._pipeline.source_runners["docs"].news.waiting_for)
    waiting_for = home.ask(command="status")["sources"][0]["waiting_for"]
    assert waiting_for == "the root is missing (hidden by the unit's PrivateTmp=)"


def test_a_paused_store_is_in_the_status_and_in_the_managers_line(home: Home) -> None:
    """Why nothing is sent is one command away."""
    made = home.start()
    wait_until("it is scanned", lambda: made._pipeline.source_runners["docs"].first_scan_done.is_set())
    (home.root / "mirror").rename(home.root / "unplugged")
    for number in range(10):
        (home.root / "watched" / f"f{number}").write_text(str(number))
    wait_until("it is paused", lambda: home.ask(command="status")["daemon"]["stores_paused"])
    assert "is missing" in home.ask(command="status")["daemon"]["stores_paused"]["mirror"]
    assert "mirror paused" in made._line()
    (home.root / "unplugged").rename(home.root / "mirror")
    made._pipeline.store_runners["mirror"].workers.queue.reopen()
