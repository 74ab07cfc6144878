"""One pass over everything (`syncd sync`), or only the plan of one (`syncd sync --dry-run`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from syncd.config.load import Settings
from syncd.core.errors import FileError, StateError
from syncd.core.model import Action, Delete, FileRef, FileStat, Nothing, OnDelete, Recorded, Source
from syncd.core.patterns import Rules
from syncd.pipeline.context import Clock
from syncd.pipeline.pipeline import Pipeline
from syncd.sources import root
from syncd.sources.scan import compare
from syncd.state.schema import DATABASE_NAME
from syncd.state.state import State
from syncd.storage.base import ObjectStore
from syncd.storage.opening import open_store
from syncd.transfer.engine import Engine

STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Overrides:
    """What the operator says about sources, by their names."""

    allow_deletes: frozenset[str] = frozenset()
    """What is gone may be deleted."""
    accept_roots: frozenset[str] = frozenset()
    """The root is another directory on purpose."""


@dataclass(frozen=True)
class Pass:
    """What a pass came to."""

    pipeline: Pipeline
    interrupted: bool
    gave_up: BaseException | None
    ended: bool
    """All threads have; otherwise one is stuck in the kernel, and must not hold up the exit."""


def run_once(
    settings: Settings,
    state: State,
    clock: Clock,
    *,
    should_stop: Callable[[], bool],
    tick: Callable[[Pipeline], None],
    words: Overrides | None = None,
    opener: Callable[..., ObjectStore] = open_store,
) -> Pass:
    """Scan every source and carry what differs; `tick` is called several times a second meanwhile.

    Raises SyncdError when a store cannot be opened or the state not used.
    """
    pipeline = Pipeline(state, clock, once=True, opener=opener)
    words = words or Overrides()
    over = False
    try:
        pipeline.apply(settings.sources, settings.stores, settings.transfer)
        for name in words.accept_roots:
            pipeline.source_runners[name].accept_root()
        for name in words.allow_deletes:
            pipeline.source_runners[name].confirm_deletes()
        pipeline.start()
        over = pipeline.wait_done(should_stop, lambda: tick(pipeline))
    finally:
        ended = pipeline.stop(STOP_SECONDS)
    return Pass(pipeline, not over, pipeline.gave_up(), ended)


Tell = Callable[[FileRef, Action | str, int], None]
"""Hears of each file that differs: the action, or the error that it would meet, and its size in bytes."""


def plan_all(settings: Settings, state: State, clock: Clock, tell: Tell) -> None:
    """Tell what a pass would do. Reads the files, asks no store, writes nothing."""
    pipeline = Pipeline(state, clock, once=True)
    pipeline.apply(settings.sources, settings.stores, settings.transfer)
    try:
        for source in settings.sources:
            _plan_source(source, pipeline.store_runners[source.store].engine, state, tell)
    finally:
        pipeline.stop(STOP_SECONDS)


class _Collector:
    """Plans each file as the scan finds it."""

    def __init__(self, source: Source, engine: Engine, tell: Tell) -> None:
        self._source = source
        self._engine = engine
        self._tell = tell

    def found(self, ref: FileRef, stat: FileStat, recorded: Recorded | None) -> None:
        try:
            action, size = self._engine.plan(ref)
        except FileError as error:
            self._tell(ref, str(error), stat.size)
            return
        self._tell(ref, action, size)

    def absent(self, ref: FileRef, recorded: Recorded) -> None:
        deletes = self._source.on_delete is OnDelete.DELETE
        action = Delete("deleted locally") if deletes else Nothing("deletes are kept")
        self._tell(ref, action, recorded.fingerprint.size)

    def skipped(self, ref: FileRef, reason: str) -> None:
        self._tell(ref, Nothing(f"skipped: {reason}"), 0)

    def unreadable(self, source: str, path: str, error: OSError) -> None:
        reason = f"the directory cannot be read: {error.strerror}"
        self._tell(FileRef(source, path), reason, 0)


def _plan_source(source: Source, engine: Engine, state: State, tell: Tell) -> None:
    collector = _Collector(source, engine, tell)
    known = state.root_identity(source.name)
    _, doubt = root.check_root(source, known, state.recorded_totals(source.name)[0] > 0)
    if doubt is not None:
        tell(FileRef(source.name, ""), doubt, 0)
        return
    report = compare.scan(
        source,
        Rules(source.include, source.exclude),
        state,
        collector,
        should_stop=lambda: False,
        key_of=lambda path: engine.key(FileRef(source.name, path)),
        store_id=engine.store.store_id,
    )
    if report.doubt:
        tell(FileRef(source.name, ""), report.doubt, 0)


@contextmanager
def state_for_reading(directory: str, now_ns: Callable[[], int]) -> Iterator[State]:
    """The state as it is, also beside a running daemon; an empty one where there is none yet.

    Raises StateError when there is one that cannot be read.
    """
    if _has_no_state(directory):
        import tempfile

        with tempfile.TemporaryDirectory(prefix="syncd-plan-") as empty:
            state = State.open(empty, now_ns=now_ns)
            try:
                yield state
            finally:
                state.close()
        return
    state = State.open_read_only(directory)
    try:
        yield state
    finally:
        state.close()


def _has_no_state(directory: str) -> bool:
    """Whether nothing was ever remembered there. What may not be looked at is not nothing."""
    try:
        os.stat(os.path.join(directory, DATABASE_NAME))
    except FileNotFoundError:
        return True
    except OSError as error:
        raise StateError(f"the state directory {directory} cannot be read: {error.strerror}") from error
    return False
