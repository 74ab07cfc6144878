"""What goes wrong around the watcher, and is made good: a deaf reader, no room for watches, an early scan."""

from __future__ import annotations

import os
import select
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from syncd.core.patterns import Rules
from syncd.pipeline.pipeline import Pipeline
from syncd.sources.directories import names_in
from syncd.sources.watch.inotify import Inotify, Record
from syncd.sources.watch.watcher import Watcher
from tests.support.waiting import wait_until
from tests.unit.daemon.test_daemon import Home
from tests.unit.sources.watch.watch_rig import DEADLINE_SECONDS, Stepper, apart, watching


def test_a_reader_that_hears_nothing_is_not_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W2: the thread runs and answers, but no event comes through: the canary tells, and a restart heals."""
    root = tmp_path / "root"
    root.mkdir()
    with watching(root) as watch:
        assert watch.watcher.is_alive(DEADLINE_SECONDS)
        with monkeypatch.context() as patch:

            def deaf(kernel: Inotify) -> list[Record]:
                os.read(kernel.fileno(), 1 << 16)
                return []

            patch.setattr(Inotify, "read", lambda kernel: deaf(kernel) if has_records(kernel) else [])
            assert watch.watcher.is_alive(1.2) is False
        watch.watcher.restart()

        assert watch.watcher.is_alive(DEADLINE_SECONDS)
        (root / "file").touch()
        assert watch.listener.hears("file")


def has_records(kernel: Inotify) -> bool:
    """Whether a read would not block."""
    poll = select.poll()
    poll.register(kernel.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def test_the_broken_release_of_watchdog_is_excluded() -> None:
    """W2: the release whose reader dies on a plain mkdir cannot be installed with us."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    (watchdog,) = [
        need for need in map(Requirement, project["dependencies"]) if need.name.lower() == "watchdog"
    ]

    assert [watchdog.specifier.contains(release) for release in ("6.0.0", "7.0.0", "7.1.0")] == [
        True, False, True,
    ]  # fmt: skip


def test_a_full_queue_is_counted_and_puts_everything_in_doubt(tmp_path: Path) -> None:
    """W1: more records than the kernel keeps: all is scanned, the status counts, nothing stays blind."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    root = tmp_path / "root"
    root.mkdir()
    stepper = Stepper(root)
    try:
        one, other = root / "one", root / "other"
        one.touch()
        for _ in range(limit // 2):  # two records each, and never the same twice
            one.rename(other)
            one, other = other, one
        os.mkdir(root / "lost")
        stepper.catch_up()

        assert stepper.listener.subtrees() == [""]
        assert stepper.status.overflows == 1
        assert stepper.watches == 2
    finally:
        stepper.close()


# ---- W4, W11: no room for watches --------------------------------------------------------------------------


def test_a_daemon_beyond_the_watch_limit_finds_everything(tmp_path: Path) -> None:
    """W4: where the kernel gives no watches the daemon polls: every file arrives, and the status says so."""
    told = apart("daemon_beyond_the_watch_limit", tmp_path)

    assert told["watches"] in (19, 20)  # the canary may take one
    assert told == told | {"scanned": True, "found": True, "has_gaps": True, "names_the_line": True}


def test_the_log_does_not_grow_with_the_tree(tmp_path: Path) -> None:
    """W11: two thousand directories without a watch, side by side and nested, are a few lines."""
    told = apart("log_at_the_limit", tmp_path)

    assert told["alive"] is True
    assert 1 <= int(str(told["lines"])) <= 4
    assert int(str(told["bytes"])) < 2000


# ---- W12, W20: in which order ------------------------------------------------------------------------------


def test_a_new_directory_is_listed_until_it_is_stable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W12: what comes while a directory is listed, and is missed by that listing, is in the next one."""
    (tmp_path / "before").touch()
    os.utime(tmp_path, (1, 1))
    really = os.scandir
    listings: list[int] = []

    class Late:
        """A listing that was read before something came."""

        def __init__(self, descriptor: int) -> None:
            with really(descriptor) as entries:
                self.entries = list(entries)
            listings.append(descriptor)
            if len(listings) == 1:
                (tmp_path / "late").touch()
                (tmp_path / "late directory").mkdir()

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            return iter(self.entries)

        def __exit__(self, *error: object) -> None:
            """Nothing is open."""

    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        monkeypatch.setattr(os, "scandir", Late)
        found = {*names_in(fd)}
    finally:
        monkeypatch.undo()
        os.close(fd)

    assert found == {"late directory/", "before", "late"}
    assert len(listings) == 2


def test_watches_are_placed_before_the_first_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W20: no keeper has begun when the watcher starts, and all watches are in place when it has."""
    began: list[list[bool]] = []
    really = Watcher.start

    def start(watcher: Watcher) -> None:
        pipeline = watcher._sink
        assert isinstance(pipeline, Pipeline)
        really(watcher)
        began.append([runner._started for runner in pipeline.source_runners.values()])

    monkeypatch.setattr(Watcher, "start", start)
    home = Home(tmp_path)
    (tmp_path / "watched" / "file").write_text("x")
    try:
        home.start()
        home.arrives("file")
        wait_until("it rests", home.daemon._pipeline.idle)
    finally:
        home.close()

    assert began == [[False]]


def test_start_returns_when_the_watches_are_in_place(tmp_path: Path) -> None:
    """W20: however long that takes; who scans next would otherwise run ahead of them."""

    class Slow(Rules):
        def wants_directory(self, path: str) -> bool:
            time.sleep(0.05)
            return super().wants_directory(path)

    (tmp_path / "root/a/b/c/d").mkdir(parents=True)
    with watching(tmp_path / "root", rules=Slow((), ())) as watch:
        assert watch.status().watches == 5


def test_a_root_that_came_back_is_told_of_when_it_is_watched(tmp_path: Path) -> None:
    """W20: a scan that ran ahead of the watches would miss what changes behind it, so the doubt waits."""
    root, away = tmp_path / "root", tmp_path / "away"
    for number in range(200):
        (root / f"d{number}/below").mkdir(parents=True)
    stepper = Stepper(root)
    try:
        root.rename(away)
        stepper.catch_up()
        assert stepper.status.reason == "the root is missing"
        stepper.listener.forget()
        away.rename(root)
        stepper._emitter.tick()
        while not stepper.listener.doubts:
            assert stepper.step() or stepper.listener.doubts

        assert stepper.listener.subtrees() == [""]
        assert stepper.watches == 401
    finally:
        stepper.close()
