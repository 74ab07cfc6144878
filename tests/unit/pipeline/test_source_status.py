"""What scans report, and what no event tells."""

from __future__ import annotations

import pytest

from syncd.core.model import FileRef, FileStat, Source
from syncd.core.plan import Cause, Outcome, Refresh, Upload
from syncd.pipeline.source_status import EventCoverage, ScanResults, SourceStatus, WatchHandle


def found_quiet(settle: float, age_seconds: float) -> float:
    """For how many seconds a file that is so old has yet to be quiet."""
    now_ns = 10**18
    marked: list[float] = []
    sink = ScanResults(
        Source("docs", "/x", "store", settle_seconds=settle),
        SourceStatus(),
        mark=lambda ref, quiet: bool(marked.append(quiet)),
        gone=lambda ref: None,
        keep=lambda ref, recorded: None,
        now_ns=lambda: now_ns,
    )
    then = now_ns - int(age_seconds * 1e9)
    sink.found(FileRef("docs", "a"), FileStat(1, 1, 5, then, then), None)
    return marked[0]


@pytest.mark.parametrize(
    ("settle", "age_seconds", "expected"),
    [(2.0, 3600.0, 0.0), (2.0, 0.5, 1.5), (2.0, -3600.0, 2.0), (0.0, 0.0, 0.0)],
)
def test_a_found_file_settles_for_what_is_left(settle: float, age_seconds: float, expected: float) -> None:
    """An old file is read at once, a young one when it has been quiet, one from the future after settling."""
    assert found_quiet(settle, age_seconds) == pytest.approx(expected)


def test_without_a_watcher_everything_is_seen() -> None:
    """In a single pass there is no watcher: nothing is blind, and no watch has to be placed again."""
    assert WatchHandle().coverage() == EventCoverage()
    WatchHandle().rewatch()


def test_what_was_done_is_counted() -> None:
    """By the name of the action; only an upload or a copy makes an object."""
    news = SourceStatus()
    for now_ns, action in enumerate((Upload("new"), Upload("changed"), Refresh("touched"))):
        news.count(
            Outcome(
                action,
                10,
                {Cause.COPY: 1, Cause.DELTA: now_ns},
            ),
            2.0,
            now_ns,
        )
    assert news.actions == {"upload": 2, "refresh": 1}
    assert (news.bytes_sent, news.saved, news.uploaded_ns) == (30, {"copy": 3, "delta": 3}, 1)
    assert (news.delays.counts[1], news.delays.sum_seconds) == (2, 4.0)
