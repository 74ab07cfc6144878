"""The watcher at work: real inotify, real threads, and a script that does to a folder what people do."""

from __future__ import annotations

import errno
import logging
import os
import random
import select
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import watchdog.observers.api

from syncd.core.model import Source
from syncd.core.patterns import Rules
from syncd.sources.watch.watcher import Watcher
from tests.unit.sources.watch.test_tree import surgery
from tests.unit.sources.watch.watch_rig import (
    DEADLINE_SECONDS,
    NAME,
    Follower,
    Listener,
    eventually,
    following,
    walk,
    watching,
)

# ---- life and death ---------------------------------------------------------------------------------------


def test_watches_are_in_place_when_start_returns(root: Path) -> None:
    """Nothing that happens after `start` has returned is missed, however deep."""
    (root / "a/b/c/d").mkdir(parents=True)
    with watching(root) as watch:
        assert watch.status().watches == 5
        (root / "a/b/c/d/file").touch()

        assert watch.listener.hears("a/b/c/d/file")


def test_several_sources_share_one_descriptor(tmp_path: Path) -> None:
    """Every source is reported under its own name; all of them take one inotify instance."""
    roots = {name: str(tmp_path / name) for name in ("one", "two", "three")}
    for each in roots.values():
        os.mkdir(each)
    with watching(roots) as watch:
        links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_open(fd)]
        for name, each in roots.items():
            Path(each, f"of-{name}").touch()

        assert all(watch.listener.hears(f"of-{name}", source=name) for name in roots)
        assert sum("inotify" in link for link in links) == 1


def _is_open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


def test_directory_that_moves_to_another_source(tmp_path: Path) -> None:
    """What moves from one source into another leaves the one and is reported, file by file, by the other."""
    roots = {name: str(tmp_path / name) for name in ("one", "two")}
    (tmp_path / "one/a/b").mkdir(parents=True)
    (tmp_path / "one/a/b/file").touch()
    (tmp_path / "two").mkdir()
    with watching(roots) as watch:
        (tmp_path / "one/a").rename(tmp_path / "two/a")

        assert watch.listener.hears("a/b/file", source="two")
        assert watch.listener.doubts_of("a", source="one")
        assert eventually(lambda: (watch.status("one").watches, watch.status("two").watches) == (1, 3))
        (tmp_path / "two/a/b/later").touch()
        assert watch.listener.hears("a/b/later", source="two")


def test_stop_ends_both_threads_and_the_descriptor(root: Path) -> None:
    """After `stop` no thread and no descriptor is left, and nothing is alive."""
    threads, descriptors = set(threading.enumerate()), set(os.listdir("/proc/self/fd"))
    with watching(root) as watch:
        begun = set(threading.enumerate()) - threads
        assert sorted(thread.name for thread in begun) == ["syncd-watch", "syncd-watch-frame"]
    assert [thread for thread in begun if thread.is_alive()] == []
    assert set(os.listdir("/proc/self/fd")) <= descriptors
    assert watch.watcher.is_alive(1.0) is False
    assert (watch.status().mode, watch.status().reason) == ("polling", "stopped")


def test_stop_before_start_and_twice_is_harmless(root: Path) -> None:
    """A watcher that never ran, or ran, can be stopped."""
    watcher = Watcher(
        [Source(name=NAME, root=str(root), store="s")], {NAME: Rules((), ())}, Listener(),
    )  # fmt: skip
    watcher.stop()
    watcher.start()
    watcher.stop()
    watcher.stop()

    assert watcher.status()[NAME].reason == "stopped"


def test_restart_places_everything_anew_and_doubts_everything(root: Path) -> None:
    """After `restart` events arrive, and every source has been given up for scanning."""
    (root / "a").mkdir()
    with watching(root) as watch:
        watch.watcher.restart()

        assert watch.listener.subtrees() == [""]
        assert watch.watcher.is_alive(DEADLINE_SECONDS)
        (root / "a/file").touch()
        assert watch.listener.hears("a/file")


class PoisonedRules(Rules):
    """Rules that fail when they are told to: an error in the reader that was not foreseen."""

    poisoned = False

    def wants_file(self, path: str) -> bool:
        if self.poisoned:
            raise RuntimeError("poisoned")
        return super().wants_file(path)


def test_exception_in_the_reader_is_noticed_and_healed(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """W2: a reader that died says so, in `is_alive`, in `status` and in the log; `restart` heals it."""
    rules = PoisonedRules((), ())
    with watching(root, rules=rules) as watch:
        rules.poisoned = True
        (root / "file").touch()

        assert eventually(lambda: not watch.watcher.is_alive(DEADLINE_SECONDS))
        assert (watch.status().mode, watch.status().unwatched) == ("polling", ("",))
        assert "poisoned" in watch.status().reason
        assert eventually(lambda: any(record.exc_info for record in caplog.records))
        assert [record.levelno for record in caplog.records if record.exc_info] == [logging.CRITICAL]

        rules.poisoned = False
        watch.watcher.restart()
        assert watch.listener.subtrees() == [""]
        assert watch.watcher.is_alive(DEADLINE_SECONDS)
        (root / "later").touch()
        assert watch.listener.hears("later")


def test_rewatch_of_a_dead_reader_returns(root: Path) -> None:
    """No caller waits without end for a thread that has ended."""
    rules = PoisonedRules((), ())
    with watching(root, rules=rules) as watch:
        rules.poisoned = True
        (root / "file").touch()
        assert eventually(lambda: not watch.watcher.is_alive(DEADLINE_SECONDS))

        watch.watcher.rewatch(NAME)

        assert watch.status().mode == "polling"


def test_hanging_sink_is_noticed_and_left_behind(root: Path) -> None:
    """A reader that hangs in the sink is not alive; what it says after a restart is not heard."""

    class Hanging(Listener):
        hangs = True

        def changed(self, source: str, path: str) -> None:
            if self.hangs:
                reached.set()
                assert released.wait(60)
            super().changed(source, path)

    reached, released = threading.Event(), threading.Event()
    ear = Hanging()
    with watching(root, listener=ear) as watch:
        (root / "one").touch()
        assert reached.wait(DEADLINE_SECONDS)
        (root / "two").touch()

        assert watch.watcher.is_alive(0.2) is False
        ear.hangs = False
        watch.watcher.restart()
        assert watch.watcher.is_alive(DEADLINE_SECONDS)
        old = [thread for thread in threading.enumerate() if thread.name == "syncd-watch"]
        released.set()
        assert eventually(lambda: sum(thread.is_alive() for thread in old) == 1)
        (root / "three").touch()
        assert ear.hears("three")
        assert "two" not in ear.paths()


def test_exceptions_of_the_sink_do_not_end_the_reader(root: Path) -> None:
    """W10: what the sink did not take is owed as a doubt, and delivered once it takes it."""

    class Failing(Listener):
        fails = True
        refused = 0

        def changed(self, source: str, path: str) -> None:
            if self.fails:
                self.refused += 1
                raise RuntimeError("full")
            super().changed(source, path)

        def rescan(self, source: str, subtree: str, reason: str) -> None:
            if self.fails:
                self.refused += 1
                raise RuntimeError("full")
            super().rescan(source, subtree, reason)

    ear = Failing()
    with watching(root, listener=ear) as watch:
        (root / "one").touch()
        assert eventually(lambda: ear.refused >= 2)
        ear.fails = False
        (root / "two").touch()

        assert ear.hears("two")
        assert ear.doubts_of("")
        assert watch.watcher.is_alive(DEADLINE_SECONDS)


def test_sink_may_ask_for_a_rewatch(root: Path) -> None:
    """`rewatch` from within the sink does not wait for the thread that it is called by."""

    class Asking(Listener):
        watcher: Watcher

        def changed(self, source: str, path: str) -> None:
            self.watcher.rewatch(source)
            super().changed(source, path)

    ear = Asking()
    with watching(root, listener=ear) as watch:
        ear.watcher = watch.watcher
        (root / "one").touch()
        assert ear.hears("one")
        assert watch.has_heard_everything()
        (root / "two").touch()
        assert ear.hears("two")


def test_canary_that_cannot_be_placed_is_no_alarm(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a canary the thread alone is asked; that is said once."""
    monkeypatch.setattr(os, "memfd_create", refuse)
    with watching(root) as watch:
        assert [watch.watcher.is_alive(DEADLINE_SECONDS) for _ in range(3)] == [True] * 3
        assert sum("canary" in record.getMessage() for record in caplog.records) == 1


def refuse(name: str) -> int:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_idle_costs_no_wakeups(root: Path) -> None:
    """With 1,000 directories watched and nothing happening neither of the threads wakes up."""
    for number in range(1_000):
        (root / f"d{number}").mkdir()

    def switches() -> dict[str, int]:
        counts = {}
        for task in os.listdir("/proc/self/task"):
            text = Path(f"/proc/self/task/{task}/status").read_text()
            fields = dict(line.split(":", 1) for line in text.splitlines())
            if int(task) in ours:
                counts[task] = int(fields["voluntary_ctxt_switches"])
        return counts

    with watching(root) as watch:
        assert watch.status().watches == 1_001
        ours = {each.native_id for each in threading.enumerate() if each.name.startswith("syncd-watch")}
        assert watch.has_heard_everything()
        assert eventually(lambda: set(_states(ours)) == {"S"})
        is_quiet = False
        while not is_quiet:  # another test that mounts something wakes everybody who listens for that
            with open("/proc/self/mountinfo") as mounts:
                mounts.read()
                told = select.poll()
                told.register(mounts, select.POLLPRI)
                before = switches()
                threading.Event().wait(3.0)  # the measurement itself: what happens while nothing happens
                after = switches()
                is_quiet = not told.poll(0)

    assert (len(before), after) == (2, before)


def _states(tasks: set[int | None]) -> list[str]:
    return [Path(f"/proc/self/task/{task}/stat").read_text().rpartition(")")[2].split()[0] for task in tasks]


def test_frame_is_watchdogs(root: Path) -> None:
    """The threads are watchdog's observer and an emitter of ours, of the version that is installed."""
    with watching(root):
        threads = {each.name: each for each in threading.enumerate() if each.name.startswith("syncd-watch")}

        assert isinstance(threads["syncd-watch-frame"], watchdog.observers.api.BaseObserver)
        assert isinstance(threads["syncd-watch"], watchdog.observers.api.EventEmitter)


# ---- W1: overflow -----------------------------------------------------------------------------------------


def test_overflow_is_counted_said_and_made_good(root: Path, outside: Path) -> None:
    """W1: three times the queue while the reader stands still; then all is in doubt, and nothing is blind."""

    class Slow(Follower):
        def changed(self, source: str, path: str) -> None:
            if path == "stop":
                reached.set()
                assert released.wait(60)
            super().changed(source, path)

    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    reached, released = threading.Event(), threading.Event()
    for name in ("old", "gone/sub", "dead/sub"):
        (root / name).mkdir(parents=True)
    follower = Slow(str(root))
    try:
        with watching(root, listener=follower) as watch:
            (root / "stop").touch()
            assert reached.wait(DEADLINE_SECONDS)
            for number in range(limit):  # created, modified, closed: three events each
                fd = os.open(root / f"old/{number}", os.O_CREAT | os.O_WRONLY)
                os.write(fd, b"x")
                os.close(fd)
            for number in range(100):
                (root / f"new/{number}/x").mkdir(parents=True)
            (root / "old").rename(root / "renamed")
            (root / "gone").rename(outside / "gone")
            shutil.rmtree(root / "dead")
            released.set()

            assert follower.doubts_of("", seconds=60)
            assert follower.is_right(120), list(follower.errors())[:5]
            assert watch.status().overflows >= 1
            assert watch.watches_exactly(str(root))
            assert watch.status().mode == "events"
            probes = [f"new/{number}/x/probe" for number in range(100)] + ["renamed/probe"]
            for probe in probes:
                (root / probe).touch()
            assert follower.hears(*probes)
            assert watch.watcher.is_alive(DEADLINE_SECONDS)
    finally:
        released.set()
        follower.close()


# ---- W3, W12, W20: nothing is missed ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_surgery_at_full_speed(root: Path, outside: Path, seed: int) -> None:
    """W3: random changes, as fast as they go; then all is known and each directory's probe is heard."""
    for name in "abcd":
        (root / name / name).mkdir(parents=True)
    with following(root) as (watch, follower):
        surgeons = [
            threading.Thread(target=_operate, args=(random.Random(f"{seed} {number}"), root, outside))
            for number in range(2)
        ]
        for surgeon in surgeons:
            surgeon.start()
        for surgeon in surgeons:
            surgeon.join()

        assert follower.is_right(), follower.errors()
        assert watch.watches_exactly(str(root))
        probes = [os.path.relpath(os.path.join(each, "probe"), root) for each, _, _ in os.walk(root)]
        for probe in probes:
            (root / probe).touch()
        assert follower.hears(*probes)
        assert (watch.status().overflows, [r for *_, r in follower.doubts if "lost track" in r]) == (0, [])


def _operate(chance: random.Random, root: Path, outside: Path) -> None:
    for _ in range(400):
        surgery(chance, root, outside)


def _each_level(root: Path) -> None:
    for number in range(100):
        path = root / f"{number}/b/c"
        path.mkdir(parents=True)
        for level in (path, path.parent, path.parent.parent):
            (level / "file").write_text("x")


def _nested_chain(root: Path) -> None:
    path = root
    for number in range(150):
        path = path / f"d{number}"
        path.mkdir()
        (path / "file").write_text("x")


def _create_rename_write(root: Path) -> None:
    for number in range(150):
        old, new = root / f"old{number}", root / f"new{number}"
        old.mkdir()
        (old / "before").write_text("x")
        old.rename(new)
        (new / "sub").mkdir()
        (new / "after").write_text("x")
        (new / "sub/after").write_text("x")


def _nested_renames(root: Path) -> None:
    for number in range(60):
        path = root / f"n{number}"
        (path / "a/b").mkdir(parents=True)
        (path / "a/b/file").write_text("x")
        (path / "a/b").rename(path / "a/c")
        (path / "a").rename(path / "d")
        path.rename(root / f"m{number}")
        (root / f"m{number}/d/c/later").write_text("x")


def _copy_tree(root: Path) -> None:
    _each_level(root / "first")
    shutil.copytree(root / "first", root / "second")


def _untar(root: Path) -> None:
    packed = root.parent / "packed"
    _each_level(packed)
    with tarfile.open(root.parent / "packed.tar", "w") as archive:
        archive.add(packed, arcname="packed")
    subprocess.run(["tar", "-xf", root.parent / "packed.tar", "-C", root], check=True)


def _move_in_and_append(root: Path) -> None:
    incoming = root.parent / "incoming"
    _each_level(incoming)
    incoming.rename(root / "here")
    for path in (root / "here").rglob("file"):
        with path.open("a") as file:
            file.write("more")


PATTERNS = [
    _each_level, _nested_chain, _create_rename_write, _nested_renames, _copy_tree, _untar,
    _move_in_and_append,
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.__name__.strip("_"))
def test_trees_created_quickly(root: Path, pattern: Callable[[Path], None]) -> None:
    """W12: of a tree that appears quickly every file is known as it is in the end, no directory is blind."""
    with following(root) as (watch, follower):
        pattern(root)

        assert follower.is_right(), follower.errors()
        assert watch.watches_exactly(str(root))
        assert watch.status().overflows == 0


def test_nothing_is_lost_while_watches_are_placed(root: Path) -> None:
    """W20: with a writer active through several starts, watches first and a scan afterwards miss nothing."""
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set() and number < 20_000:
            number += 1
            directory = root / f"{number % 40}/{number % 7}"
            directory.mkdir(parents=True, exist_ok=True)
            (directory / f"file{number % 900}").write_text(str(number))

    for _ in range(8):
        stop.clear()
        writer = threading.Thread(target=write)
        writer.start()
        try:
            with following(root) as (_, follower):
                assert eventually(lambda follower=follower: len(follower.paths()) > 20)
                stop.set()
                writer.join()
                assert follower.is_right(), follower.errors()
        finally:
            stop.set()
            writer.join()
        shutil.rmtree(root)
        root.mkdir()


# ---- W9, W13, W16, W17 ------------------------------------------------------------------------------------


def test_moved_out_edited_outside_and_the_name_used_again(root: Path, outside: Path) -> None:
    """W9: of two directories with the same name, one outside and one inside, only the one inside is heard."""
    (root / "a").mkdir()
    with watching(root) as watch:
        (root / "a").rename(outside / "a")
        assert watch.listener.doubts_of("a")
        (root / "a").mkdir()
        assert watch.watches_exactly(str(root))
        (outside / "a/outside").touch()
        (root / "a/inside").touch()

        assert watch.listener.hears("a/inside")
        assert watch.has_heard_everything()
        assert set(watch.listener.paths()) == {"a/inside"}


def test_our_own_reading_makes_no_events(root: Path) -> None:
    """W13: listing, statting and reading everything in a source is not reported, and not even heard."""
    for number in range(50):
        (root / f"d{number % 5}").mkdir(exist_ok=True)
        (root / f"d{number % 5}/f{number}").write_text("content")
    with watching(root) as watch:
        for path in walk(str(root)):
            assert (root / path).read_text() == "content"
        assert watch.has_heard_everything()

        assert (watch.listener.changes, watch.listener.doubts) == ([], [])


ODD_NAMES = [
    b"latin-\xe9", b"\xff\xfe", b"new\nline", b"tab\t", b" leading", b"trailing ",
    b"quote'\"", b"back\\slash",
    "snow \u2603".encode(), b"percent%20", b"#123", b"\x01\x7f", b"x" * 255,
]  # fmt: skip


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_names_that_are_not_text(root: Path, name: bytes) -> None:
    """W16: whatever the name of a file or a directory, it arrives decoded as Python decodes names."""
    path = os.fsdecode(name)
    with watching(root) as watch:
        os.mkdir(os.fsencode(root) + b"/d-" + name[:200])
        with open(os.fsencode(root) + b"/d-" + name[:200] + b"/" + name, "wb"):
            pass
        assert watch.listener.hears(f"d-{os.fsdecode(name[:200])}/{path}")

        os.rename(os.fsencode(root) + b"/d-" + name[:200], os.fsencode(root) + b"/e-" + name[:200])
        assert watch.listener.doubts_of(f"e-{os.fsdecode(name[:200])}")
        with open(os.fsencode(root) + b"/e-" + name[:200] + b"/" + name, "ab") as file:
            file.write(b"x")
        assert watch.listener.hears(f"e-{os.fsdecode(name[:200])}/{path}")


def test_no_false_alarm_during_a_storm_of_moves(root: Path, outside: Path) -> None:
    """W17: while directories move out one after the other the canary is heard each time."""
    for number in range(300):
        (root / f"d{number}/sub").mkdir(parents=True)
    with watching(root) as watch:
        storm = threading.Thread(
            target=lambda: [(root / f"d{n}").rename(outside / f"d{n}") for n in range(300)]
        )
        storm.start()
        alive = []
        while storm.is_alive():
            alive.append(watch.watcher.is_alive(DEADLINE_SECONDS))
        storm.join()
        alive.append(watch.watcher.is_alive(DEADLINE_SECONDS))

        assert set(alive) == {True}
        assert watch.watches_exactly(str(root))
        assert watch.status().overflows == 0
