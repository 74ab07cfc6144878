"""The running whole: built, changed while it runs, asked for its end, stopped."""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.core.errors import (
    AccessRefused,
    StateError,
    StoreError,
    StoreFailed,
    StoreRefused,
    StoreUnavailable,
    SyncdError,
)
from syncd.core.model import FileRef, OnDelete, Source, TransferPolicy
from syncd.core.plan import Outcome, Upload
from syncd.daemon.logs import _Lines, set_up
from syncd.pipeline import pipeline
from syncd.pipeline.context import real_clock
from syncd.pipeline.pipeline import Pipeline
from syncd.state.state import State
from syncd.storage.base import ObjectStore
from syncd.storage.settings import DirSettings
from tests.support.rig import open_paths
from tests.support.store import SMALL_LIMITS, FakeStore
from tests.support.waiting import Running, wait_until

POLICY = TransferPolicy(concurrency=3, part_size=8)


class Stores:
    """Opens the fake of each directory's name, always the same one; remembers what was opened and closed."""

    def __init__(self) -> None:
        self.fakes: dict[str, FakeStore] = {}
        self.opened: list[str] = []
        self.refuse: SyncdError | None = None

    def __getitem__(self, path: str) -> FakeStore:
        if path not in self.fakes:
            self.fakes[path] = FakeStore(SMALL_LIMITS, store_id=f"fake:{path}")
        return self.fakes[path]

    def open(self, settings: Any, _context: Any) -> ObjectStore:
        if self.refuse is not None:
            raise self.refuse
        self.opened.append(settings.path)
        store = self[settings.path]
        store.closed = False
        return store


class Works:
    """A pipeline on fakes."""

    def __init__(self, root: Path, *, once: bool = False) -> None:
        self.root = root
        self.stores = Stores()
        self.state = State.open(str(root / "state"), now_ns=time.time_ns)
        self.pipeline = Pipeline(self.state, real_clock(), once=once, opener=self.stores.open)

    def source(self, name: str, **more: Any) -> Source:
        folder = self.root / name
        folder.mkdir(exist_ok=True)
        defaults: dict[str, Any] = {"store": "one", "prefix": f"{name}/", "settle_seconds": 0.0}
        return Source(name, str(folder), **{**defaults, **more})

    def apply(
        self,
        *sources: Source,
        pipeline: Pipeline | None = None,
        policy: TransferPolicy = POLICY,
        waiting: Callable[[], None] = lambda: None,
        **paths: str,
    ) -> None:
        stores = {
            source.store: DirSettings(paths.get(source.store, f"/{source.store}")) for source in sources
        }
        (pipeline or self.pipeline).apply(sources, stores, policy, waiting=waiting)

    def write(self, source: str, name: str, content: bytes) -> None:
        path = self.root / source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def stored(self, store: str = "/one") -> set[str]:
        return set(self.stores[store].objects)

    def run_once(self) -> bool:
        self.pipeline.start()
        over = self.pipeline.wait_done(lambda: False, lambda: None)
        assert self.pipeline.stop(30.0)
        return over

    def close(self) -> None:
        self.pipeline.stop(30.0)
        self.state.close()


@pytest.fixture
def works(tmp_path: Path) -> Iterator[Works]:
    works = Works(tmp_path)
    yield works
    works.close()


@pytest.fixture
def once(tmp_path: Path) -> Iterator[Works]:
    works = Works(tmp_path, once=True)
    yield works
    works.close()


# ---- a single pass ----------------------------------------------------------------------------------------


def test_a_pass_carries_everything_and_counts_it(once: Works) -> None:
    """Two sources, two stores; the tally is what was done."""
    once.write("a", "x", b"one")
    once.write("a", "same", b"two")
    once.write("b", "y", b"three")
    once.apply(once.source("a"), once.source("b", store="two"))
    assert once.run_once() is True
    assert (once.stored("/one"), once.stored("/two")) == ({"a/x", "a/same"}, {"b/y"})
    tally = once.pipeline.tally
    assert tally.actions == {"Upload": 3}
    assert (tally.bytes_sent, tally.bytes_finished, tally.failed) == (11, 11, 0)


def test_a_pass_over_nothing_is_over(once: Works) -> None:
    """Empty folders, and no source at all."""
    once.apply()
    assert once.pipeline.wait_done(lambda: False, lambda: None) is True
    once.apply(once.source("a"))
    assert once.run_once() is True


@pytest.mark.parametrize("number", range(10))
def test_a_pass_carries_out_its_deletions_before_it_is_over(once: Works, number: int) -> None:
    """However the threads are timed: what may be deleted is deleted, not left for the next pass."""
    once.apply(once.source("a", on_delete=OnDelete.DELETE))
    for index in range(12):
        once.write("a", f"f{index}", b"%d" % index)
    once.run_once()
    for index in range(3):
        (once.root / "a" / f"f{index}").unlink()
    again = Pipeline(once.state, real_clock(), once=True, opener=once.stores.open)
    once.apply(once.source("a", on_delete=OnDelete.DELETE), pipeline=again)
    again.start()
    assert again.wait_done(lambda: False, lambda: None) is True
    assert again.stop(30.0)
    assert again.tally.actions["Delete"] == 3
    assert len(once.stored()) == 9


def test_a_pass_copies_what_went_to_another_source(once: Works) -> None:
    """The old object is deleted when no file of the store can be copied from it any more."""
    sources = [once.source(name, on_delete=OnDelete.DELETE) for name in ("a", "b")]
    for name, content in (("x", b"moved"), ("stays", b"here")):
        once.write("a", name, content)
    once.apply(*sources)
    once.run_once()
    once.write("b", "kept/many", b"other")
    (once.root / "a" / "x").rename(once.root / "b" / "x")
    again = Pipeline(once.state, real_clock(), once=True, opener=once.stores.open)
    once.apply(*sources, pipeline=again)
    begins, release = again.source_runners["b"], threading.Event()
    turn = begins.round
    begins.round = lambda *what: release.wait(30.0) and turn(*what)  # type: ignore[method-assign,assignment]
    again.start()
    wait_until("it is found to be gone", lambda: again.source_runners["a"].deletions.waiting() == 1)
    assert not again.source_runners["a"].settled()
    release.set()
    assert again.wait_done(lambda: False, lambda: None) is True
    assert again.stop(30.0)
    assert once.stored() == {"a/stays", "b/x", "b/kept/many"}
    assert once.stores["/one"].calls["put_object"] == 3


def test_a_file_that_vanishes_under_a_pass_is_still_decided(once: Works) -> None:
    """A worker finds it gone after the scan has ended: its object goes in the same pass."""
    source = once.source("a", on_delete=OnDelete.DELETE)
    once.apply(source)
    for index in range(12):
        once.write("a", f"f{index}", b"%d" % index)
    once.run_once()
    again = Pipeline(once.state, real_clock(), once=True, opener=once.stores.open)
    once.apply(source, pipeline=again)
    for runner in again.source_runners.values():
        runner.start()
    once.write("a", "f3", b"changed")
    wait_until("it is scanned", lambda: again.source_runners["a"].first_scan_done.is_set())
    again.changed("a", "f3")
    (once.root / "a" / "f3").unlink()
    again.start()
    assert again.wait_done(lambda: False, lambda: None) is True
    assert again.stop(30.0)
    assert "a/f3" not in once.stored()


def test_a_pass_in_which_one_store_is_down_finishes_the_others(once: Works) -> None:
    """The error is that of the store that gave up; every file of the other one is there."""
    once.stores["/one"].fail("*", StoreUnavailable("down"), times=None)
    for index in range(20):
        once.write("a", f"f{index}", b"%d" % index)
        once.write("b", f"f{index}", b"%d" % index)
    slow = threading.Event()
    once.stores["/two"].before("put_object", lambda call: slow.wait(0.05))
    once.apply(once.source("a"), once.source("b", store="two"))
    assert once.run_once() is True
    assert {name: str(error) for name, error in once.pipeline.gave_up().items()} == {"one": "down"}
    assert len(once.stores["/two"].objects) == 20


def test_a_pass_ends_when_a_store_gives_up(once: Works) -> None:
    """With the error, instead of a failure for each file."""
    once.stores["/one"].fail("*", StoreUnavailable("down"), times=None)
    for index in range(20):
        once.write("a", f"f{index}", b"%d" % index)
    once.apply(once.source("a"))
    assert once.run_once() is True
    assert [str(error) for error in once.pipeline.gave_up().values()] == ["down"]
    assert once.stores["/one"].calls.keys() == {"list_objects", "get_object"}  # no file, no content


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailable("no answer"),
        StoreUnavailable("busy", status=503),
        StoreUnavailable("a page", status=200, outcome_unknown=True),
        StoreFailed("internal error", status=500, outcome_unknown=True),
        AccessRefused("denied", hint="", status=403, credentials=True),
        StoreRefused("no such name", status=400),
    ],
    ids=str,
)
def test_a_store_that_answers_is_not_to_blame_for_one_file(once: Works, error: StoreError) -> None:
    """Also where nothing else was to be done: the exit code is that of a file that failed."""
    once.stores["/one"].fail("put_object", error, times=None)
    once.write("a", "bad", b"x")
    once.apply(once.source("a"))
    assert once.run_once() is True
    assert (once.pipeline.tally.failed, once.pipeline.gave_up()) == (1, {})


def test_files_that_fail_end_no_pass_while_the_store_answers_and_takes_others(once: Works) -> None:
    """Each night the same files would come first, and the others never."""
    failed = StoreFailed("internal error", status=500, outcome_unknown=True)
    once.stores["/one"].fail("put_object", failed, times=None, when=lambda call: "bad" in call.key)
    for number in range(5):
        once.write("a", f"bad{number}", b"bad%d" % number)
        once.write("a", f"good{number}", b"good%d" % number)
    once.apply(once.source("a"))
    assert once.run_once() is True
    assert len(once.stores["/one"].objects) == 5
    assert (once.pipeline.gave_up(), once.pipeline.tally.failed) == ({}, 5)


def test_a_pass_that_is_asked_to_stop_stops(once: Works) -> None:
    """Within a moment, and says that it was not over; the state is as the store is."""
    inside, release = threading.Event(), threading.Event()
    once.stores["/one"].before("put_object", lambda call: (inside.set(), release.wait(30)))
    once.write("a", "x", b"one")
    once.apply(once.source("a"))
    once.pipeline.start()
    stopping = threading.Event()
    waiting = Running(once.pipeline.wait_done, stopping.is_set, lambda: None)
    assert inside.wait(30)
    stopping.set()
    assert waiting.result() is False
    release.set()
    assert once.pipeline.stop(30.0)


def test_stop_says_when_a_thread_does_not_end(once: Works) -> None:
    """One that is stuck in a request is left behind, and the stop says so."""
    inside, release = threading.Event(), threading.Event()
    once.stores["/one"].before("put_object", lambda call: (inside.set(), release.wait(30)))
    once.write("a", "x", b"one")
    once.apply(once.source("a"))
    once.pipeline.start()
    assert inside.wait(30)
    assert once.pipeline.stop(0.1) is False
    release.set()
    assert once.pipeline.stop(30.0) is True


def test_progress_is_shown_while_waiting(once: Works) -> None:
    """The tick is called again and again; it may look at everything."""
    ticks: list[int] = []
    release = threading.Event()
    once.stores["/one"].before("put_object", lambda call: release.wait(30))
    once.write("a", "x", b"one")
    once.apply(once.source("a"))
    once.pipeline.start()

    def tick() -> None:
        ticks.append(sum(runner.news.found_bytes for runner in once.pipeline.source_runners.values()))
        if len(ticks) == 5:
            release.set()

    assert once.pipeline.wait_done(lambda: False, tick) is True
    assert ticks[-1] == 3


# ---- changes while it runs --------------------------------------------------------------------------------


def running(works: Works, *sources: Source, **more: Any) -> None:
    works.apply(*sources, **more)
    works.pipeline.start()


def test_a_new_source_starts_and_the_others_go_on(works: Works) -> None:
    """Nothing that is unchanged is stopped or opened again."""
    running(works, works.source("a"))
    before = (works.pipeline.store_runners["one"], works.pipeline.source_runners["a"])
    works.write("b", "y", b"new")
    running(works, works.source("a"), works.source("b"))
    wait_until("it is there", lambda: works.stored() == {"b/y"})
    assert (works.pipeline.store_runners["one"], works.pipeline.source_runners["a"]) == before
    assert works.stores.opened == ["/one"]


def test_no_disk_is_held_where_there_is_nothing_to_do(works: Works) -> None:
    """An open root would keep it from being unmounted: a worker that waits has none."""
    for number in range(10):
        works.write("a", f"f{number}", b"x")
    running(works, works.source("a"))
    wait_until("all is there", lambda: len(works.stored()) == 10)
    wait_until("the root is closed", lambda: str(works.root / "a") not in open_paths())


def test_a_changed_source_gets_another_keeper_on_the_same_line(works: Works) -> None:
    """What it had waiting is forgotten: the new one scans by the new rules."""
    running(works, works.source("a"))
    wait_until("it is scanned", lambda: works.pipeline.source_runners["a"].first_scan_done.is_set())
    old = works.pipeline.source_runners["a"]
    old.workers.queue.mark(FileRef("a", "secret.tmp"), quiet_seconds=3600.0, event=True)
    works.write("a", "x", b"one")
    works.write("a", "secret.tmp", b"two")
    running(works, works.source("a", exclude=("*.tmp",)))
    wait_until("it is there", lambda: works.stored() == {"a/x"})
    assert works.pipeline.source_runners["a"] is not old
    assert old.join(30.0)
    wait_until("nothing waits", works.pipeline.idle)
    assert works.stored() == {"a/x"}


def test_a_scan_of_before_the_reload_marks_nothing_after_it(
    works: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was in the middle, waiting for room in the queue: the files that it still holds are not wanted."""
    monkeypatch.setattr("syncd.pipeline.queue.MAX_WAITING", 2)
    for index in range(10):
        works.write("a", f"f{index}.tmp", b"%d" % index)
    works.apply(works.source("a"))
    old = works.pipeline.source_runners["a"]
    old.start()  # its workers do not run
    wait_until("it waits for room", lambda: old.workers.queue._room._waiters)  # type: ignore[attr-defined]
    works.apply(works.source("a", exclude=("*.tmp",)))
    assert old.join(30.0)
    works.pipeline.start()
    wait_until("it is scanned", lambda: works.pipeline.source_runners["a"].first_scan_done.is_set())
    wait_until("nothing waits", works.pipeline.idle)
    assert works.stored() == set()


def test_events_of_before_the_reload_are_judged_by_the_rules_of_after(works: Works) -> None:
    """The old watcher may still tell of a path that is excluded by now."""
    running(works, works.source("a", exclude=("*.tmp",)))
    works.write("a", "x.tmp", b"one")
    works.pipeline.changed("a", "x.tmp")
    works.pipeline.changed("nobody", "x")
    works.pipeline.rescan("nobody", "", "why")
    wait_until("nothing waits", works.pipeline.idle)
    assert works.stored() == set()


def test_a_removed_source_is_forgotten_while_its_file_is_being_carried(works: Works) -> None:
    """Its line ends first; nothing is left in any queue."""
    inside, release = threading.Event(), threading.Event()
    works.stores["/one"].before("put_object", lambda call: (inside.set(), release.wait(30)))
    works.write("a", "x", b"one")
    running(works, works.source("a"), works.source("b"))
    assert inside.wait(30)
    ticks: list[int] = []

    def waiting() -> None:
        ticks.append(1)
        release.set()

    works.apply(works.source("b"), waiting=waiting)
    works.pipeline.start()
    assert ticks
    assert list(works.pipeline.source_runners) == ["b"]
    assert works.stores.opened == ["/one", "/one"]
    wait_until("nothing waits", works.pipeline.idle)


def test_a_replaced_line_ends_before_the_new_one_begins(works: Works) -> None:
    """No file is ever carried by two workers at once, not even across a reload."""
    carried: list[int] = []
    most: list[int] = []
    lock = threading.Lock()
    release = threading.Event()

    def enter(call: Any) -> None:
        with lock:
            carried.append(1)
            most.append(len(carried))
        release.wait(30)

    def leave(call: Any) -> None:
        with lock:
            carried.pop()

    works.stores["/one"].before("put_object", enter).after("put_object", leave)
    works.write("a", "x", b"one")
    running(works, works.source("a"))
    wait_until("it is being carried", lambda: carried)
    policy = replace(POLICY, concurrency=1)
    running_reload = Running(lambda: works.apply(works.source("a"), policy=policy))
    assert not running_reload.is_over
    release.set()
    running_reload.result()
    works.pipeline.start()
    wait_until("it is there", lambda: works.stored() == {"a/x"})
    wait_until("nothing waits", works.pipeline.idle)
    assert max(most) == 1


def test_a_line_that_does_not_end_holds_up_a_reload_only_so_long(
    works: Works, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, and the new configuration goes on without it."""
    monkeypatch.setattr(pipeline, "RETIRE_SECONDS", 0.2)
    inside, release = threading.Event(), threading.Event()
    works.stores["/one"].before("put_object", lambda call: (inside.set(), release.wait(30)))
    works.write("a", "x", b"one")
    running(works, works.source("a"))
    assert inside.wait(30)
    running(works, works.source("a", store="two"))
    assert "have not ended" in caplog.text
    assert list(works.pipeline.store_runners) == ["two"]
    release.set()
    assert works.pipeline.stop(30.0)


def test_a_store_that_cannot_be_opened_leaves_everything_as_it_is(works: Works) -> None:
    """A reload is all or nothing."""
    running(works, works.source("a"))
    before = (dict(works.pipeline.store_runners), dict(works.pipeline.source_runners))
    works.stores.refuse = AccessRefused("the endpoint is not an address", credentials=False)
    with pytest.raises(AccessRefused):
        works.apply(works.source("a"), works.source("b", store="two"))
    assert (works.pipeline.store_runners, works.pipeline.source_runners) == before
    works.write("a", "x", b"one")
    works.pipeline.changed("a", "x")
    wait_until("it still works", lambda: works.stored() == {"a/x"})


def test_a_store_that_is_no_longer_used_is_closed(works: Works) -> None:
    """And its threads end."""
    running(works, works.source("a"), works.source("b", store="two"))
    running(works, works.source("a"))
    assert works.stores["/two"].closed
    assert not works.stores["/one"].closed
    assert works.pipeline._retired == []


def test_another_store_under_the_same_name_gets_everything(works: Works) -> None:
    """The records are about the old one: every file goes to the new one."""
    works.write("a", "x", b"one")
    running(works, works.source("a"))
    wait_until("it is there", lambda: works.stored() == {"a/x"})
    running(works, works.source("a"), one="/elsewhere")
    wait_until("it is there, too", lambda: works.stored("/elsewhere") == {"a/x"})


# ---- news -------------------------------------------------------------------------------------------------


def test_too_many_events_become_a_scan(works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be kept is found by looking."""
    monkeypatch.setattr("syncd.pipeline.queue.MAX_WAITING", 1)
    running(works, works.source("a", settle_seconds=3600.0))
    runner = works.pipeline.source_runners["a"]
    wait_until("it is scanned", lambda: runner.first_scan_done.is_set())
    for index in range(3):
        works.pipeline.changed("a", f"f{index}")
    wait_until("it is scanned again", lambda: runner.news.scans == 2)


def test_requests_are_brought_into_the_state_and_an_idle_daemon_writes_nothing(works: Works) -> None:
    """Nothing new, nothing written."""
    running(works, works.source("a"))
    wait_until("it is scanned", lambda: works.pipeline.source_runners["a"].first_scan_done.is_set())
    works.pipeline.store_runners["one"].progress.requested()
    works.pipeline.flush_totals()
    works.state.flush()
    assert works.state.totals()["requests"] == 1
    commits = works.state.commits
    for _ in range(5):
        works.pipeline.flush_totals()
        works.state.flush()
    assert works.state.commits == commits


def test_each_upload_has_a_line_and_a_burst_has_not(once: Works, tmp_path: Path) -> None:
    """Hundreds of files make a few dozen lines at most."""
    stream = io.StringIO()
    settings: Any = SimpleNamespace(level="info", format="text")
    set_up(settings, verbosity=0, stream=stream)
    try:
        for index in range(500):
            once.write("a", f"f{index}", b"%d" % index)
        once.apply(once.source("a"))
        once.run_once()
    finally:
        root = logging.getLogger()
        for handler in [handler for handler in root.handlers if isinstance(handler, _Lines)]:
            root.removeHandler(handler)
    lines = stream.getvalue().splitlines()
    assert len(once.stored()) == 500
    assert 10 <= len(lines) <= 40
    assert any("uploaded: new; 1 byte sent" in each for each in lines)


def test_a_twin_is_copied_inside_the_store_and_told(once: Works) -> None:
    """By a later pipeline, too; the history and the tally say so."""
    once.write("a", "x", b"same content")
    once.apply(once.source("a"), policy=replace(POLICY, concurrency=1))
    once.run_once()
    once.write("a", "y", b"same content")
    again = Pipeline(once.state, real_clock(), once=True, opener=once.stores.open)
    once.apply(once.source("a"), pipeline=again)
    again.start()
    again.wait_done(lambda: False, lambda: None)
    again.stop(30.0)
    once.state.flush()
    assert [(each.ref.path, each.action) for each in once.state.history.last(1)] == [("y", "copied")]
    assert again.tally.bytes_saved == len(b"same content")


def test_an_outcome_is_counted_and_told_though_the_state_cannot_be_written_then(
    once: Works, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last file of a source notes that all was compared; a full disk does not take its upload back."""
    once.apply(source := once.source("docs"))
    runner = SimpleNamespace(news=once.pipeline.source_runners["docs"].news, file_done=_refuse)
    monkeypatch.setattr(once.pipeline, "source_runners", {"docs": runner})
    with pytest.raises(StateError):
        once.pipeline.finished(FileRef(source.name, "a"), Outcome(Upload("new"), 5), 0.0)
    monkeypatch.undo()
    once.state.flush()
    assert [acted.ref.path for acted in once.state.history.last(9)] == ["a"]
    assert once.pipeline.tally.actions["Upload"] == 1


def _refuse(ref: FileRef) -> None:
    raise StateError("no room on the disk")


def test_only_so_many_failures_are_kept_for_the_summary(once: Works) -> None:
    """Their number is right nevertheless."""
    once.apply(once.source("a"))
    for index in range(150):
        once.pipeline.failed(FileRef("a", f"f{index}"), KeyError("x"), 1)
    assert (once.pipeline.tally.failed, len(once.pipeline.tally.failures)) == (150, 100)
    assert once.pipeline.tally.failures[0] == (FileRef("a", "f0"), "KeyError('x')")


def test_all_stores_share_the_bounds_of_the_machine(works: Works) -> None:
    """Requests, memory, line and readers, also of a store that a reload adds; another policy has its own."""
    works.apply(works.source("a"), works.source("b", store="two"))
    works.apply(works.source("a"), works.source("b", store="two"), works.source("c", store="three"))
    runners = works.pipeline.store_runners.values()
    assert len({runner._slots.bound for runner in runners}) == 1
    assert len({runner.engine.readers.bound for runner in runners}) == 1
    assert len({runner.progress.line for runner in runners}) == 1
    (before, *_) = {runner._slots.bound for runner in runners}
    works.apply(works.source("a"), policy=replace(POLICY, concurrency=2))
    (one,) = works.pipeline.store_runners.values()
    assert one._slots.bound is not before
    assert one._slots.bound.slots == 2
