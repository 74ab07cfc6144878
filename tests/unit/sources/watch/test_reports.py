"""What is reported gets through: filtered, merged, and owed if the daemon would not take it."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.core.model import Source
from syncd.core.patterns import Rules
from syncd.sources.watch.gaps import Gap, GapKind
from syncd.sources.watch.reports import WatchReports
from tests.unit.sources.watch.watch_rig import NAME, Listener


class Refusing(Listener):
    """A sink that takes nothing while `refuses`."""

    refuses = True

    def changed(self, source: str, path: str) -> None:
        if self.refuses:
            raise RuntimeError("no")
        super().changed(source, path)

    def rescan(self, source: str, subtree: str, reason: str) -> None:
        if self.refuses:
            raise RuntimeError("no")
        super().rescan(source, subtree, reason)


def reports(root: Path, sink: Listener, exclude: tuple[str, ...] = ()) -> WatchReports:
    return WatchReports([Source(name=NAME, root=str(root), store="s")], {NAME: Rules((), exclude)}, sink)


def test_changes_pass_at_once_and_doubts_together(tmp_path: Path) -> None:
    """A change is said when it is found; doubts are collected, and those inside others left out."""
    sink = Listener()
    found = reports(tmp_path, sink)
    found.changed(NAME, "", "top")
    found.changed(NAME, "a/b", "below")
    found.rescan(NAME, "a/b", "moved")
    found.rescan(NAME, "a", "moved")

    assert (sink.paths(), sink.subtrees()) == (["top", "a/b/below"], [])
    found.flush()
    assert sink.subtrees() == ["a"]
    found.flush()
    assert sink.subtrees() == ["a"]


def test_unwanted_files_are_not_passed(tmp_path: Path) -> None:
    """What the rules leave out is not worth a look."""
    sink = Listener()
    found = reports(tmp_path, sink, ("*.tmp",))
    found.changed(NAME, "a", "x.tmp")
    found.changed(NAME, "a", "x")

    assert sink.paths() == ["a/x"]


def test_folders_are_passed_where_they_are_carried(tmp_path: Path) -> None:
    """The folder of an entry is said by an empty name; the root is none."""
    sink = Listener()
    source = Source(name=NAME, root=str(tmp_path), store="s", exclude=("x/",), records_folders=True)
    for each in (source, replace(source, records_folders=False)):
        found = WatchReports([each], {NAME: Rules.of(each)}, sink)
        for directory, name in (("", ""), ("a", ""), ("a", "b/"), ("a/x", ""), ("", "x/")):
            found.changed(NAME, directory, name)
    assert sink.paths() == ["a/", "a/b/"]


def test_refused_change_becomes_a_doubt_that_is_kept_until_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing that a sink refused is forgotten: the whole source is owed until the sink takes that."""
    sink = Refusing()
    found = reports(tmp_path, sink)
    found.changed(NAME, "", "file")
    found.flush()
    found.flush()
    sink.refuses = False
    found.flush()

    assert sink.doubts == [(NAME, "", "a change could not be passed on")]
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


def test_alarm_is_logged_unless_part_of_a_larger_doubt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An unmounted file system with a thousand directories is one line, under its topmost directory."""
    sink = Listener()
    found = reports(tmp_path, sink)
    for path in ("mnt/a/b", "mnt", "mnt/a"):
        found.alarm(NAME, path, "unmounted")
    found.rescan(NAME, "other", "directory moved away")
    found.flush()
    found.flush()

    assert sink.subtrees() == ["mnt", "other"]
    assert [record.getMessage() for record in caplog.records] == ["source docs: mnt: unmounted, scanning it"]


def test_muted_findings_say_nothing(tmp_path: Path) -> None:
    """A reader that was given up is not heard any more."""
    sink = Listener()
    found = reports(tmp_path, sink)
    found.is_muted = True
    found.changed(NAME, "", "file")
    found.rescan(NAME, "", "why")
    found.flush()

    assert (sink.changes, sink.doubts) == ([], [])


def test_polled_source_is_said_once_for_each_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The same reason again is neither logged nor a new doubt; at the start there is no doubt at all."""
    sink = Listener()
    found = reports(tmp_path, sink)
    for reason, first in (("nfs4", True), ("nfs4", False), ("the root is missing", False)):
        found.polled(NAME, reason, first=first)
        found.flush()

    assert sink.doubts == [(NAME, "", "the root is missing")]
    assert len(caplog.records) == 2
    assert found.status({NAME: 0})[NAME].reason == "the root is missing"


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, GapKind.LIMIT), (errno.ENOMEM, GapKind.LIMIT), (errno.EACCES, GapKind.UNREADABLE),
        (errno.EPERM, GapKind.UNREADABLE), (errno.EIO, GapKind.OTHER),
    ],
)  # fmt: skip
def test_errors_are_told_apart(tmp_path: Path, number: int, kind: GapKind) -> None:
    """What the kernel said decides what helps: more watches, other rights, or a person who looks."""
    found = reports(tmp_path, Listener())
    found.unwatched(NAME, "a", OSError(number, "what it said"))
    gap = found.gaps[NAME].at("a")

    assert gap is not None
    assert gap.kind is kind


def test_directories_beyond_the_limit_are_counted_before_the_advice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The line about the limit counts all that could not be watched, a bounded step at a time."""
    for number in range(10):
        (tmp_path / f"a/{number}/x").mkdir(parents=True)
        (tmp_path / f"a/{number}/skip/x").mkdir(parents=True)
    sink = Listener()
    found = reports(tmp_path, sink, ("skip/",))
    found.unwatched(NAME, "a", OSError(errno.ENOSPC, ""))
    found.count(1)
    assert found.is_counting
    while found.is_counting:
        found.count(3)
    found.say_limits({NAME: 5})
    found.say_limits({NAME: 5})
    found.flush()

    assert sink.subtrees() == ["a"]
    (line,) = [record.getMessage() for record in caplog.records]
    assert "21 directories" in line
    assert "sysctl " in line
    status = found.status({NAME: 5})[NAME]
    assert (status.watches, status.directories, status.unwatched) == (5, 26, ("a",))


def test_counting_survives_what_vanished(tmp_path: Path) -> None:
    """A directory that is gone when it is counted counts as itself."""
    found = reports(tmp_path, Listener())
    found.gap(NAME, "gone", Gap(GapKind.LIMIT, "watch limit reached"))
    found.count(10)

    assert not found.is_counting
    assert found.status({NAME: 1})[NAME].directories == 2
