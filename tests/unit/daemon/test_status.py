"""What status says: the interface, from the state alone or with what the daemon adds."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.core.model import Checkpoint, Failure, FileRef, FileStat, Fingerprint, Part, Recorded, Source
from syncd.core.plan import Cause
from syncd.daemon import status
from syncd.daemon.status import DaemonStatus, LiveSource, StoreReport, WatchStatus
from syncd.state.state import State

SOURCE = Source("docs", "/srv/docs", "nas")
A = FileRef("docs", "a")
STAT = FileStat(1, 2, 100, 3, 4)
PRINT = Fingerprint(bytes(range(16)), 100)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = State.open(str(tmp_path), now_ns=time.time_ns)
    yield state
    state.close()


def record(state: State, ref: FileRef = A) -> None:
    row = Recorded(STAT, PRINT, "dir:/mirror", ref.path, "etag-1", 1_700_000_000_123_456_789)
    state.commit(ref, row)


def begin(state: State, ref: FileRef = A) -> None:
    made = state.checkpoints.begin(Checkpoint(0, ref, "dir:/mirror", ref.path, PRINT, STAT, 40, "token", 5))
    state.checkpoints.set_upload_id(made.id, "upload-1")
    state.checkpoints.add_part(made.id, Part(1, 40, "etag", bytes(16), 7))


class Daemon:
    """A daemon that says what a test wants."""

    def __init__(self, **says: Any) -> None:
        self.says = says

    def daemon(self) -> DaemonStatus:
        return DaemonStatus(True, 42, 1.5, "ok", self.says.get("paused", {}))

    def pending(self) -> Mapping[str, int]:
        return self.says.get("pending", {})

    def deferred(self) -> Mapping[str, int]:
        return self.says.get("deferred", {})

    def in_flight(self) -> Sequence[tuple[FileRef, int, int]]:
        return self.says.get("in_flight", [])

    def rates(self) -> Mapping[FileRef, float]:
        return self.says.get("rates", {})

    def stores(self) -> Sequence[StoreReport]:
        return [StoreReport("nas", self.says.get("paused", {}).get("nas"), 7)]

    def source(self, name: str) -> LiveSource | None:
        watch = WatchStatus("events", 3, 0, None, ["deep"])
        return LiveSource("the root is missing", watch=watch) if name == "docs" else None


def test_it_is_the_interface(state: State) -> None:
    """Exactly the keys that the design promises, whatever else there is to say."""
    record(state)
    state.failures.record(Failure(FileRef("docs", "bad"), "no", 2, 1_700_000_000_000_000_000))
    begin(state, FileRef("docs", "big"))
    state.note_scan("docs", 1_700_000_000_999_999_999, 3)
    state.add_totals(bytes_sent=10, saved={Cause.DELTA: 20}, requests=30)
    assert json.loads(json.dumps(status.report([SOURCE], state, None).to_json())) == {
        "daemon": {"running": False, "pid": None, "uptime_seconds": None},
        "sources": [
            {
                "name": "docs",
                "path": "/srv/docs",
                "store": "nas",
                "files": {"recorded": 1, "pending": 1, "in_flight": 0, "failed": 1},
                "bytes": {"recorded": 100, "pending": 60},
                "last_scan": "2023-11-14T22:13:20Z",
                "last_scan_unseen": "",
                "skipped": {},
                "differing": 0,
                "differences": [],
                "last_audit": None,
                "audited": 0,
                "repaired": 0,
                "drift": 3,
            }
        ],
        "in_flight": [{"source": "docs", "path": "big", "bytes_done": 40, "bytes_total": 100}],
        "failures": [
            {
                "source": "docs",
                "path": "bad",
                "error": "no",
                "attempts": 2,
                "next_attempt": "2023-11-14T22:13:20Z",
            }
        ],
        "totals": {
            "bytes_sent": 10,
            "bytes_saved": 20,
            "requests": 30,
            "xattrs_left_out": 0,
            "by_cause": {
                name: {"bytes_sent": 0, "bytes_saved": 0}
                for name in ("resume", "touch", "copy", "adopt", "append")
            }
            | {"delta": {"bytes_sent": 10, "bytes_saved": 20}},
        },
    }


def test_a_state_without_anything_says_so(state: State) -> None:
    """Before the first scan: nothing, and no scan."""
    report = status.report([SOURCE, replace(SOURCE, name="other")], state, None).to_json()
    for source in report["sources"]:
        assert source["files"] == {"recorded": 0, "pending": 0, "in_flight": 0, "failed": 0}
        assert source["last_scan"] is None
    assert (report["in_flight"], report["failures"]) == ([], [])
    assert status.report([], state, None).to_json()["sources"] == []


def test_the_daemon_adds_what_only_it_knows(state: State) -> None:
    """Pending counts files that wait, in flight those that move; a file is in one of the two."""
    begin(state)
    live = Daemon(
        pending={"docs": 5},
        in_flight=[(A, 40, 100), (FileRef("docs", "b"), 0, 7)],
    )
    report = status.report([SOURCE], state, live).to_json()
    assert report["daemon"]["running"]
    assert (report["daemon"]["pid"], report["daemon"]["uptime_seconds"]) == (42, 1.5)
    (source,) = report["sources"]
    assert source["files"] == {"recorded": 0, "pending": 3, "in_flight": 2, "failed": 0}
    assert source["bytes"]["pending"] == 67
    assert source["waiting_for"] == "the root is missing"
    assert [item["bytes_done"] for item in report["in_flight"]] == [40, 0]
    assert source["watch"]["unwatched"] == ["deep"]
    assert report["stores"] == [{"name": "nas", "trouble": None, "requests": 7}]


def test_a_busy_daemon_asks_the_state_one_question(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many sources there are: each question lets others go first. None waits for a write."""
    record(state)
    sources = [replace(SOURCE, name=f"s{number}") for number in range(20)]
    asked: list[object] = []
    run, run_one = state._reader.run, state._reader.run_one
    monkeypatch.setattr(state._reader, "run", lambda query: asked.append(query) or run(query))
    monkeypatch.setattr(state._reader, "run_one", lambda query: asked.append(query) or run_one(query))
    assert state._writer is not None
    state.failures.record(Failure(A, "no", 1, 0))
    with state._writer._write_lock:
        told = status.report([SOURCE, *sources], state, Daemon(pending={"docs": 5}))
    assert (told.sources[0].files.recorded, len(asked)) == (1, 1)


def test_a_file_that_failed_is_not_pending_too(state: State) -> None:
    """It is tried again later; one that failed in a way that is not told waits like any other."""
    state.failures.record(Failure(A, "no", 1, 0))
    state.flush()
    (source,) = status.report([SOURCE], state, Daemon(pending={"docs": 2}, deferred={"docs": 2})).sources
    assert (source.files.pending, source.files.failed) == (1, 1)
    (source,) = status.report([SOURCE], state, Daemon(pending={"docs": 1}, deferred={"docs": 1})).sources
    assert source.files.pending == 0


def test_the_line_counts_what_the_report_counts(state: State) -> None:
    """Idle or at work, failures and paused stores behind it."""
    record(state)
    assert status.report([SOURCE], state, Daemon()).line() == "idle: 1 file recorded"
    state.failures.record(Failure(A, "no", 1, 0))
    state.flush()
    live = Daemon(pending={"docs": 5}, in_flight=[(A, 40, 100)], paused={"nas": "the disk is full"})
    line = status.report([SOURCE], state, live).line()
    assert line == "1 in flight, 4 pending, 1 failed; nas paused: the disk is full"


def test_a_file_between_two_counts_makes_no_negative_number(state: State) -> None:
    """The daemon is not stopped while it is asked."""
    report = status.report([SOURCE], state, Daemon(pending={}, in_flight=[(A, 0, 1)])).to_json()
    assert report["sources"][0]["files"]["pending"] == 0


def test_a_parked_failure_has_no_next_attempt(state: State) -> None:
    """It waits for a change, not for a time."""
    state.failures.record(Failure(A, "no", 9, 0))
    assert status.report([SOURCE], state, None).to_json()["failures"][0]["next_attempt"] is None


def test_failures_are_listed_up_to_a_bound_and_counted_in_full(state: State) -> None:
    """A million failures do not make a report of a gigabyte."""
    for number in range(status.MAX_FAILURES + 5):
        state.failures.record(Failure(FileRef("docs", f"f{number}"), "no", 1, 0))
    report = status.report([SOURCE], state, None).to_json()
    assert len(report["failures"]) == status.MAX_FAILURES
    assert report["sources"][0]["files"]["failed"] == status.MAX_FAILURES + 5


def test_names_that_are_no_text_are_shown_on_one_line(state: State) -> None:
    """The report is ASCII-clean JSON whatever the names are."""
    ref = FileRef("docs", "new\nline\udcff")
    state.failures.record(Failure(ref, "no", 1, 0))
    shown = status.report([SOURCE], state, None).to_json()["failures"][0]["path"]
    assert "\n" not in shown
    json.dumps(shown).encode()


def test_a_file_that_is_sent_has_its_rate_and_the_time_that_is_left(state: State) -> None:
    """As soon as there is a rate; the line for the manager has those of everything."""
    flying = [(A, 10, 110), (FileRef("docs", "b"), 0, 9)]
    report = status.report([SOURCE], state, Daemon(in_flight=flying, rates={A: 20.0}))
    shown = report.to_json()["in_flight"]
    assert [(item["bytes_per_second"], item["seconds_left"]) for item in shown] == [(20, 5), (None, None)]
    daemon = replace(report.daemon, bytes_per_second=2048, seconds_left=75)
    assert (
        replace(report, daemon=daemon).line().startswith("2 in flight, 0 pending, 2.0 KiB/s, 1 min 15 s left")
    )


@pytest.mark.parametrize("what", [("source", "docs"), ("store", "nas"), ("all", "")])
def test_a_pause_is_told_also_when_no_daemon_runs(state: State, what: tuple[str, str]) -> None:
    """It will hold when the daemon starts again. A daemon tells of a paused store at the store."""
    state.pause(*what, 0)
    (source,) = status.report([SOURCE], state, None).to_json()["sources"]
    assert source["paused"] == "by the operator, until it is resumed"
    (source,) = status.report([SOURCE], state, Daemon()).to_json()["sources"]
    assert (source["paused"] is not None) == (what[0] == "source")


def test_the_status_of_a_running_daemon_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    """All workers wait for it; what was written just now may be missing. Without a daemon nothing is."""
    with closing(State.open(str(tmp_path / "s"), now_ns=time.time_ns, monotonic=lambda: 0.0)) as state:
        record(state)
        before = state.commits
        state.failures.record(Failure(A, "no", 1, 0))
        told = status.report([SOURCE], state, Daemon(pending={}, in_flight=[]))
        assert (state.commits, told.failures) == (before, [])
        assert len(status.report([SOURCE], state, None).failures) == 1
