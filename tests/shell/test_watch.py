"""The watcher at work: real inotify, real threads, and somebody who does to a folder what people do."""

from __future__ import annotations

import logging
import mmap
import os
import random
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import watchdog.observers.api

from syncd.model import Source
from syncd.paths import Rules
from syncd.watch import Watcher
from tests.shell.test_watchtree import surgery
from tests.shell.watch_rig import (
    DEADLINE_SECONDS,
    NAME,
    Follower,
    Listener,
    apart,
    eventually,
    exchange,
    following,
    look,
    walk,
    watching,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    directory = tmp_path / "root"
    directory.mkdir()
    return directory


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    directory = tmp_path / "outside"
    directory.mkdir()
    return directory


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


# ---- life and death ---------------------------------------------------------------------------------------


def test_watches_are_in_place_when_start_returns(root: Path, canary: Path) -> None:
    """Nothing that happens after `start` has returned is missed, however deep."""
    (root / "a/b/c/d").mkdir(parents=True)
    with watching(root, canary) as watch:
        assert watch.status().watches == 5
        (root / "a/b/c/d/file").touch()

        assert watch.listener.hears("a/b/c/d/file")


def test_several_sources_share_one_descriptor(tmp_path: Path, canary: Path) -> None:
    """Every source is reported under its own name, and all of them take one inotify instance and two threads."""
    roots = {name: str(tmp_path / name) for name in ("one", "two", "three")}
    for each in roots.values():
        os.mkdir(each)
    with watching(roots, canary) as watch:
        links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_open(fd)]
        for name, each in roots.items():
            Path(each, f"of-{name}").touch()

        assert all(watch.listener.hears(f"of-{name}", source=name) for name in roots)
        assert sum("inotify" in link for link in links) == 1


def _is_open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


def test_directory_that_moves_to_another_source(tmp_path: Path, canary: Path) -> None:
    """What moves from one source into another leaves the one and is reported, file by file, by the other."""
    roots = {name: str(tmp_path / name) for name in ("one", "two")}
    (tmp_path / "one/a/b").mkdir(parents=True)
    (tmp_path / "one/a/b/file").touch()
    (tmp_path / "two").mkdir()
    with watching(roots, canary) as watch:
        (tmp_path / "one/a").rename(tmp_path / "two/a")

        assert watch.listener.hears("a/b/file", source="two")
        assert watch.listener.doubts_of("a", source="one")
        assert eventually(lambda: (watch.status("one").watches, watch.status("two").watches) == (1, 3))
        (tmp_path / "two/a/b/later").touch()
        assert watch.listener.hears("a/b/later", source="two")


def test_stop_ends_both_threads_and_the_descriptor(root: Path, canary: Path) -> None:
    """After `stop` no thread and no descriptor is left, and nothing is alive."""
    threads, descriptors = set(threading.enumerate()), set(os.listdir("/proc/self/fd"))
    with watching(root, canary) as watch:
        begun = set(threading.enumerate()) - threads
        assert sorted(thread.name for thread in begun) == ["syncd-watch", "syncd-watch-frame"]
    assert [thread for thread in begun if thread.is_alive()] == []
    assert set(os.listdir("/proc/self/fd")) <= descriptors
    assert watch.watcher.is_alive(1.0) is False
    assert (watch.status().mode, watch.status().reason) == ("polling", "stopped")


def test_stop_before_start_and_twice_is_harmless(root: Path, canary: Path) -> None:
    """A watcher that never ran, or ran, can be stopped."""
    watcher = Watcher(
        [Source(name=NAME, root=str(root), store="s")], {NAME: Rules((), ())}, Listener(),
        canary_directory=str(canary),
    )  # fmt: skip
    watcher.stop()
    watcher.start()
    watcher.stop()
    watcher.stop()

    assert watcher.status()[NAME].reason == "stopped"


def test_restart_places_everything_anew_and_doubts_everything(root: Path, canary: Path) -> None:
    """After `restart` events arrive, and every source has been given up for scanning."""
    (root / "a").mkdir()
    with watching(root, canary) as watch:
        watch.watcher.restart()

        assert watch.listener.subtrees() == [""]
        assert watch.watcher.is_alive(DEADLINE_SECONDS)
        (root / "a/file").touch()
        assert watch.listener.hears("a/file")


class PoisonedRules(Rules):
    """Rules that fail when they are told to: an error in the reader that nobody foresaw."""

    poisoned = False

    def wants_file(self, path: str) -> bool:
        if self.poisoned:
            raise RuntimeError("poisoned")
        return super().wants_file(path)


def test_exception_in_the_reader_is_noticed_and_healed(
    root: Path, canary: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """W2: a reader that died says so at once, in `is_alive`, in `status` and in the log; `restart` heals it."""
    rules = PoisonedRules((), ())
    with watching(root, canary, rules=rules) as watch:
        rules.poisoned = True
        (root / "file").touch()

        assert eventually(lambda: not watch.watcher.is_alive(DEADLINE_SECONDS))
        assert (watch.status().mode, watch.status().unwatched) == ("polling", ("",))
        assert "poisoned" in watch.status().reason
        assert [record.levelno for record in caplog.records if record.exc_info] == [logging.CRITICAL]

        rules.poisoned = False
        watch.watcher.restart()
        assert watch.listener.subtrees() == [""]
        assert watch.watcher.is_alive(DEADLINE_SECONDS)
        (root / "later").touch()
        assert watch.listener.hears("later")


def test_rewatch_of_a_dead_reader_returns(root: Path, canary: Path) -> None:
    """Nobody waits for ever for a thread that has ended."""
    rules = PoisonedRules((), ())
    with watching(root, canary, rules=rules) as watch:
        rules.poisoned = True
        (root / "file").touch()
        assert eventually(lambda: not watch.watcher.is_alive(DEADLINE_SECONDS))

        watch.watcher.rewatch(NAME)

        assert watch.status().mode == "polling"


def test_hanging_sink_is_noticed_and_left_behind(root: Path, canary: Path) -> None:
    """A reader that hangs in the sink is not alive within the deadline; what it says after a restart is not heard."""

    class Hanging(Listener):
        hangs = True

        def changed(self, source: str, path: str) -> None:
            if self.hangs:
                reached.set()
                assert released.wait(60)
            super().changed(source, path)

    reached, released = threading.Event(), threading.Event()
    ear = Hanging()
    with watching(root, canary, listener=ear) as watch:
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


def test_exceptions_of_the_sink_do_not_end_the_reader(root: Path, canary: Path) -> None:
    """W10: what the sink did not take is owed as a doubt, and delivered once it takes it."""

    class Failing(Listener):
        fails = True
        refused = 0

        def changed(self, source: str, path: str) -> None:
            if self.fails:
                self.refused += 1
                raise RuntimeError("full")
            super().changed(source, path)

        def doubt(self, source: str, subtree: str, reason: str) -> None:
            if self.fails:
                self.refused += 1
                raise RuntimeError("full")
            super().doubt(source, subtree, reason)

    ear = Failing()
    with watching(root, canary, listener=ear) as watch:
        (root / "one").touch()
        assert eventually(lambda: ear.refused >= 2)
        ear.fails = False
        (root / "two").touch()

        assert ear.hears("two")
        assert ear.doubts_of("")
        assert watch.watcher.is_alive(DEADLINE_SECONDS)


def test_sink_may_ask_for_a_rewatch(root: Path, canary: Path) -> None:
    """`rewatch` from within the sink does not wait for the thread that it is called by."""

    class Asking(Listener):
        watcher: Watcher

        def changed(self, source: str, path: str) -> None:
            self.watcher.rewatch(source)
            super().changed(source, path)

    ear = Asking()
    with watching(root, canary, listener=ear) as watch:
        ear.watcher = watch.watcher
        (root / "one").touch()
        assert ear.hears("one")
        assert watch.has_heard_everything()
        (root / "two").touch()
        assert ear.hears("two")


def test_canary_that_cannot_be_placed_is_no_alarm(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a place for the canary the thread alone is asked; that is said once."""
    (tmp_path / "file").touch()
    with watching(root, tmp_path / "file/canary") as watch:
        assert [watch.watcher.is_alive(DEADLINE_SECONDS) for _ in range(3)] == [True] * 3
        assert sum("canary" in record.getMessage() for record in caplog.records) == 1


def test_canary_comes_back_after_its_directory_was_swept(root: Path, canary: Path) -> None:
    """A cleaner of temporary directories that takes the canary away makes no alarm."""
    with watching(root, canary) as watch:
        assert watch.watcher.is_alive(DEADLINE_SECONDS)
        shutil.rmtree(canary)

        assert watch.has_heard_everything()
        assert canary.is_dir()


def test_idle_costs_no_wakeups(root: Path, canary: Path) -> None:
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

    with watching(root, canary) as watch:
        assert watch.status().watches == 1_001
        ours = {each.native_id for each in threading.enumerate() if each.name.startswith("syncd-watch")}
        assert watch.has_heard_everything()
        assert eventually(lambda: set(_states(ours)) == {"S"})
        before = switches()
        threading.Event().wait(3.0)  # the measurement itself: what happens while nothing happens
        after = switches()

    assert (len(before), after) == (2, before)


def _states(tasks: set[int | None]) -> list[str]:
    return [
        Path(f"/proc/self/task/{task}/stat").read_text().rpartition(")")[2].split()[0] for task in tasks
    ]


def test_frame_is_watchdogs(root: Path, canary: Path) -> None:
    """The threads are watchdog's observer and an emitter of ours, of the version that is installed."""
    with watching(root, canary):
        threads = {each.name: each for each in threading.enumerate() if each.name.startswith("syncd-watch")}

        assert isinstance(threads["syncd-watch-frame"], watchdog.observers.api.BaseObserver)
        assert isinstance(threads["syncd-watch"], watchdog.observers.api.EventEmitter)


# ---- W1: overflow -----------------------------------------------------------------------------------------


def test_overflow_is_counted_said_and_made_good(root: Path, canary: Path) -> None:
    """W1: three times the queue while the reader stands still; then everything is in doubt, and nothing is blind."""

    class Slow(Follower):
        def changed(self, source: str, path: str) -> None:
            if path == "stop":
                reached.set()
                assert released.wait(60)
            super().changed(source, path)

    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    reached, released = threading.Event(), threading.Event()
    (root / "old").mkdir()
    follower = Slow(str(root))
    try:
        with watching(root, canary, listener=follower) as watch:
            (root / "stop").touch()
            assert reached.wait(DEADLINE_SECONDS)
            for number in range(3 * limit // 2):  # two events each
                os.close(os.open(root / f"old/{number}", os.O_CREAT | os.O_WRONLY))
            for number in range(100):
                (root / f"new/{number}/x").mkdir(parents=True)
            (root / "old").rename(root / "renamed")
            released.set()

            assert follower.doubts_of("")
            assert follower.is_right(60), list(follower.errors())[:5]
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
def test_surgery_at_full_speed(root: Path, outside: Path, canary: Path, seed: int) -> None:
    """W3: random changes of the tree as fast as they go; then all is known and each directory's probe is heard."""
    for name in "abcd":
        (root / name / name).mkdir(parents=True)
    with following(root, canary) as (watch, follower):
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
    with tarfile.open(root.parent / "packed.tar") as archive:
        archive.extractall(root, filter="data")


def _move_in_and_append(root: Path) -> None:
    incoming = root.parent / "incoming"
    _each_level(incoming)
    incoming.rename(root / "here")
    for path in (root / "here").rglob("file"):
        with path.open("a") as file:
            file.write("more")


PATTERNS = [
    _each_level, _nested_chain, _create_rename_write, _nested_renames, _copy_tree, _untar, _move_in_and_append,
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.__name__.strip("_"))
def test_trees_created_quickly(root: Path, canary: Path, pattern: Callable[[Path], None]) -> None:
    """W12: of a tree that appears quickly every file is known as it is in the end, and no directory is blind."""
    with following(root, canary) as (watch, follower):
        pattern(root)

        assert follower.is_right(), follower.errors()
        assert watch.watches_exactly(str(root))
        assert watch.status().overflows == 0


def test_nothing_is_lost_while_watches_are_placed(root: Path, canary: Path) -> None:
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
            with following(root, canary) as (_, follower):
                assert eventually(lambda follower=follower: len(follower.paths()) > 20)
                stop.set()
                writer.join()
                assert follower.is_right(), follower.errors()
        finally:
            stop.set()
            writer.join()
        shutil.rmtree(root)
        root.mkdir()


# ---- W4, W5: what cannot be watched -----------------------------------------------------------------------


def test_watch_limit_keeps_what_it_has_and_names_the_rest(tmp_path: Path) -> None:
    """W4: at the limit the rest is polled, the status names the sysctl, and the watcher heals when it is raised."""
    told = apart("watch_limit", tmp_path)

    assert told["watches"] == 100
    assert told["directories"] == 301
    assert told["all_covered"] is True
    assert told["remedy_is_enough"] is True
    assert told["heard_in_watched"] is True
    assert told["alive"] is True
    assert told["lines_about_the_limit"] == 1
    assert told["after_raising"] == [301, [], ""]
    assert told["heard_after_raising"] is True


def test_too_many_gaps_become_one(tmp_path: Path) -> None:
    """W4: far beyond the limit the list stays bounded: the whole source is polled, and the advice still counts."""
    told = apart("far_beyond_the_watch_limit", tmp_path)

    assert told["mode"] == "polling"
    assert told["unwatched"] == [""]
    assert told["directories"] == 1501
    assert told["remedy_is_enough"] is True
    assert told["after_raising"] == ["events", 1501, [], ""]


def test_instance_limit_means_polling_until_there_is_one(tmp_path: Path) -> None:
    """Without an inotify instance everything is polled, with the sysctl in the status; is_alive asks again."""
    told = apart("instance_limit", tmp_path)

    assert told["refused"] == ["polling", [""], True]
    assert told["alive_although_refused"] is True
    assert told["later"] == "events"
    assert told["doubts"] == [""]
    assert told["heard"] is True


def test_unreadable_directories(tmp_path: Path) -> None:
    """W5: a directory that cannot be read is a named gap, and is watched as soon as it can be read."""
    told = apart("unreadable_directories", tmp_path)

    assert told["at_start"] == ["events", ["closed"]]
    assert told["lines_about_it"] == 1
    assert told["heard_on_opening"] is True
    assert told["gaps_after_opening"] == []
    assert told["heard_after_opening"] is True
    assert told["heard_in_moved_in"] is True
    assert told["closed_later"] == []
    assert told["heard_after_closed_later"] is True


def test_unreadable_root_is_watched_once_it_can_be(tmp_path: Path) -> None:
    """W5: a root that cannot be read is said to be, and the canary's tick finds that it can be now."""
    told = apart("unreadable_root", tmp_path)

    assert told["at_start"] == ["polling", "the root cannot be read"]
    assert told["later"] == ["events", ""]
    assert told["doubts"] == [""]
    assert told["heard"] is True


# ---- W6, W7: the root -------------------------------------------------------------------------------------


def test_root_that_is_missing_at_the_start(root: Path, canary: Path) -> None:
    """A missing root is not an error: the status says so, and the source is watched once it is there."""
    root.rmdir()
    with watching(root, canary) as watch:
        assert (watch.status().mode, watch.status().reason) == ("polling", "the root is missing")
        assert watch.listener.doubts == []
        root.mkdir()
        (root / "file").touch()

        assert watch.has_heard_everything()
        assert watch.listener.doubts_of("")
        assert watch.status().mode == "events"
        (root / "later").touch()
        assert watch.listener.hears("later")


def test_root_deleted_and_made_again(root: Path, canary: Path) -> None:
    """W6: a root that is gone is in doubt at once; the new one is watched at the next tick, and in doubt."""
    (root / "a").mkdir()
    with watching(root, canary) as watch:
        shutil.rmtree(root)
        assert watch.listener.doubts_of("")
        assert eventually(lambda: watch.status().reason == "the root is missing")
        watch.listener.forget()

        (root / "b").mkdir(parents=True)
        assert watch.has_heard_everything()
        assert watch.listener.doubts_of("")
        (root / "b/file").touch()
        assert watch.listener.hears("b/file")
        assert (watch.status().mode, watch.status().watches) == ("events", 2)


def test_root_renamed_away_and_another_in_its_place(root: Path, outside: Path, canary: Path) -> None:
    """W6: events of the tree that moved away are not reported; those of the new root are."""
    (root / "a").mkdir()
    with watching(root, canary) as watch:
        root.rename(outside / "moved")
        (root / "a").mkdir(parents=True)

        assert watch.has_heard_everything()
        assert watch.listener.doubts_of("")
        assert watch.watches_exactly(str(root))
        watch.listener.forget()
        (outside / "moved/a/phantom").touch()
        (root / "a/file").touch()
        assert watch.listener.hears("a/file")
        assert watch.has_heard_everything()
        assert set(watch.listener.paths()) == {"a/file"}


def test_root_exchanged_for_another(root: Path, outside: Path, canary: Path) -> None:
    """W6: a root that is swapped without ever being missing is noticed by what it is, not by its name."""
    with watching(root, canary) as watch:
        exchange(root, outside)

        assert watch.listener.doubts_of("")
        assert watch.has_heard_everything()
        (root / "file").touch()
        assert watch.listener.hears("file")


def test_parent_of_the_root_renamed_and_back(tmp_path: Path, canary: Path) -> None:
    """W6: a root that is gone because a directory above it moved is noticed at the next tick, and so is its return."""
    root = tmp_path / "above/root"
    root.mkdir(parents=True)
    with watching(root, canary) as watch:
        (tmp_path / "above").rename(tmp_path / "elsewhere")
        assert watch.has_heard_everything()
        assert watch.status().reason == "the root is missing"

        (tmp_path / "elsewhere").rename(tmp_path / "above")
        assert watch.has_heard_everything()
        (root / "file").touch()
        assert watch.listener.hears("file")


def test_root_replaced_by_a_symbolic_link(root: Path, outside: Path, canary: Path) -> None:
    """W6, W7: a root that became a symbolic link is not followed; the status says so."""
    with watching(root, canary) as watch:
        root.rmdir()
        root.symlink_to(outside)

        assert watch.listener.doubts_of("")
        assert watch.has_heard_everything()
        assert (watch.status().mode, watch.status().reason) == ("polling", "the root is a symbolic link")
        (outside / "file").touch()
        assert watch.has_heard_everything()
        assert watch.listener.paths() == []


def test_root_given_by_its_real_path_behind_a_symbolic_link(root: Path, tmp_path: Path, canary: Path) -> None:
    """W7: with the link resolved, as the configuration does, the top level and what is below it are heard."""
    (root / "sub").mkdir()
    (tmp_path / "link").symlink_to(root)
    with watching(os.path.realpath(tmp_path / "link"), canary) as watch:
        (tmp_path / "link/top").touch()
        (tmp_path / "link/sub/below").touch()

        assert watch.listener.hears("top", "sub/below")


def test_rewatch_places_the_watches_before_it_returns(root: Path, canary: Path) -> None:
    """`rewatch` drops and places anew; what happens after it has returned is heard, and nothing is in doubt."""
    (root / "a/b").mkdir(parents=True)
    with watching(root, canary) as watch:
        watch.watcher.rewatch(NAME)
        (root / "a/b/file").touch()

        assert watch.listener.hears("a/b/file")
        assert (watch.status().watches, watch.listener.doubts) == (3, [])


# ---- W8: mounts -------------------------------------------------------------------------------------------


def test_unmounted_and_remounted_root(tmp_path: Path) -> None:
    """W8: a root that is unmounted is in doubt at once, and what is mounted there later is watched, without a tick."""
    told = apart("mounted_root", tmp_path)

    assert told == {"doubt_after_unmount": True, "doubt_after_mount": True, "heard": True, "phantom": False}


def test_mounts_inside_a_source(tmp_path: Path) -> None:
    """W8: a directory that is mounted over, or unmounted, while we watch is in doubt, and what one sees is watched."""
    told = apart("mounted_below", tmp_path)

    assert told == {
        "doubt_after_mount": True, "heard_in_mount": True, "hidden_is_silent": True,
        "doubt_after_unmount": True, "heard_below": True, "watches": 3,
    }  # fmt: skip


def test_bind_mount_of_a_directory_of_the_same_source(tmp_path: Path) -> None:
    """W8: the second place of one directory is a named gap; the first one goes on being watched."""
    told = apart("bind_mount", tmp_path)

    assert told == {"unwatched": ["second"], "heard": True, "unwatched_after_unmount": [], "watches": 3}


def test_network_file_systems_are_polled_and_never_touched(tmp_path: Path) -> None:
    """A root, or a directory, on a file system that others change is polled; a server that is gone blocks nobody."""
    told = apart("dead_network_mounts", tmp_path)

    assert told["root"] == ["polling", [""]]
    assert told["below"] == ["events", ["share"]]
    assert told["reasons_name_the_type"] == [True, True]
    assert told["alive"] is True
    assert told["heard_beside"] is True


# ---- W9, W13, W16, W17 ------------------------------------------------------------------------------------


def test_moved_out_edited_outside_and_the_name_used_again(root: Path, outside: Path, canary: Path) -> None:
    """W9: of two directories with the same name, one outside and one inside, only the one inside is heard."""
    (root / "a").mkdir()
    with watching(root, canary) as watch:
        (root / "a").rename(outside / "a")
        assert watch.listener.doubts_of("a")
        (root / "a").mkdir()
        assert watch.watches_exactly(str(root))
        (outside / "a/outside").touch()
        (root / "a/inside").touch()

        assert watch.listener.hears("a/inside")
        assert watch.has_heard_everything()
        assert set(watch.listener.paths()) == {"a/inside"}


def test_our_own_reading_makes_no_events(root: Path, canary: Path) -> None:
    """W13: listing, statting and reading everything in a source is not reported, and not even heard."""
    for number in range(50):
        (root / f"d{number % 5}").mkdir(exist_ok=True)
        (root / f"d{number % 5}/f{number}").write_text("content")
    with watching(root, canary) as watch:
        for path in walk(str(root)):
            assert (root / path).read_text() == "content"
        assert watch.has_heard_everything()

        assert (watch.listener.changes, watch.listener.doubts) == ([], [])


ODD_NAMES = [
    b"latin-\xe9", b"\xff\xfe", b"new\nline", b"tab\t", b" leading", b"trailing ", b"quote'\"", b"back\\slash",
    "snow \u2603".encode(), b"percent%20", b"#123", b"\x01\x7f", b"x" * 255,
]  # fmt: skip


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_names_that_are_not_text(root: Path, canary: Path, name: bytes) -> None:
    """W16: whatever the name of a file or a directory, it arrives decoded as Python decodes names."""
    path = os.fsdecode(name)
    with watching(root, canary) as watch:
        os.mkdir(os.fsencode(root) + b"/d-" + name[:200])
        with open(os.fsencode(root) + b"/d-" + name[:200] + b"/" + name, "wb"):
            pass
        assert watch.listener.hears(f"d-{os.fsdecode(name[:200])}/{path}")

        os.rename(os.fsencode(root) + b"/d-" + name[:200], os.fsencode(root) + b"/e-" + name[:200])
        assert watch.listener.doubts_of(f"e-{os.fsdecode(name[:200])}")
        with open(os.fsencode(root) + b"/e-" + name[:200] + b"/" + name, "ab") as file:
            file.write(b"x")
        assert watch.listener.hears(f"e-{os.fsdecode(name[:200])}/{path}")


def test_no_false_alarm_during_a_storm_of_moves(root: Path, outside: Path, canary: Path) -> None:
    """W17: while directories move out one after the other the canary is heard each time."""
    for number in range(300):
        (root / f"d{number}/sub").mkdir(parents=True)
    with watching(root, canary) as watch:
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


# ---- W14: which action is heard ---------------------------------------------------------------------------


def heard_after(root: Path, canary: Path, action: Callable[[], object]) -> list[str]:
    """The paths that are reported, each once and sorted, because of `action`."""
    with watching(root, canary) as watch:
        action()
        assert watch.has_heard_everything()
        return sorted(set(watch.listener.paths()))


def test_new_file(root: Path, canary: Path) -> None:
    """W14: a new file is reported."""
    assert heard_after(root, canary, lambda: (root / "file").write_text("x")) == ["file"]


def test_saved_by_temporary_file_and_rename(root: Path, canary: Path) -> None:
    """W14: an editor's save by rename reports both names."""
    (root / "file").write_text("old")

    def save() -> None:
        (root / "file.tmp").write_text("new")
        (root / "file.tmp").rename(root / "file")

    assert heard_after(root, canary, save) == ["file", "file.tmp"]


def test_saved_by_rename_from_outside(root: Path, outside: Path, canary: Path) -> None:
    """W14: a file that is renamed into the tree is reported."""
    (outside / "file").write_text("x")

    assert heard_after(root, canary, lambda: (outside / "file").rename(root / "file")) == ["file"]


def test_moved_out_file(root: Path, outside: Path, canary: Path) -> None:
    """W14: a file that is renamed out of the tree is reported: it is absent now."""
    (root / "file").write_text("x")

    assert heard_after(root, canary, lambda: (root / "file").rename(outside / "file")) == ["file"]


def test_hard_link_into_the_tree(root: Path, outside: Path, canary: Path) -> None:
    """W14: a hard link that is made in the tree is reported."""
    (outside / "file").write_text("x")

    assert heard_after(root, canary, lambda: os.link(outside / "file", root / "linked")) == ["linked"]


def test_symbolic_link_into_the_tree(root: Path, outside: Path, canary: Path) -> None:
    """W14: a symbolic link is reported itself, for whoever counts what is skipped."""
    assert heard_after(root, canary, lambda: (root / "link").symlink_to(outside)) == ["link"]


def test_edit_through_a_hard_link_outside(root: Path, outside: Path, canary: Path) -> None:
    """W14: makes no event (the kernel knows names, not files); the bound is the next scan, whose stat tells."""
    (outside / "file").write_text("x")
    os.link(outside / "file", root / "linked")
    before = look(str(root), "linked")

    assert heard_after(root, canary, lambda: (outside / "file").write_text("changed")) == []
    assert look(str(root), "linked") != before


def test_edit_through_a_bind_mount_outside(tmp_path: Path) -> None:
    """W14: an edit through another mount of the same directory is reported."""
    assert apart("edit_through_a_bind_mount", tmp_path) == {"heard": True}


def test_memory_mapped_write(root: Path, canary: Path) -> None:
    """W14: a store through a mapping makes no event; closing the writable descriptor does."""
    (root / "file").write_bytes(b"x" * 4096)

    def store() -> None:
        with open(root / "file", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[:3] = b"new"
            mapped.flush()

    assert heard_after(root, canary, store) == ["file"]


def test_truncated_by_path(root: Path, canary: Path) -> None:
    """W14: truncation by path, which closes nothing, is reported."""
    (root / "file").write_text("content")

    assert heard_after(root, canary, lambda: os.truncate(root / "file", 2)) == ["file"]


def test_writer_that_never_closes(root: Path, canary: Path) -> None:
    """W14: each flush of a file that stays open is reported."""
    with watching(root, canary) as watch, open(root / "log", "w") as log:
        assert watch.listener.hears("log")
        for number in range(3):
            assert watch.has_heard_everything()
            watch.listener.forget()
            log.write(f"{number}\n")
            log.flush()
            assert watch.listener.hears("log")


def test_unnamed_file_that_is_linked_in(root: Path, canary: Path) -> None:
    """W14: is reported when it gets its name; later writes are not (they have no name): the bound is the next scan."""
    with watching(root, canary) as watch:
        fd = os.open(root, os.O_TMPFILE | os.O_WRONLY)
        os.write(fd, b"content")
        assert watch.has_heard_everything()
        assert watch.listener.paths() == []
        os.link(f"/proc/self/fd/{fd}", root / "named", src_dir_fd=fd, follow_symlinks=True)
        assert watch.listener.hears("named")

        before = look(str(root), "named")
        os.write(fd, b"more")
        os.close(fd)
        assert watch.has_heard_everything()
        assert set(watch.listener.paths()) == {"named"}
        assert look(str(root), "named") != before


@pytest.mark.parametrize(
    "action",
    [
        lambda path: os.chmod(path, 0o600),
        lambda path: os.utime(path, (1, 1)),
        lambda path: os.setxattr(path, "user.syncd-test", b"x"),
    ],
    ids=["chmod", "utime", "xattr"],
)
def test_attributes_make_no_event(root: Path, canary: Path, action: Callable[[Path], None]) -> None:
    """W14: attributes are not content: no event is asked for, so none is paid for; a scan sees the new ctime."""
    (root / "file").write_text("x")
    before = os.stat(root / "file")

    assert heard_after(root, canary, lambda: action(root / "file")) == []
    assert eventually(lambda: action(root / "file") or os.stat(root / "file").st_ctime_ns != before.st_ctime_ns)


def test_exchange_of_two_files(root: Path, canary: Path) -> None:
    """W14: an atomic exchange reports both names."""
    (root / "one").write_text("1")
    (root / "two").write_text("2")

    assert heard_after(root, canary, lambda: exchange(root / "one", root / "two")) == ["one", "two"]


def test_write_inside_a_symlinked_directory(root: Path, outside: Path, canary: Path) -> None:
    """W14: symbolic links are not followed: what is written behind one is not ours."""
    (root / "link").symlink_to(outside)

    assert heard_after(root, canary, lambda: (root / "link/file").write_text("x")) == []


def test_deleted_file(root: Path, canary: Path) -> None:
    """W14: a deleted file is reported: it is absent now."""
    (root / "file").write_text("x")

    assert heard_after(root, canary, (root / "file").unlink) == ["file"]


@pytest.mark.parametrize(
    "script",
    [
        "echo one > file; sed -i s/one/two/ file",
        "mkdir -p a/b; cp -a a c; echo x > c/b/file; mv c/b a/moved",
        "mkdir src; echo x > src/file; rsync -a src/ copy/; echo more >> src/file; rsync -a src/ copy/",
        "git init -q repo && cd repo && git config user.email a@b && git config user.name n && echo x > f && git add f "
        "&& git commit -qm m && cd .. && git clone -q repo clone",
    ],
    ids=["sed", "cp-mv", "rsync", "git"],
)
def test_tools_that_people_use(root: Path, canary: Path, script: str) -> None:
    """What everyday tools leave behind is known as it is in the end."""
    tool = next(word for word in ("rsync", "git", "sed", "cp") if word in script)
    if shutil.which(tool) is None:
        pytest.skip(f"{tool.upper()} IS NOT INSTALLED ON THIS MACHINE")
    with following(root, canary) as (watch, follower):
        subprocess.run(["sh", "-ec", script], cwd=root, check=True, timeout=30)

        assert follower.is_right(), follower.errors()
        assert watch.watches_exactly(str(root))
