"""One pass, or the plan of one: what it does, what it says, and what it leaves alone."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from syncd.cli import one_pass as once
from syncd.cli.one_pass import Overrides, Pass, plan_all, run_once, state_for_reading
from syncd.config.load import Settings
from syncd.core.errors import AccessRefused, StateError, StoreUnavailable
from syncd.core.model import Action, Delete, FileRef, Nothing, OnDelete, Source, TransferPolicy, Upload
from syncd.pipeline.pipeline import Pipeline, real_clock
from syncd.sources import root
from syncd.state.state import State
from syncd.storage.settings import DirSettings
from tests.support.store import SMALL_LIMITS, FakeStore


class Place:
    """A folder, a fake store, a state."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "folder"
        self.folder.mkdir()
        self.state_dir = str(root / "state")
        self.store = FakeStore(SMALL_LIMITS)
        self.state = State.open(self.state_dir, now_ns=time.time_ns)
        self.source = Source("docs", str(self.folder), "one", prefix="p/", settle_seconds=0.0)
        self.ticks = 0
        self.stopping = threading.Event()
        self.at_tick: Any = None

    def settings(self, path: str = "/x", **changes: Any) -> Settings:
        return Settings(
            path="",
            state_dir=self.state_dir,
            stores={"one": DirSettings(path)},
            sources=(replace(self.source, **changes),),
            transfer=TransferPolicy(concurrency=3, part_size=8),
        )

    def run(self, words: Overrides | None = None, **changes: Any) -> Pass:
        return run_once(
            self.settings(**changes),
            self.state,
            real_clock(),
            should_stop=self.stopping.is_set,
            tick=self._tick,
            words=words,
            opener=lambda settings, wiring: self._opened(),
        )

    def _opened(self) -> FakeStore:
        self.store.closed = False
        return self.store

    def _tick(self, pipeline: Pipeline) -> None:
        self.ticks += 1
        if self.at_tick is not None:
            self.at_tick(pipeline)

    def write(self, *names: str) -> None:
        for name in names:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name[:8])

    def plan(self, **changes: Any) -> dict[str, Action | str]:
        told: dict[str, Action | str] = {}

        def tell(ref: FileRef, action: Action | str, size: int) -> None:
            told[ref.path] = action

        plan_all(
            self.settings(str(self.folder.parent / "mirror"), **changes),
            self.state,
            real_clock(),
            tell,
        )
        return told


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.state.close()


def test_a_pass_does_everything_and_ends_everything(place: Place) -> None:
    """It is over, was not interrupted, and no thread is left."""
    place.write("a", "d/b")
    done = place.run()
    assert set(place.store.objects) == {"p/a", "p/d/b"}
    assert (done.interrupted, done.gave_up, done.ended) == (False, None, True)
    assert place.store.closed
    assert place.ticks > 0


def test_a_second_pass_asks_nothing_of_the_store(place: Place) -> None:
    """Nothing changed, nothing is requested; not even the list of what is there."""
    place.write(*(f"f{number}" for number in range(20)))
    place.run()
    for number in range(20):
        os.utime(place.folder / f"f{number}", (1, 1))
    place.run()
    place.store.reset_counters()
    done = place.run()
    assert place.store.calls.total() == 0
    assert done.pipeline.tally.bytes_sent == 0


def test_an_interrupted_pass_keeps_what_it_has(place: Place) -> None:
    """Mid-part: what is acknowledged is recorded, the rest of the upload goes on in the next pass."""
    (place.folder / "big").write_bytes(bytes(range(100)))
    release = threading.Event()

    def hold(call: Any) -> None:
        if call.nth > 4:
            place.stopping.set()
            release.wait(0.5)

    place.store.before("upload_part", hold)
    done = place.run()
    assert done.interrupted
    assert done.ended
    assert done.pipeline.tally.failed == 0
    (checkpoint,) = place.state.checkpoints()
    kept = len(checkpoint.parts)
    assert kept >= 4
    place.store.heal()
    place.store.reset_counters()
    place.stopping.clear()
    assert place.run().interrupted is False
    assert place.store.objects["p/big"].data == bytes(range(100))
    assert place.store.calls["upload_part"] <= 13 - kept


def test_a_stop_at_the_very_end_is_no_interruption(place: Place) -> None:
    """Everything was done when it came."""
    place.write("a")

    def at_end(pipeline: Pipeline) -> None:
        if pipeline._is_over():
            place.stopping.set()

    place.at_tick = at_end
    assert place.run().interrupted is False


def test_a_thread_that_does_not_end_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever called has to leave without it."""
    monkeypatch.setattr(once, "STOP_SECONDS", 0.1)
    release = threading.Event()
    place.store.before("put_object", lambda call: (place.stopping.set(), release.wait(30)))
    place.write("a")
    done = place.run()
    assert (done.interrupted, done.ended) == (True, False)
    release.set()
    assert done.pipeline.stop(30.0)


def test_a_store_that_is_down_ends_the_pass_with_its_error(place: Place) -> None:
    """Nothing is recorded that is not there."""
    place.store.fail("*", StoreUnavailable("connection refused"), times=None)
    place.write(*(f"f{number}" for number in range(20)))
    assert str(place.run().gave_up) == "connection refused"
    assert place.state.recorded_totals("docs")[0] == 0


def test_a_store_that_refuses_us_ends_the_pass_at_once(place: Place) -> None:
    """One request each for those in flight, not one for every file."""
    place.store.fail("put_object", AccessRefused("bad key"), times=None)
    place.write(*(f"f{number}" for number in range(20)))
    done = place.run()
    assert isinstance(done.gave_up, AccessRefused)
    assert place.store.calls["put_object"] <= 3


def test_a_store_that_cannot_be_opened_is_an_error(place: Place) -> None:
    """Before anything is done."""
    with pytest.raises(AccessRefused):
        run_once(
            place.settings(),
            place.state,
            real_clock(),
            should_stop=lambda: False,
            tick=lambda pipeline: None,
            opener=lambda settings, wiring: (_ for _ in ()).throw(AccessRefused("no address")),
        )


def test_deletions_need_a_word_when_they_are_many(place: Place) -> None:
    """Without it they wait and the pass says so; with it they go in this very pass."""
    names = [f"f{number}" for number in range(60)]
    place.write(*names)
    place.run(on_delete=OnDelete.DELETE)
    for name in names[:50]:
        (place.folder / name).unlink()
    done = place.run(on_delete=OnDelete.DELETE)
    assert done.pipeline.source_runners["docs"].news.deletes_parked == 50
    assert len(place.store.objects) == 60
    place.run(Overrides(allow_deletes=frozenset({"docs"})), on_delete=OnDelete.DELETE)
    assert len(place.store.objects) == 10


def test_a_replaced_root_needs_a_word(place: Place) -> None:
    """Without it nothing is done; with it new files go, and nothing is deleted."""
    place.write("a", "b")
    place.run(on_delete=OnDelete.DELETE)
    place.folder.rename(place.folder.with_name("old"))
    place.folder.mkdir()
    place.write("c")
    done = place.run(on_delete=OnDelete.DELETE)
    assert "--accept-root docs" in done.pipeline.source_runners["docs"].news.waiting_for
    assert set(place.store.objects) == {"p/a", "p/b"}
    done = place.run(Overrides(accept_roots=frozenset({"docs"})), on_delete=OnDelete.DELETE)
    assert set(place.store.objects) == {"p/a", "p/b", "p/c"}
    assert done.pipeline.source_runners["docs"].news.deletes_parked == 2
    both = frozenset({"docs"})
    place.run(Overrides(allow_deletes=both, accept_roots=both), on_delete=OnDelete.DELETE)
    assert set(place.store.objects) == {"p/c"}


# ---- the plan ---------------------------------------------------------------------------------------------


def test_a_plan_tells_each_action_and_does_none(place: Place) -> None:
    """New, changed, unchanged, gone: by name and reason; store and state stay as they are."""
    place.write("same", "changed", "gone")
    mirror = place.folder.parent / "mirror"
    mirror.mkdir()
    settings = place.settings(str(mirror))
    for _ in range(2):
        for path in place.folder.iterdir():
            os.utime(path, (1, 1))
        run_once(settings, place.state, real_clock(), should_stop=lambda: False, tick=lambda pipeline: None)
    stamp = sorted(os.listdir(mirror / "p"))
    (place.folder / "changed").write_text("other")
    (place.folder / "gone").unlink()
    place.write("new")
    told = place.plan(on_delete=OnDelete.DELETE)
    assert told["new"] == Upload("new")
    assert told["changed"] == Upload("content changed")
    assert told["gone"] == Delete("deleted locally")
    assert place.plan()["gone"] == Nothing("deletes are kept")
    assert sorted(os.listdir(mirror / "p")) == stamp
    assert place.state.recorded(FileRef("docs", "new")) is None


def test_a_plan_says_what_it_could_not_see(place: Place) -> None:
    """A root that is away, or not to be believed."""
    place.write("a")
    place.run()
    (place.folder / "a").unlink()
    assert place.plan() == {"": root.EMPTY}
    place.folder.rmdir()
    assert place.plan() == {"": "the root is missing"}


def test_a_plan_names_what_is_skipped(place: Place) -> None:
    """With the reason, and it is no failure."""
    os.mkfifo(place.folder / "pipe")
    assert place.plan() == {"pipe": Nothing("skipped: fifo")}


# ---- reading the state ------------------------------------------------------------------------------------


def test_a_state_is_read_beside_whoever_writes_it(place: Place) -> None:
    """What is committed is seen; nothing can be written."""
    place.write("a")
    place.run()
    with state_for_reading(place.state_dir, time.time_ns) as state:
        assert state.recorded_totals("docs")[0] == 1
        with pytest.raises(StateError):
            state.learn("a", "b", "c")


@pytest.mark.parametrize("there", [False, True])
def test_where_there_is_no_state_yet_it_is_empty_and_stays_away(tmp_path: Path, there: bool) -> None:
    """Looking makes nothing."""
    directory = tmp_path / "state"
    if there:
        directory.mkdir()
    with state_for_reading(str(directory), time.time_ns) as state:
        assert state.recorded_totals("docs") == (0, 0)
    assert directory.exists() is there
    assert not there or os.listdir(directory) == []


def test_a_state_that_may_not_be_read_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks as the wrong user is told so."""

    def refuse(path: object, **named: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(StateError, match="Permission denied"), state_for_reading(str(tmp_path), time.time_ns):
        pass
