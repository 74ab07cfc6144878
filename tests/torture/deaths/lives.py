"""One life after another: prepare, die or lose an answer at a point, go on, and look at what came of it."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from syncd.core.errors import SyncdError
from syncd.core.plan import LATE_EFFECT_NS
from syncd.sources.fingerprint import of_bytes
from syncd.storage.base import Clock, ObjectStore
from syncd.storage.retry import Retries, RetryingStore
from syncd.transfer.upload import orphans
from tests.support.rig import Rig
from tests.torture.deaths.places import Places
from tests.torture.deaths.points import (
    ANY,
    EFFECTS,
    STATE_METHODS,
    STORE_EFFECTS,
    STORE_METHODS,
    Death,
    Fate,
    Point,
    points,
)
from tests.torture.deaths.scenarios import CONCURRENCY, LARGEST_REQUEST, Scenario
from tests.torture.deaths.witness import Clerk, Witness

ALL = bool(os.environ.get("SYNCD_DEATHS_ALL"))
"""Meet every moment on every store: takes minutes."""
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""What survives is decided here by what was written, not by what a disk had kept: so no disk is needed."""


class Life(Rig):
    """A rig whose store and state are watched by a `Witness`."""

    def __init__(self, root: Path, places: Places, scenario: Scenario) -> None:
        place = places.place(root)
        self.witness = Witness(place.store, lambda: self.state)
        self.scenario = scenario
        self.place_prefix = place.prefix
        super().__init__(
            root,
            store=self.witness,  # type: ignore[arg-type]  # it hands on what it has not itself
            prefix=place.prefix,
            concurrency=CONCURRENCY,
            on_delete=scenario.on_delete,
        )
        scenario.prepare(self)
        self.witness.bytes_sent = 0
        self.witness.seen.clear()

    def begin(self, fate: Fate, *, repeated: bool = False) -> None:
        """A new process, under this fate from its first step on."""

        def store(real: ObjectStore) -> Any:
            mortal = fate.wrap(real, STORE_METHODS)
            if not repeated:
                return mortal
            return RetryingStore(
                mortal,
                Clock(time.time, lambda seconds: None, lambda: 0.5),
                retries=Retries(max_tries=3),
            )

        fate.awake = False
        self.restart(
            wrap_state=lambda state: fate.wrap(Clerk(state, self.witness), STATE_METHODS), wrap_store=store
        )
        fate.awake = True

    def kill(self) -> None:
        """What is left of a process that is no more: what it had not written yet is lost."""
        self.senders.shutdown(wait=True, cancel_futures=True)
        writer = self.state._writer
        assert writer is not None
        writer._queue.clear()

    def rise(self, fate: Fate | None = None) -> None:
        """The next start after a death: it asks the store before it sends what may be there."""
        self.begin(fate or Fate())
        self.know(reconciling=True)

    # ---- what has to hold --------------------------------------------------------------------------------

    @property
    def key(self) -> str:
        """Of the file."""
        return self.engine.keys.of(self.ref("file"))

    def check_now(self) -> None:
        """At every moment: a state of the file or nothing; rows with objects; uploads that will be found."""
        allowed = self.scenario.allowed
        assert self.witness.content(self.key) in allowed
        assert all(content in allowed for content in self.witness.seen.get(self.key, []))
        ids = {each.upload_id for each in self.state.checkpoints.all()}
        begun = {each.key for each in self.state.checkpoints.all() if each.upload_id is None}
        for leftover in self.state.checkpoints.leftovers(self.store.store_id):
            ids.add(leftover.upload_id)
            begun.update(() if leftover.upload_id else (leftover.key,))
        for upload in self.witness.list_multipart_uploads(self.source.prefix):
            assert upload.upload_id in ids or upload.key in begun, "no life will ever find this upload"

    def check_end(self, slack: int) -> None:
        """When all is done: the right object, the row that describes it, and nothing left over."""
        self.check_now()
        content = self.witness.content(self.key)
        assert content in self.scenario.want
        for name, wanted in self.scenario.others:
            assert self.witness.content(f"{self.place_prefix}{name}") == wanted
        self.state.flush()
        row = self.state.recorded(self.ref("file"))
        if (self.folder / "file").exists():
            assert row is not None
            assert content is not None
            assert (row.key, row.fingerprint) == (self.key, of_bytes(content))
        elif content is None:
            assert row is None
        assert row is None or row.kept != (self.folder / "file").exists()
        self.uploader.leftovers._pause_ns = 0
        with mock.patch.object(orphans, "LATE_EFFECT_NS", 0):  # an hour later
            self.engine.clear_up()
        assert list(self.witness.list_multipart_uploads(self.source.prefix)) == []
        assert self.state.checkpoints.leftovers(self.store.store_id) == []
        assert self.state.checkpoints.all() == []
        spent = self.witness.bytes_sent
        assert spent <= self.scenario.needed + self.scenario.wasted + slack, (spent, self.scenario.needed)
        self._check_later(content, spent)

    def _check_later(self, content: bytes | None, spent: int) -> None:
        """Once no lost request can come any more, another look costs nothing, and leaves no row in doubt."""
        self.begin(Fate())
        self.now_ns = lambda: time.time_ns() + LATE_EFFECT_NS
        self.sync("file")
        assert self.witness.bytes_sent == spent, "sent again, and nothing had changed"
        assert self.witness.content(self.key) == content
        row, info = self.state.recorded(self.ref("file")), self.witness.head(self.key)
        if (self.folder / "file").exists():
            assert row is not None
            assert info is not None
            assert row.etag == info.etag


@contextmanager
def life(places: Places, scenario: Scenario) -> Iterator[Life]:
    """One life, up to where the scenario begins."""
    root = Path(tempfile.mkdtemp(prefix="syncd-death-", dir=MEMORY))
    try:
        made = Life(root, places, scenario)
        try:
            yield made
        finally:
            made.close()
    finally:
        shutil.rmtree(root)


def moments(places: Places, scenario: Scenario) -> list[Point]:
    """Every moment of a life in which nothing goes wrong, on the store at hand; see `_is_chosen`."""
    fate = Fate()
    with life(places, scenario) as made:
        made.begin(fate)
        scenario.step(made)
        found = [
            point
            for point in points(fate.calls)
            if ALL or _is_chosen(point, places.kind, scenario, fate.calls)
        ]
    assert found
    return found


def _is_chosen(point: Point, kind: str, scenario: Scenario, calls: Mapping[str, int]) -> bool:
    """On the fake nearly every moment is met; on a real store those whose outcome lies with it.

    What goes on in the state is the same on every store, and so is the middle one of many parts.
    """
    outermost = point.nth in (1, calls[point.method])
    if kind == "fake":
        return outermost or (scenario.every_part and not point.repeated)
    if kind == "dir":
        return outermost and point.method in EFFECTS and not point.repeated
    if kind == "bos":
        return outermost and (point.method in STORE_METHODS or (point.after and not point.lives))
    return outermost and point.method in STORE_EFFECTS and (point.after or not point.lives)


def suffer_twice(places: Places, scenario: Scenario, first: Point, *, nth: int, after: bool) -> bool:
    """Die at one point, and again at the `nth` effect of the recovery; whether it was that long."""
    with life(places, scenario) as made:
        made.begin(Fate(first))
        _die(made)
        again = Fate(Point(ANY, nth, after))
        made.rise(again)
        try:
            scenario.step(made)
        except Death:
            made.kill()
        made.rise()
        made.check_now()
        scenario.step(made)
        made.check_end(0)
        return again.met


def suffer(places: Places, scenario: Scenario, point: Point) -> None:
    """Die, or lose an answer, at one point; go on; check."""
    with life(places, scenario) as made:
        fate = Fate(point)
        made.begin(fate, repeated=point.repeated)
        if point.lives:
            _lose(made, fate)
        else:
            _die(made)
        made.check_now()
        scenario.between_lives(made)
        scenario.step(made)
        made.check_end(_slack(point))


def _die(made: Life) -> None:
    with pytest.raises(Death):
        made.scenario.step(made)
    made.kill()
    made.rise()


def _lose(made: Life, fate: Fate) -> None:
    """The step fails, or helps itself."""
    with suppress(SyncdError):
        made.scenario.step(made)
    assert fate.met


def _slack(point: Point) -> int:
    """A process that dies sends nothing twice. One that lives on may send one request more.

    Where a copy fails, all content is sent.
    """
    if point.lives and point.method in ("copy_object", "upload_part_copy"):
        return 1 << 20
    return LARGEST_REQUEST if point.lives else 0


__all__ = ["ALL", "Life", "life", "moments", "suffer", "suffer_twice"]
