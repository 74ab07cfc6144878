"""Two machines under one prefix: neither destroys what the other wrote before the operator says so."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest
from msgspec.structs import replace

from syncd.cli import sync
from syncd.cli.sync import Overrides, Pass, run_once
from syncd.config.load import Settings
from syncd.core.model import Failure, ObjectInfo, OnDelete, Source, TransferPolicy
from syncd.daemon import process
from syncd.pipeline.context import Context, real_clock
from syncd.state.state import State
from syncd.storage.base import ObjectStore
from syncd.storage.dir.store import DirStore
from syncd.storage.settings import DirSettings
from tests.support.store import SMALL_LIMITS, FakeStore

Opener = Callable[[], ObjectStore]


class Machine:
    """A folder, a state and a machine's id; the store is shared."""

    def __init__(self, place: Path, name: str, opener: Opener, *, machine_id: str | None = None) -> None:
        self.folder, self.state_dir = place / name / "folder", place / name / "state"
        self.folder.mkdir(parents=True)
        self.machine_id = name * 32 if machine_id is None else machine_id
        self.source = Source(
            "docs", str(self.folder), "one", prefix="p/", settle_seconds=0.0, on_delete=OnDelete.DELETE
        )
        self.sent = 0
        self._opener = opener

    @property
    def store(self) -> ObjectStore:
        return self._opener()

    def write(self, **files: str) -> None:
        for name, content in files.items():
            (self.folder / name).write_text(content)

    def sync(self, *, take_over: bool = False) -> int:
        """One pass; returns the exit code."""
        words = Overrides(take_over=frozenset({self.source.name} if take_over else ()))
        with (
            mock.patch.object(process, "machine_id", return_value=self.machine_id),
            closing(State.open(str(self.state_dir), now_ns=time.time_ns)) as state,
        ):
            done = self._pass(state, words)
            self.sent = done.pipeline.tally.bytes_sent
            self.failures: dict[str, Failure] = {each.ref.path: each for each in state.failures.page()}
            return sync._code(done)

    def _pass(self, state: State, words: Overrides) -> Pass:
        policy = TransferPolicy(concurrency=2, part_size=8)
        settings = Settings("", str(self.state_dir), {"one": DirSettings("/x")}, (self.source,), policy)
        return run_once(
            settings,
            state,
            real_clock(),
            should_stop=lambda: False,
            tick=lambda pipeline: None,
            overrides=words,
            opener=lambda settings, context: self._opener(),
        )

    def lose_state(self) -> None:
        shutil.rmtree(self.state_dir)

    def stored(self) -> dict[str, str]:
        """The content of each object."""
        keys = [info.key for info in self.store.list_objects("p/")]
        return {key.removeprefix("p/"): self._content(key) for key in keys}

    def _content(self, key: str) -> str:
        info = self.seen(key)
        return self.store.get_object(key, 0, info.size - 1).body.decode()

    def seen(self, key: str) -> ObjectInfo:
        info = self.store.head_object(key)
        assert info is not None
        return info


def opener_of(fake: FakeStore) -> Opener:
    def opened() -> FakeStore:
        fake.closed = False
        return fake

    return opened


@pytest.fixture(params=["fake", "dir"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    if request.param == "fake":
        return opener_of(FakeStore(SMALL_LIMITS))
    return lambda: DirStore(DirSettings(str(mirror)))


@pytest.fixture
def first(tmp_path: Path, opener: Opener) -> Machine:
    machine = Machine(tmp_path, "a", opener)
    machine.write(same="same", other="first", gone="gone")
    assert machine.sync() == 0
    return machine


def test_deletions_and_overwrites_wait_and_new_keys_go(
    tmp_path: Path, opener: Opener, first: Machine
) -> None:
    """Until the operator says who takes over; then the other machine finds that it was this one, too."""
    second = Machine(tmp_path, "b", opener)
    second.write(same="same", other="second", new="new, and its parts")

    assert second.sync() == 3
    assert first.stored() == {"same": "same", "other": "first", "gone": "gone", "new": "new, and its parts"}
    assert second.seen("p/new").instance != first.seen("p/same").instance is not None
    assert second.failures.keys() == {"other"}
    (second.folder / "same").unlink()
    second.write(new="newer", newest="newest")
    before = first.stored()

    assert second.sync() == 3
    assert first.stored() == before | {"newest": "newest"}
    assert second.failures.keys() == {"same", "other", "new"}
    for failure in second.failures.values():
        assert "another machine wrote p/other" in failure.error
        assert "syncd sync --take-over docs" in failure.error

    assert second.sync(take_over=True) == 0
    assert first.stored() == {"other": "second", "gone": "gone", "new": "newer", "newest": "newest"}
    assert second.sync() == 0
    (first.folder / "other").unlink()
    assert first.sync() == 3
    assert first.failures.keys() == {"other"}
    assert first.stored()["other"] == "second"


def test_an_overwrite_finds_what_the_other_machine_wrote_since(
    tmp_path: Path, opener: Opener, first: Machine
) -> None:
    """Both have the object on record; the second that replaces it finds that it is another one by now."""
    second = Machine(tmp_path, "b", opener)
    second.write(same="same", other="first", gone="gone")
    assert (second.sync(), second.sent) == (0, 0)
    first.write(same="of the first, in parts")
    assert first.sync() == 0

    for content in ("second", "of the second, in parts"):
        second.write(same=content)
        assert second.sync() == 3
        assert second.failures.keys() == {"same"}
        assert first.stored()["same"] == "of the first, in parts"
    assert second.sync(take_over=True) == 0
    assert first.stored()["same"] == "of the second, in parts"


def test_after_a_lost_state_nothing_is_foreign(first: Machine) -> None:
    """The id is made of the machine and the source: what is equal is adopted, the rest is replaced."""
    first.lose_state()
    first.write(other="changed")

    assert first.sync() == 0
    assert first.stored()["other"] == "changed"
    assert first.sent == len("changed")
    (first.folder / "gone").unlink()
    assert first.sync() == 0
    assert "gone" not in first.stored()


def test_a_state_that_was_copied_to_another_machine_does_not_make_it_the_first(
    tmp_path: Path, first: Machine
) -> None:
    """Both may work from then on. What is recorded belongs to both, and what the first wrote since to it."""
    copy = tmp_path / "copy"
    shutil.copytree(first.state_dir, copy)
    first.write(other="of the first, later")
    assert first.sync() == 0
    shutil.rmtree(first.state_dir)
    copy.rename(first.state_dir)
    first.machine_id = "b" * 32
    first.write(other="of the second", same="changed, too", new="new")

    assert first.sync() == 3
    assert first.stored()["other"] == "of the first, later"
    assert first.stored()["new"] == "new"
    assert first.sync(take_over=True) == 0
    assert (first.stored()["other"], first.stored()["same"]) == ("of the second", "changed, too")


def test_a_machine_without_an_id_keeps_one_in_its_state(tmp_path: Path, opener: Opener) -> None:
    """As in a container: the same at each start. With the state it is lost, and then the operator decides."""
    container = Machine(tmp_path, "c", opener, machine_id="")
    container.write(same="same", other="first")
    assert container.sync() == 0
    whose = container.seen("p/other").instance
    container.write(other="again")
    assert container.sync() == 0
    assert container.seen("p/other").instance == whose is not None

    container.lose_state()
    container.write(other="later")
    assert container.sync() == 3
    assert container.sent == 0
    assert container.stored() == {"same": "same", "other": "again"}
    assert container.sync(take_over=True) == 0
    assert container.stored() == {"same": "same", "other": "later"}


@pytest.mark.parametrize("moved", [False, True])
def test_a_renamed_or_moved_source_finds_its_own_objects(first: Machine, moved: bool) -> None:
    """The state keeps the ids that it used."""
    if moved:
        first.folder = first.folder.rename(first.folder.with_name("moved"))
        first.source = replace(first.source, name="papers", root=str(first.folder))
    else:
        first.source = replace(first.source, name="papers")
    first.write(other="changed")

    assert first.sync() == 0
    assert first.sent == len("changed")
    assert first.stored()["other"] == "changed"


@pytest.mark.parametrize("lost", [False, True])
def test_objects_without_an_id_hold_nothing_up(
    tmp_path: Path, opener: Opener, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """Those of an older syncd are neither sent again nor copied; they are replaced and deleted as before."""
    old = Machine(tmp_path, "a", opener)
    old.write(same="same", other="first", gone="gone")
    with monkeypatch.context() as patch:
        patch.setattr(Context, "instance_of", lambda self, source: "")
        assert old.sync() == 0
    assert {old.seen(f"p/{name}").instance for name in ("same", "other", "gone")} == {None}
    if lost:
        old.lose_state()

    assert (old.sync(), old.sent) == (0, 0)
    assert old.seen("p/same").instance is None
    old.write(other="changed")
    (old.folder / "gone").unlink()
    assert (old.sync(), old.sent) == (0, len("changed"))
    assert old.stored() == {"same": "same", "other": "changed"}
    assert old.seen("p/other").instance is not None


def test_an_ordinary_file_costs_one_request(tmp_path: Path) -> None:
    """New, and replaced: the id travels with the put."""
    fake = FakeStore(SMALL_LIMITS)
    machine = Machine(tmp_path, "a", opener_of(fake))
    machine.write(one="one")
    machine.sync()
    machine.sync()
    for content in ("two", "three"):
        fake.reset_counters()
        machine.write(one=content)
        assert machine.sync() == 0
        assert {verb: count for verb, count in fake.calls.items() if count} == {"put_object": 1}
