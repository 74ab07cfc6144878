"""An object stays until the file that is to be copied from it is there, and no longer: a table of both."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path

import pytest

from syncd.core.errors import FileChanged, StoreRefused, StoreUnavailable
from syncd.core.model import FileRef, FileStat, OnDelete, Source, TransferPolicy
from syncd.pipeline.context import Clock
from syncd.pipeline.pipeline import Pipeline
from syncd.pipeline.queue import WorkQueue
from syncd.pipeline.source_status import EventCoverage
from syncd.state.state import State
from syncd.storage.settings import DirSettings
from tests.support.clock import FakeClock
from tests.support.store import SMALL_LIMITS, FakeStore

CONTENT = b"the content"


class Town:
    """Two sources, `a` and `b`, on one store, without threads. Only `a` has a file: `old`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = FakeClock(wall=time.time() + 60)  # all files are old
        self.store = FakeStore(SMALL_LIMITS)
        self.blind: set[str] = set()
        self.sources = [self.source("a"), self.source("b")]
        self.write("a", "old")
        self.write("a", "last", b"a source without files is in doubt")
        self.open()
        self.run(5)
        assert set(self.store.objects) == {"a/old", "a/last"}

    def source(self, name: str) -> Source:
        (self.root / name).mkdir()
        return Source(
            name, str(self.root / name), "store", prefix=f"{name}/", settle_seconds=2.0,
            on_delete=OnDelete.DELETE, rescan_seconds=10**6, max_delete_fraction=1.0,
        )  # fmt: skip

    def open(self) -> None:
        """A new process."""
        clock = Clock(self.clock.monotonic, self.clock.now_ns, lambda: 0.5)
        self.store.closed = False
        self.state = State.open(str(self.root / "state"), now_ns=self.clock.now_ns)
        self.pipeline = Pipeline(self.state, clock, opener=lambda settings, context: self.store)
        self.pipeline.coverage = lambda name: EventCoverage("blind" if name in self.blind else "")
        self.apply()

    def apply(self) -> None:
        policy = TransferPolicy(concurrency=3, part_size=64)
        self.pipeline.apply(self.sources, {"store": DirSettings("/nowhere")}, policy)
        for runner in self.pipeline.source_runners.values():
            runner.begin()

    def close(self) -> None:
        self.pipeline.stop(0.0)
        self.state.close()

    @property
    def queue(self) -> WorkQueue:
        return self.pipeline.store_runners["store"].workers.queue

    def run(self, seconds: float) -> None:
        """So much time passes, and what is due is done; deletions as soon as they can be."""
        workers = self.pipeline.store_runners["store"].workers
        for _ in range(round(seconds * 2)):
            while any(runner.step() for runner in self.pipeline.source_runners.values()) or workers.step():
                pass
            self.clock.advance(0.5)

    def write(self, source: str, name: str, content: bytes = CONTENT) -> None:
        path = self.root / source / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)

    def move(self, source: str, name: str) -> None:
        """`old` goes there; an event tells that it is gone, and nothing yet of the new name."""
        os.rename(self.root / "a" / "old", self.root / source / name)
        self.pipeline.changed("a", "old")

    def puts(self) -> int:
        return self.store.calls["put_object"]


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    town = Town(tmp_path)
    yield town
    town.close()


# ---- what keeps the object --------------------------------------------------------------------------------


def settling(town: Town) -> None:
    """Something still happens to the new name."""
    town.move("a", "new")
    for _ in range(20):
        town.pipeline.changed("a", "new")
        town.run(1)


def failed(town: Town) -> None:
    """Its first tries fail, so that it is put off."""
    town.move("a", "new")
    tries = [1, 2, 3]

    def gate(ref: FileRef, seen: FileStat) -> None:
        if tries:
            raise StoreUnavailable(f"down {tries.pop()}", status=503)

    town.pipeline.store_runners["store"].engine.gate = gate
    town.pipeline.changed("a", "new")
    town.run(60)
    assert tries == []


def waiting_for_its_turn(town: Town) -> None:
    """Other work comes first."""
    town.move("a", "new")
    town.queue.mark(FileRef("a", "new"), quiet_seconds=1000.0, event=False)
    town.run(900)


def paused(town: Town) -> None:
    """It went to another source, which is paused."""
    town.pipeline.pause("source", "b", 0)
    town.move("b", "new")
    town.pipeline.changed("b", "new")
    town.run(4000)
    assert "a/old" in town.store.objects
    town.pipeline.resume([("source", "b")])


def asked_for(town: Town) -> None:
    """Its events were lost, and a scan of the other source is to come."""
    town.move("b", "new")
    runner = town.pipeline.source_runners["b"]
    turn, runner.step = runner.step, lambda: False  # type: ignore[method-assign]
    runner.ask("", "events were lost")
    town.run(500)
    assert "a/old" in town.store.objects
    runner.step = turn  # type: ignore[method-assign]


def blind(town: Town) -> None:
    """It went to a source of which no events tell."""
    town.blind = {"b"}
    town.pipeline.source_runners["b"].ask("", "events are lost from now on")
    town.run(5)
    town.move("b", "new")


def restarted(town: Town) -> None:
    """The process ends before it is sent; the source that it went to is scanned late by the next one."""
    town.move("b", "new")
    town.run(1)
    town.close()
    town.open()
    runner = town.pipeline.source_runners["b"]
    turn, runner.step = runner.step, lambda: False  # type: ignore[method-assign]
    town.run(100)
    assert "a/old" in town.store.objects
    runner.step = turn  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "late", [settling, failed, waiting_for_its_turn, paused, asked_for, blind, restarted]
)
def test_a_file_that_was_moved_is_copied_however_late_it_is(town: Town, late: Callable[[Town], None]) -> None:
    """No byte is sent twice, and the old object goes in the end."""
    puts = town.puts()
    late(town)
    town.run(1500)
    assert {key.partition("/")[2] for key in town.store.objects} == {"new", "last"}
    assert town.puts() == puts


# ---- what does not ----------------------------------------------------------------------------------------


def nothing(town: Town) -> None:
    """No file waits."""
    town.move("a", "../gone")


def of_other_size(town: Town) -> None:
    """A file waits that cannot have the content."""
    town.pipeline.pause("source", "b", 0)
    town.write("b", "other", CONTENT + b"!")
    town.pipeline.changed("b", "other")
    town.move("a", "../gone")


def younger(town: Town) -> None:
    """New files of the same size come all the time, and at every moment some of them wait."""
    town.move("a", "../gone")
    for number in range(60):
        town.write("b", f"{number}")
        town.queue.mark(FileRef("b", f"{number}"), quiet_seconds=30.0, event=False)
        town.run(1)
    assert "a/old" not in town.store.objects


def refused(town: Town) -> None:
    """The store does not take the new name."""
    town.move("a", "new")
    for verb in ("copy_object", "put_object"):
        town.store.fail(verb, StoreRefused("not this name", status=400, code="BadName"), times=99)
    town.pipeline.changed("a", "new")


def failing(town: Town) -> None:
    """A file of this size fails again and again."""
    town.move("a", "../gone")
    town.write("b", "secret")
    workers = town.pipeline.store_runners["store"].workers
    workers.refusals.count(FileRef("b", "secret"), 10, 0)
    town.queue.mark(FileRef("b", "secret"), quiet_seconds=inf, event=False)


def restless(town: Town) -> None:
    """A file of this size is written without an end."""
    town.write("b", "log")
    for second in range(120):
        town.pipeline.changed("b", "log")
        town.run(1)
        if second == 3:
            town.move("a", "../gone")


def away(town: Town) -> None:
    """The folder of the other source is not there, so that it cannot be scanned."""
    (town.root / "b").rename(town.root / "c")
    town.pipeline.source_runners["b"].ask("", "it is gone")
    town.run(2)
    town.move("a", "../gone")


def in_the_way(town: Town) -> None:
    """A directory store cannot have both at once: the file became a folder, and lies in it now."""
    os.rename(town.root / "a" / "old", town.root / "kept")
    (town.root / "a" / "old").mkdir()
    os.rename(town.root / "kept", town.root / "a" / "old" / "new")
    town.pipeline.pause("source", "b", 0)
    town.write("b", "other")
    town.pipeline.changed("b", "other")
    town.pipeline.changed("a", "old")


@pytest.mark.parametrize(
    "case", [nothing, of_other_size, younger, refused, failing, restless, away, in_the_way]
)
def test_a_deletion_does_not_wait_for_ever(town: Town, case: Callable[[Town], None]) -> None:
    """The object of a file that is gone goes, though other files wait or fail."""
    case(town)
    town.run(60)
    assert "a/old" not in town.store.objects


def test_a_store_that_is_full_gets_rid_of_what_is_gone(town: Town) -> None:
    """A deletion makes the room that the copy waits for."""
    town.move("a", "new")
    town.pipeline.store_runners["store"].workers.health.quota = "no room"
    town.queue.mark(FileRef("a", "new"), quiet_seconds=1000.0, event=False)
    town.run(10)
    assert "a/old" not in town.store.objects


@pytest.mark.parametrize("new_name", ["new", "below/new", "zz"])
def test_what_has_taken_the_name_of_a_file_waits_for_its_copy(town: Town, new_name: str) -> None:
    """In whichever folder that is by now, and whichever comes first: only the new content is sent."""
    puts = town.puts()
    (town.root / "a" / "below").mkdir()
    town.move("a", new_name)
    town.write("a", "old", b"another one")
    town.pipeline.changed("a", "old")
    town.run(1)
    town.pipeline.changed("a", new_name)
    town.run(60)
    assert {key: found.data for key, found in town.store.objects.items()} == {
        "a/old": b"another one", f"a/{new_name}": CONTENT, "a/last": b"a source without files is in doubt",
    }  # fmt: skip
    assert town.puts() == puts + 1


@pytest.mark.parametrize("is_hasty", [False, True])
def test_a_single_pass_does_not_wait_for_a_look_of_another_thread(town: Town, is_hasty: bool) -> None:
    """It would give up the file after a few tries; the daemon tries again."""
    donors = town.pipeline.store_runners["store"].workers.donors
    donors.is_hasty, donors._next_look = is_hasty, inf
    town.pipeline.changed("a", "old")
    if is_hasty:
        assert donors.heirs(FileRef("a", "old")) == []
    else:
        with pytest.raises(FileChanged, match="looks for it under a new name"):
            donors.heirs(FileRef("a", "old"))


def test_many_deletions_look_once_at_the_files_that_wait(town: Town) -> None:
    """Each file that waits is looked at once for all deletions that are due together."""
    for number in range(50):
        town.write("a", f"d/{number}", b"x" * (number + 20))
    town.pipeline.source_runners["a"].ask("", "they are new")
    town.run(5)
    os.rename(town.root / "a" / "d", town.root / "gone")
    town.pipeline.source_runners["a"].ask("d", "they are gone")
    looks: list[float] = []
    donors = town.pipeline.store_runners["store"].workers.donors
    real = donors._seen
    donors._seen = lambda: looks.append(1) or real()  # type: ignore[method-assign,func-returns-value]
    town.run(20)
    assert set(town.store.objects) == {"a/old", "a/last"}
    assert len(looks) == 1
