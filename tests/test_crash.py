"""Dies at every effect on state and store in turn, starts anew, runs on, and checks the invariants.

The points are generated from the interfaces: every method of `ObjectStore` and of `State` that has an effect,
each of its calls in a scenario, before it, and after it (which for the one who died is the same as after it
with the answer lost). A new method is an effect until somebody says here that it is not.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from syncd.engine import Engine
from syncd.fingerprint import of_bytes
from syncd.model import FileRef, OnDelete, StoreLimits
from syncd.state import State
from syncd.storage.base import DirSettings, ObjectStore
from syncd.storage.dir import DirStore
from tests.fakes.store import SMALL_LIMITS, FakeStore
from tests.rig import PART, Rig

STATE_QUESTIONS = frozenset(
    {
        "checkpoint_for", "checkpoints", "commits", "failure_count", "failures", "find_content",
        "last_scan", "learned", "outline_page",
        "part_digests", "recorded", "recorded_page", "recorded_totals",
        "root_identity", "root_path", "totals",
    }
)  # fmt: skip
STATE_ELSEWHERE = frozenset(
    {
        "open",
        "open_read_only",
        "close",
        "flush",
        "note_scan",
        "set_root_identity",
        "renumber_device",
        "add_totals",
    }
)
"""Not part of a step: opening and closing have tests of their own, the rest holds no promise about files."""
STORE_QUESTIONS = frozenset(
    {"head_object", "get_object", "list_objects", "list_parts", "list_multipart_uploads"}
)
STORE_ELSEWHERE = frozenset({"close"})

BIG = bytes(i % 251 for i in range(5 * PART + 3))
OTHER = BIG[::-1]
LONGER = BIG + b"more"
CONCURRENCY = 2


def effects(interface: type, questions: frozenset[str], elsewhere: frozenset[str]) -> frozenset[str]:
    """The methods of an interface that change something."""
    methods = {
        name for name in vars(interface) if not name.startswith("_") and callable(getattr(interface, name))
    }
    return frozenset(methods - questions - elsewhere)


STATE_EFFECTS = effects(State, STATE_QUESTIONS, STATE_ELSEWHERE)
STORE_EFFECTS = effects(ObjectStore, STORE_QUESTIONS, STORE_ELSEWHERE)


class Death(BaseException):
    """The process is gone: nothing may catch this and go on."""


@dataclass(frozen=True)
class Point:
    """One moment of death."""

    method: str
    nth: int
    after: bool

    def __str__(self) -> str:
        return f"{'after' if self.after else 'before'}-{self.method}-{self.nth}"


class Fate:
    """Counts the effects, and ends everything at its point."""

    def __init__(self, point: Point | None = None) -> None:
        self.calls: Counter[str] = Counter()
        self.dead = False
        self._point = point
        self._lock = threading.Lock()

    def wrap(self, real: Any, names: frozenset[str]) -> Any:
        """`real`, mortal: once dead, no method of it does anything any more."""
        return _Mortal(real, names, self)

    def call(self, name: str, real: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            self.calls[name] += 1
            nth = self.calls[name]
            self._meet(Point(name, nth, after=False))
        result = real(*args, **kwargs)
        with self._lock:
            self._meet(Point(name, nth, after=True))
        return result

    def _meet(self, point: Point) -> None:
        if self.dead or point == self._point:
            self.dead = True
            raise Death(str(point))


class _Mortal:
    def __init__(self, real: Any, names: frozenset[str], fate: Fate) -> None:
        self._real, self._names, self._fate = real, names, fate

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._real, name)
        if not callable(attribute):
            return attribute
        if name in self._names:
            return lambda *args, **kwargs: self._fate.call(name, attribute, *args, **kwargs)

        def question(*args: Any, **kwargs: Any) -> Any:
            if self._fate.dead:
                raise Death(name)
            return attribute(*args, **kwargs)

        return question


# ---- scenarios: what was there before, and what is done when death strikes -------------------------------


@dataclass(frozen=True)
class Scenario:
    """`prepare` runs undisturbed; `step` is what dies. `want` is the object in the end, None for none."""

    name: str
    prepare: Callable[[Rig], None]
    step: Callable[[Rig], None]
    want: bytes | None
    allowed: tuple[bytes | None, ...]
    """What may be under the key at any moment from `prepare` on."""
    needed: int
    """Bytes that have to be sent after `prepare`."""
    on_delete: OnDelete = OnDelete.KEEP


def _nothing(rig: Rig) -> None:
    """A fresh folder."""


def _sync(rig: Rig) -> None:
    rig.sync("file")


def _small(rig: Rig) -> None:
    rig.write("file", b"small")


def _big(rig: Rig) -> None:
    rig.write("file", BIG)


def _half_sent(rig: Rig) -> None:
    """An upload with two parts there, as a cut connection leaves it."""
    _big(rig)
    fate = Fate(Point("upload_part", 3, after=False))
    rig.plain(concurrency=1)  # so that it is always the same two parts
    rig.restart(wrap_store=lambda store: fate.wrap(store, STORE_EFFECTS))
    with pytest.raises(Death):
        rig.sync("file")
    rig.plain(concurrency=CONCURRENCY)
    rig.restart()


def _half_sent_then_changed(rig: Rig) -> None:
    _half_sent(rig)
    rig.write("file", OTHER)


def _sent_then_changed(rig: Rig) -> None:
    _big(rig)
    rig.sync("file")
    rig.write("file", OTHER)


def _sent_then_appended(rig: Rig) -> None:
    _big(rig)
    rig.sync("file")
    rig.write("file", LONGER)


def _twin(rig: Rig) -> None:
    rig.write("twin", b"small")
    rig.sync("twin")
    _small(rig)


def _sent_then_deleted(rig: Rig) -> None:
    _small(rig)
    rig.sync("file")
    (rig.folder / "file").unlink()


def _half_sent_then_deleted(rig: Rig) -> None:
    _half_sent(rig)
    (rig.folder / "file").unlink()


def _delete(rig: Rig) -> None:
    rig.engine.condemned.add(rig.ref("file"))
    rig.sync("file")


def _refused_parts(rig: Rig) -> None:
    _big(rig)
    rig.state.learn(rig.store.store_id, "min_part_size", str(PART + 2))


SCENARIOS = (
    Scenario("put", _small, _sync, b"small", (None, b"small"), 5),
    Scenario("multipart", _big, _sync, BIG, (None, BIG), len(BIG)),
    Scenario("resume", _half_sent, _sync, BIG, (None, BIG), len(BIG)),
    Scenario("restart", _half_sent_then_changed, _sync, OTHER, (None, OTHER), len(OTHER)),
    Scenario("replace", _sent_then_changed, _sync, OTHER, (BIG, OTHER), len(OTHER)),
    Scenario("delta", _sent_then_appended, _sync, LONGER, (BIG, LONGER), len(LONGER) % PART),
    Scenario("copy", _twin, _sync, b"small", (None, b"small"), 5),
    Scenario("delete", _sent_then_deleted, _delete, None, (b"small", None), 0, OnDelete.DELETE),
    Scenario("abandon", _half_sent_then_deleted, _sync, None, (None,), 0),
    Scenario("learned", _refused_parts, _sync, BIG, (None, BIG), len(BIG)),
)


# ---- stores ----------------------------------------------------------------------------------------------


def _fake(root: Path) -> ObjectStore:
    import time

    return FakeStore(SMALL_LIMITS, now_ns=time.time_ns)


def _directory(root: Path) -> ObjectStore:
    path = root / "objects"
    path.mkdir()
    return DirStore(DirSettings(str(path)))


STORES = {"fake": _fake, "dir": _directory}


class Counted:
    """Counts the bytes that go to the store."""

    def __init__(self, real: ObjectStore) -> None:
        self._real = real
        self.bytes_sent = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    @property
    def limits(self) -> StoreLimits:
        """Parts of a few bytes, whatever the store thinks."""
        return SMALL_LIMITS

    def put_object(self, key: str, body: bytes, meta: Any) -> Any:
        self.bytes_sent += len(body)
        return self._real.put_object(key, body, meta)

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes) -> Any:
        self.bytes_sent += len(body)
        return self._real.upload_part(key, upload_id, number, body)


def _rig(root: Path, store: str, scenario: Scenario) -> Rig:
    return Rig(
        root,
        store=Counted(STORES[store](root)),  # type: ignore[arg-type]
        concurrency=CONCURRENCY,
        on_delete=scenario.on_delete,
    )


def _object(rig: Rig) -> bytes | None:
    info = rig.store.head_object("p/file")
    if info is None:
        return None
    return rig.store.get_object("p/file", 0, info.size - 1) if info.size else b""


def _points(root: Path, store: str, scenario: Scenario) -> Iterator[Point]:
    """Every moment of a life without death, on the store at hand."""
    rig = _rig(root, store, scenario)
    scenario.prepare(rig)
    fate = Fate()
    rig.restart(
        wrap_state=lambda state: fate.wrap(state, STATE_EFFECTS),
        wrap_store=lambda store: fate.wrap(store, STORE_EFFECTS),
    )
    scenario.step(rig)
    rig.close()
    for method, count in sorted(fate.calls.items()):
        for nth in range(1, count + 1):
            yield Point(method, nth, after=False)
            yield Point(method, nth, after=True)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_death_at_every_effect(tmp_path: Path, scenario: Scenario, store: str) -> None:
    """Wherever the process dies, the next start ends in the same place, and no torn object is ever seen."""
    (tmp_path / "life").mkdir()
    points = list(_points(tmp_path / "life", store, scenario))
    assert points
    for number, point in enumerate(points):
        root = tmp_path / str(number)
        root.mkdir()
        _die_and_run_on(root, store, scenario, point)


def _die_and_run_on(root: Path, store: str, scenario: Scenario, point: Point) -> None:
    rig = _rig(root, store, scenario)
    scenario.prepare(rig)
    rig.store.bytes_sent = 0  # type: ignore[attr-defined]
    fate = Fate(point)
    rig.restart(
        wrap_state=lambda state: fate.wrap(state, STATE_EFFECTS),
        wrap_store=lambda store: fate.wrap(store, STORE_EFFECTS),
    )
    with pytest.raises(Death):
        scenario.step(rig)
    rig.restart()
    assert _object(rig) in scenario.allowed, point
    _check_records(rig, scenario, point)

    scenario.step(rig)

    assert _object(rig) == scenario.want, point
    _check_records(rig, scenario, point)
    assert list(rig.store.list_multipart_uploads("p/")) == [], point
    assert rig.state.checkpoints() == [], point
    in_flight = CONCURRENCY * (PART + 2)
    assert rig.store.bytes_sent <= scenario.needed + in_flight, point  # type: ignore[attr-defined]
    before = rig.store.bytes_sent  # type: ignore[attr-defined]
    if scenario.want is not None:
        rig.sync("file")
        assert rig.store.bytes_sent == before, point  # type: ignore[attr-defined]
    rig.close()


def _check_records(rig: Rig, scenario: Scenario, point: Point) -> None:
    """Invariant 1: a recorded row describes an object that the store has acknowledged."""
    for name in ("file", "twin"):
        row = rig.state.recorded(FileRef("docs", name))
        info = rig.store.head_object(f"p/{name}") if row else None
        if row is not None and not (name == "file" and not (rig.folder / "file").exists()):
            assert info is not None, point
            states = [of_bytes(content) for content in (*scenario.allowed, b"small") if content is not None]
            assert row.fingerprint in states, point


def test_no_effect_is_forgotten(tmp_path: Path) -> None:
    """Every method with an effect is met in some scenario, so that a new one cannot slip by untested."""
    met: set[str] = set()
    for scenario in SCENARIOS:
        root = tmp_path / scenario.name
        root.mkdir()
        met |= {point.method for point in _points(root, "fake", scenario)}
    failures = {
        "record_failure",
        "learn",
    }  # after an error, not in a step: see test_workers and test_transfer
    assert (STATE_EFFECTS | STORE_EFFECTS) - failures <= met


def test_the_engine_touches_the_world_only_through_state_and_store() -> None:
    """What the points do not cover would be an effect of another kind: there is none."""
    assert not {"requests", "sqlite3", "socket"} & set(vars(__import__(Engine.__module__, fromlist=["x"])))
