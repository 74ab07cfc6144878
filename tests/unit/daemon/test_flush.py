"""A flush ends when what was known is in the store, and when waiting would not help."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from syncd.core.errors import StoreRefused
from syncd.daemon import control, flush
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


def test_a_file_that_failed_stays_and_is_counted_once(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that failed, and not as one that waits, too."""
    made = home.start()

    def refuse(ref: object, **_: object) -> None:
        raise StoreRefused("no")

    monkeypatch.setattr(made._pipeline.store_runners["mirror"].engine, "sync", refuse)
    (home.root / "watched" / "a").write_text("x")
    wait_until("it fails", lambda: made._pipeline.state.failures.count())
    wait_until("it is scanned", made._pipeline.source_runners["docs"].first_scan_done.is_set)
    assert flush.stayed(made._pipeline) == (1, {})
    answer = home.ask(command="flush")
    assert (answer["left"], answer["waiting"], answer["failed"]) == (1, 0, 1)


@pytest.mark.parametrize("scan", [False, True])
def test_it_ends_when_nobody_waits_for_it(home: Home, scan: bool) -> None:
    """One who hung up keeps no conversation."""
    home.content["sources"] = [home.source("docs", "watched")]
    made = home.start()
    queue = made._pipeline.store_runners["mirror"].workers.queue
    queue.pause(3600.0)  # a store that is away is waited for, for a minute
    (home.root / "watched" / "a").write_text("x")
    wait_until("it is known", queue.dirty)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.connect(str(home.root / "run" / control.NAME))
        peer.sendall(json.dumps({"command": "flush", "scan": scan}).encode() + b"\n")
        peer.shutdown(socket.SHUT_WR)
        wait_until("it is heard", peers)
    wait_until("it ends", lambda: not peers())


def peers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "control-peer"]
