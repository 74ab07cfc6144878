"""Any history of a folder, a store that fails and a process that dies, against a model too plain to be wrong.

One thread and a seed that replays. The model knows two things: every content that a path ever had, and
what is in the folder now. At every moment an object is one of the contents that its path ever had; once all
is quiet, it is the one that the path has.

Two players: hypothesis, which prints a failing history as a script, and a plain seeded one that knows where
it hurts; every fifth of its seeds is played twice and must leave the same trace. Longer campaigns::

    SYNCD_MODEL_EXAMPLES=5000 SYNCD_MODEL_SEEDS=5000 python -m pytest tests/torture/test_model.py
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from syncd.core import plan
from syncd.core.errors import FileUnreadable, StoreUnavailable, SyncdError
from syncd.core.model import FileRef, FileStat, OnDelete, Recorded
from syncd.core.patterns import Rules
from syncd.sources import files
from syncd.sources.scan import compare
from syncd.transfer.upload import orphans
from tests.support.rig import PART, Rig
from tests.support.states import States
from tests.support.store import SMALL_LIMITS, Call, FakeStore
from tests.torture.deaths.test_deaths import STATE_EFFECTS, STORE_EFFECTS, Death, Fate, Point

EXAMPLES = int(os.environ.get("SYNCD_MODEL_EXAMPLES", "60"))
STEPS = int(os.environ.get("SYNCD_MODEL_STEPS", "40"))
SEEDS = int(os.environ.get("SYNCD_MODEL_SEEDS", "150"))

NAMES = ("a", "b", "d/a", "d/b", "d/e/c", "f")
SIZES = (0, 1, PART - 1, PART, PART + 1, 3 * PART, 4 * PART + 5)
FAULTY_VERBS = sorted(STORE_EFFECTS | {"head_object", "list_parts", "list_multipart_uploads"})
_open_file = files.open_file
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class AtOnce(Executor):
    """A pool without threads: what is submitted is done at once, in order."""

    def submit(self, task: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(task(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


class Sink:
    """What a scan finds is dirty."""

    def __init__(self, dirty: dict[str, bool]) -> None:
        self._dirty = dirty

    def found(self, ref: FileRef, stat: FileStat, recorded: Recorded | None) -> None:
        self._dirty.setdefault(ref.path, False)

    def absent(self, ref: FileRef, recorded: Recorded) -> None:
        self._dirty.setdefault(ref.path, False)

    def skipped(self, ref: FileRef, reason: str) -> None:
        """Nothing to do."""

    def unreadable(self, source: str, path: str, error: OSError) -> None:
        raise AssertionError(f"{path}: {error}")

    def out_of_sight(self, source: str, path: str, reason: str) -> None:
        raise AssertionError(f"{path}: {reason}")


class ModelRig(Rig):
    """A rig without threads, whose clock makes either every stat too young to be trusted, or none.

    The real one would let the speed of the machine decide, and two plays of a seed would differ.
    """

    everything_is_young = True
    jumped_ns = 0
    """By how much the clock was set."""

    def _now_ns(self) -> int:
        start_ns = 0 if self.everything_is_young else time.time_ns() + 10 * plan.RACY_WINDOW_NS
        return start_ns + self.jumped_ns

    def open(self) -> None:
        super().open()
        self.now_ns = self._now_ns
        self.senders.shutdown()
        self.senders = AtOnce()  # type: ignore[assignment]
        self.uploader._parts._senders = self.senders


class Folder(RuleBasedStateMachine):
    """The folder, the store and the process, as hypothesis plays with them."""

    @initialize(seed=st.integers(0, 2**32), pages=st.sampled_from((1, 2, 1000)), odd=st.booleans())
    def begin(self, seed: int, pages: int, odd: bool) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="syncd-model-", dir=MEMORY))
        store = FakeStore(SMALL_LIMITS, page_size=pages, random_etags=odd, seed=seed, now_ns=time.time_ns)
        self.rig = ModelRig(self.root, store=store, on_delete=OnDelete.KEEP)
        self.chance = random.Random(seed)
        self.rig.everything_is_young = seed % 2 == 0
        self.forbidden: set[str] = set()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(files, "open_file", self._open_file)
        self.states = States()
        self.dirty: dict[str, bool] = {}
        self.counter = 0
        self.trace: list[str] = []

    # ---- what people do ---------------------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES), size=st.sampled_from(SIZES))
    def write(self, name: str, size: int) -> None:
        """Truncate and write, as most programs save."""
        path = self._place(name)
        if path is not None:
            path.write_bytes(self._content(size))
            self._event(name)

    @rule(name=st.sampled_from(NAMES), size=st.sampled_from(SIZES))
    def save_by_rename(self, name: str, size: int) -> None:
        """Write beside, then rename over: as editors save."""
        path = self._place(name)
        if path is not None:
            other = path.with_name(".tmp")
            other.write_bytes(self._content(size))
            other.rename(path)
            self._event(name)

    @rule(name=st.sampled_from(NAMES), size=st.sampled_from(SIZES))
    def append(self, name: str, size: int) -> None:
        path = self.rig.folder / name
        if path.is_file():
            with path.open("ab") as file:
                file.write(self._content(size))
            self._event(name)

    @rule(name=st.sampled_from(NAMES), size=st.sampled_from(SIZES))
    def truncate(self, name: str, size: int) -> None:
        path = self.rig.folder / name
        if path.is_file():
            os.truncate(path, min(size, path.stat().st_size))
            self._event(name)

    @rule(name=st.sampled_from(NAMES), told=st.booleans())
    def overwrite_in_place_and_restore_mtime(self, name: str, told: bool) -> None:
        """Same inode, same size, same mtime, other content; perhaps no event either."""
        path = self.rig.folder / name
        if path.is_file():
            before = path.stat()
            with path.open("r+b") as file:
                file.write(self._content(before.st_size))
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            self._event(name, told=told)

    @rule(name=st.sampled_from(NAMES))
    def touch(self, name: str) -> None:
        if (self.rig.folder / name).is_file():
            os.utime(self.rig.folder / name)
            self._event(name)

    @rule(name=st.sampled_from(NAMES), told=st.booleans())
    def delete(self, name: str, told: bool) -> None:
        path = self.rig.folder / name
        if path.is_file():
            path.unlink()
            self._event(name, told=told)

    @rule(old=st.sampled_from(NAMES), new=st.sampled_from(NAMES))
    def rename(self, old: str, new: str) -> None:
        path = self.rig.folder / old
        target = self._place(new)
        if path.is_file() and target is not None:
            path.rename(target)
            self._event(old)
            self._event(new)

    @rule(old=st.sampled_from(NAMES), new=st.sampled_from(NAMES))
    def swap(self, old: str, new: str) -> None:
        one, two = self.rig.folder / old, self.rig.folder / new
        if one.is_file() and two.is_file() and one != two:
            other = one.with_name(".tmp")
            one.rename(other)
            two.rename(one)
            other.rename(two)
            self._event(old)
            self._event(new)

    @rule(old=st.sampled_from(("d", "d/e")), new=st.sampled_from(("d", "g", "d/e")))
    def rename_directory(self, old: str, new: str) -> None:
        """No event tells of the files inside: the scan finds them."""
        path, target = self.rig.folder / old, self.rig.folder / new
        if (
            path.is_dir()
            and not target.exists()
            and target.parent.is_dir()
            and not f"{new}/".startswith(f"{old}/")
        ):
            path.rename(target)
            self._publish()

    @rule(name=st.sampled_from(("d", "d/e", "a")))
    def exchange_file_and_directory(self, name: str) -> None:
        path = self.rig.folder / name
        if path.is_dir():
            shutil.rmtree(path)
            path.write_bytes(self._content(3))
        elif path.is_file():
            path.unlink()
            path.mkdir()
        self._event(name)

    @rule(name=st.sampled_from(NAMES))
    def take_rights_away(self, name: str) -> None:
        """chmod 000, as it is for everybody but root."""
        self.forbidden.add(name)
        self._event(name)

    @rule(name=st.sampled_from(NAMES))
    def give_rights_back(self, name: str) -> None:
        self.forbidden.discard(name)
        self._event(name)

    def _open_file(self, root_fd: int, path: str, *more: Any, **named: Any) -> files.OpenFile:
        if path in self.forbidden:
            raise FileUnreadable("Permission denied")
        return _open_file(root_fd, path, *more, **named)

    # ---- what befalls the store and the process ---------------------------------------------------------

    @rule(verb=st.sampled_from(FAULTY_VERBS), times=st.integers(1, 3), late=st.booleans())
    def store_fails(self, verb: str, times: int, late: bool) -> None:
        """The answer is lost, before or after the effect."""
        fault = StoreUnavailable("as ordered", outcome_unknown=True)
        self.rig.fake.fail(verb, fault, times=times, after_effect=late)

    @rule(
        verb=st.sampled_from(("put_object", "upload_part", "create_multipart_upload")),
        name=st.sampled_from(NAMES),
    )
    def write_during_the_next_upload(self, verb: str, name: str) -> None:
        """A program saves the file, or another one, in the middle of it."""
        armed = [True]

        def save(call: Call) -> None:
            if armed:
                armed.clear()
                self.overwrite_in_place_and_restore_mtime(name, told=True)

        self.rig.fake.before(verb, save)

    @rule()
    def uploads_expire(self) -> None:
        self.rig.fake.uploads.clear()

    @rule()
    def events_are_lost(self) -> None:
        self.dirty.clear()

    @rule()
    def the_queue_overflows(self) -> None:
        """Events are lost, and the kernel says so."""
        self.dirty.clear()
        self._scan()

    @rule(hours=st.integers(-30, 30))
    def the_clock_jumps(self, hours: int) -> None:
        self.rig.jumped_ns += hours * 3_600 * 10**9

    @rule()
    def restart(self) -> None:
        self.dirty.clear()
        self.rig.restart()

    @rule(
        method=st.sampled_from(sorted(STATE_EFFECTS | STORE_EFFECTS)),
        nth=st.integers(1, 6),
        after=st.booleans(),
    )
    def die_while_working(self, method: str, nth: int, after: bool) -> None:
        """The process works until it dies at this effect, if it gets there."""
        fate = Fate(Point(method, nth, after))
        self.rig.restart(
            wrap_state=lambda state: fate.wrap(state, STATE_EFFECTS),
            wrap_store=lambda store: fate.wrap(store, STORE_EFFECTS),
        )
        self._scan()
        with suppress(Death):
            self._work(20)
        self.dirty.clear()
        self.rig.restart()

    # ---- what the process does --------------------------------------------------------------------------

    @rule(steps=st.integers(1, 6))
    def work(self, steps: int) -> None:
        self._work(steps)

    @rule()
    def look(self) -> None:
        self._scan()

    @rule()
    @precondition(lambda self: hasattr(self, "rig"))
    def all_is_quiet(self) -> None:
        """Faults are over, a scan is made, everything dirty is done: the store has what the folder has."""
        self.rig.fake.heal()
        self.forbidden.clear()
        self._mark_unfinished()
        for _ in range(3):
            self._scan()
            self._work(200)
        with mock.patch.object(orphans, "LATE_EFFECT_NS", 0):  # an hour later
            if self.rig.uploader.leftovers.look():
                self.rig.engine.clear_up()
        assert self.rig.state.checkpoints.leftovers(self.rig.store.store_id) == []
        have = {key.removeprefix("p/"): thing.data for key, thing in self.rig.fake.objects.items()}
        for name, content in self._files().items():
            assert have.get(name) == content, f"{name} is not in the store as it is in the folder"
            row = self.rig.state.recorded(FileRef("docs", name))
            assert row is not None
            assert row.fingerprint.size == len(content)
        assert self.rig.state.checkpoints.all() == []
        ours = [upload for upload in self.rig.fake.uploads.values() if upload.initiated_ns]
        assert ours == [], "an upload was left behind"

    @invariant()
    def every_object_is_something_that_its_file_was(self) -> None:
        if not hasattr(self, "rig"):
            return
        for key, thing in self.rig.fake.objects.items():
            name = key.removeprefix("p/")
            assert self.states.had(name, thing.data), f"{name}: the object is nothing that it ever was"

    def teardown(self) -> None:
        if hasattr(self, "rig"):
            try:
                self.all_is_quiet()
            finally:
                self.patch.undo()
                self.rig.close()
                shutil.rmtree(self.root)

    # ---- helpers ----------------------------------------------------------------------------------------

    def _content(self, size: int) -> bytes:
        """Never the same twice, except when empty."""
        self.counter += 1
        return (b"%06d" % self.counter + self.chance.randbytes(size))[:size] if size else b""

    def _place(self, name: str) -> Path | None:
        """Where to write, with its directories; None where a file stands in the way."""
        path = self.rig.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            return None
        return None if path.is_dir() else path

    def _files(self) -> dict[str, bytes]:
        found = {}
        for directory, _, names in os.walk(self.rig.folder):
            for name in names:
                path = Path(directory) / name
                found[str(path.relative_to(self.rig.folder))] = path.read_bytes()
        return found

    def _publish(self) -> None:
        """Whatever is in the folder now is something that its path was."""
        self.states.add(self._files())

    def _event(self, name: str, *, told: bool = True) -> None:
        self._publish()
        if told:
            self.dirty[name] = True

    def _mark_unfinished(self) -> None:
        for checkpoint in self.rig.state.checkpoints.all():
            self.dirty[checkpoint.ref.path] = True

    def _scan(self) -> None:
        compare.scan(
            self.rig.source,
            Rules((), ()),
            self.rig.state,
            Sink(self.dirty),
            should_stop=lambda: False,
            store_id=self.rig.store.store_id,
        )

    def _work(self, steps: int) -> None:
        """Take dirty paths one by one; a failure leaves the path dirty, as the daemon's queue would."""
        for _ in range(steps):
            if not self.dirty:
                return
            name = self.chance.choice(sorted(self.dirty))
            event = self.dirty.pop(name)
            try:
                outcome = self.rig.sync(name, event=event)
                self.trace.append(f"{name}: {type(outcome.action).__name__}, {outcome.action.reason}")
            except SyncdError as error:
                self.dirty[name] = True
                self.trace.append(f"{name}: {error!r}")


TestFolder = Folder.TestCase
TestFolder.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    print_blob=True,
)


# ---- the seeded player -----------------------------------------------------------------------------------

LARGE = (PART + 1, 3 * PART, 4 * PART + 5)
MULTIPART_POINTS = (
    "begin", "create_multipart_upload", "set_upload_id", "upload_part", "add_part", "set_completing",
    "complete_multipart_upload", "commit", "drop", "abort_multipart_upload",
)  # fmt: skip


def _save(play: Folder, chance: random.Random) -> None:
    play.write(name=chance.choice(NAMES), size=chance.choice(SIZES + LARGE))


def _meddle(play: Folder, chance: random.Random) -> None:
    """Any of the things that people do."""
    one, two = chance.choice(NAMES), chance.choice(NAMES)
    size = chance.choice(SIZES)
    chance.choice(
        (
            lambda: play.save_by_rename(name=one, size=size),
            lambda: play.append(name=one, size=size),
            lambda: play.truncate(name=one, size=size),
            lambda: play.overwrite_in_place_and_restore_mtime(name=one, told=chance.random() < 0.5),
            lambda: play.touch(name=one),
            lambda: play.delete(name=one, told=chance.random() < 0.5),
            lambda: play.rename(old=one, new=two),
            lambda: play.swap(old=one, new=two),
            lambda: play.rename_directory(old=chance.choice(("d", "d/e")), new=chance.choice(("g", "d"))),
            lambda: play.exchange_file_and_directory(name=chance.choice(("d", "d/e", "a"))),
            lambda: play.take_rights_away(name=one),
            lambda: play.give_rights_back(name=one),
        )
    )()


def _trouble(play: Folder, chance: random.Random) -> None:
    """A large file, and something goes wrong with the very next request or two."""
    play.write(name=chance.choice(NAMES), size=chance.choice(LARGE))
    play.store_fails(verb=chance.choice(FAULTY_VERBS), times=chance.randint(1, 2), late=chance.random() < 0.6)
    play.work(steps=3)


def _death(play: Folder, chance: random.Random) -> None:
    """A large file, and the end in the middle of it."""
    play.write(name=chance.choice(NAMES), size=chance.choice(LARGE))
    method = chance.choice(MULTIPART_POINTS)
    play.die_while_working(method=method, nth=chance.randint(1, 4), after=chance.random() < 0.5)


def _race(play: Folder, chance: random.Random) -> None:
    """A program writes into the file while it is sent."""
    name = chance.choice(NAMES)
    play.write(name=name, size=chance.choice(SIZES + LARGE))
    verb = chance.choice(("put_object", "upload_part", "create_multipart_upload"))
    play.write_during_the_next_upload(verb=verb, name=name)
    play.work(steps=3)


MOVES: tuple[tuple[int, Callable[[Folder, random.Random], None]], ...] = (
    (6, _save),
    (8, _meddle),
    (6, _trouble),
    (6, _death),
    (4, _race),
    (6, lambda play, chance: play.work(steps=chance.randint(1, 6))),
    (3, lambda play, chance: play.look()),
    (1, lambda play, chance: play.restart()),
    (1, lambda play, chance: play.uploads_expire()),
    (1, lambda play, chance: play.events_are_lost()),
    (1, lambda play, chance: play.the_queue_overflows()),
    (1, lambda play, chance: play.the_clock_jumps(hours=chance.randint(-30, 30))),
    (1, lambda play, chance: play.all_is_quiet()),
)


def played(seed: int, steps: int) -> list[str]:
    """Play one seed to its quiet end; returns the trace."""
    chance = random.Random(seed)
    play = Folder()
    play.begin(seed=seed, pages=chance.choice((1, 2, 1000)), odd=chance.random() < 0.3)
    try:
        for _ in range(steps):
            (move,) = chance.choices([move for _, move in MOVES], [weight for weight, _ in MOVES])
            move(play, chance)
            play.every_object_is_something_that_its_file_was()
        play.all_is_quiet()
        play.every_object_is_something_that_its_file_was()
        return [*play.trace, *map(str, play.rig.fake.log)]
    finally:
        play.rig.fake.heal()
        play.patch.undo()
        play.rig.close()
        shutil.rmtree(play.root)


@pytest.mark.parametrize("block", range(10))
def test_seeded_histories(block: int) -> None:
    """Every seed keeps the promises; one that is played twice leaves the same trace."""
    for number, seed in enumerate(range(block, SEEDS, 10)):
        try:
            first = played(seed, STEPS)
        except Exception as error:
            raise AssertionError(
                f"seed {seed}: replay with tests.torture.test_model.played({seed}, {STEPS})"
            ) from error
        if number % 5 == 0:
            assert first == played(seed, STEPS), f"seed {seed} is not deterministic"
