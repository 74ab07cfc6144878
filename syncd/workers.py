"""The threads that carry files to one store. The step is the engine's; here are queue, lock and loop.

Each store has workers of its own, so that a store that cannot be reached holds up nobody else's files. An
idle worker sleeps without a timeout; at most one (the timekeeper) sleeps until the next file is due.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from syncd.backoff import Breaker
from syncd.engine import Engine, Outcome, RootDoubtful
from syncd.errors import StateError, Stopped, StoreError
from syncd.model import Failure, FileRef
from syncd.paths import printable
from syncd.progress import Beats, NoPulse, Pulse
from syncd.reactions import Reaction, react
from syncd.settle import DirtyFiles, Taken
from syncd.state import State

log = logging.getLogger(__name__)

MAX_WAITING = 20_000
"""Dirty files held in memory; scans wait, and events beyond become one scan."""
BREAKER_THRESHOLD = 4
"""Failures in a row after which a store is left alone for a while."""
_STATE_PAUSE_SECONDS = 5.0  # between looks whether the state can be written again (disk full)
_ONCE_ATTEMPTS = 5  # a file that keeps changing under `sync` is given up after so many looks


class Listener(Protocol):
    """Hears what became of files; called by workers, outside the lock."""

    def finished(self, ref: FileRef, outcome: Outcome) -> None: ...

    def failed(self, ref: FileRef, error: BaseException, attempts: int) -> None: ...

    def root_doubtful(self, source: str, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and chance, passed in. ``monotonic`` in seconds, ``now_ns`` wall clock in nanoseconds."""

    monotonic: Callable[[], float]
    now_ns: Callable[[], int]
    chance: Callable[[], float]


@dataclass(frozen=True)
class Surroundings:
    """What every part of the pipeline is given.

    `once` is for a single pass: what fails is reported and not tried again, and a store that cannot be used
    ends the pass. `pulse` hears of progress; a part that shows none for `limit_seconds` is stuck.
    """

    state: State
    clock: Clock
    listener: Listener
    once: bool = False
    pulse: Pulse = field(default_factory=NoPulse)
    limit_seconds: float = 180.0


class StoreWorkers:
    """A queue of dirty files and as many workers on it as requests may be in flight.

    In a single pass a store that cannot be used ends it; then `gave_up` holds the error.
    """

    def __init__(self, name: str, engine: Engine, around: Surroundings, beats: Beats) -> None:
        self._beats = beats
        self.name = name
        self.engine = engine
        self.gave_up: BaseException | None = None
        self.paused_for: str = ""
        """Why nothing is sent to this store now; empty when something may be."""
        self._listener = around.listener
        self._clock = around.clock
        self._once = around.once
        self._dirty = DirtyFiles()
        self._attempts: dict[FileRef, int] = {}
        self._breaker = Breaker(threshold=BREAKER_THRESHOLD)
        self._changed = threading.Condition()
        self._timekeeper = False
        self._stopping = False
        self._started = False
        self._threads = [
            threading.Thread(target=self._run, name=f"worker-{number}-{name}", daemon=True)
            for number in range(engine.policy.concurrency)
        ]

    # ---- what others do to the queue --------------------------------------------------------------------

    def mark(self, ref: FileRef, *, quiet_seconds: float, event: bool) -> bool:
        """Mark a path dirty; False when too many wait already (then the source needs a scan)."""
        now = self._clock.monotonic()
        with self._changed:
            if event and self._dirty.waiting() >= 2 * MAX_WAITING:
                return False
            self._dirty.mark(ref, now, quiet_seconds=quiet_seconds, event=event)
            self._changed.notify()
        return True

    def mark_found(self, ref: FileRef, *, quiet_seconds: float) -> bool:
        """For scans: waits while the queue is full. Returns whether the file was not known to be dirty."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or self._dirty.waiting() < MAX_WAITING)
            before = self._dirty.waiting()
            self._dirty.mark(ref, self._clock.monotonic(), quiet_seconds=quiet_seconds, event=False)
            self._changed.notify()
            return self._dirty.waiting() > before

    def discard(self, source: str) -> None:
        """Forget what waits of a source whose root cannot be trusted."""
        with self._changed:
            self._dirty.discard(source)
            self._changed.notify_all()

    def resume(self) -> None:
        """Try a paused store now: its configuration or the network changed."""
        with self._changed:
            self._breaker.trip(self._clock.monotonic(), 0.0)
            self._changed.notify_all()

    def idle(self) -> bool:
        """Nothing waits and nothing is being processed."""
        with self._changed:
            return self.gave_up is not None or not (self._dirty.waiting() or self._dirty.processing())

    def wait_idle(self, seconds: float) -> bool:
        """Wait until `idle`, at most so long."""
        with self._changed:
            return self._changed.wait_for(self._is_idle, seconds)

    def counts(self) -> tuple[dict[str, int], tuple[FileRef, ...]]:
        """Dirty files per source, and those being processed."""
        with self._changed:
            return self._dirty.counts(), self._dirty.processing()

    def restless(self, longer_than: float) -> list[tuple[FileRef, float]]:
        """Files that have been marked again and again for so many seconds, and for how long."""
        now = self._clock.monotonic()
        with self._changed:
            return [(ref, now - since) for ref, since in self._dirty.restless(now, longer_than)]

    # ---- the loop ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the threads, once."""
        if not self._started:
            self._started = True
            for thread in self._threads:
                thread.start()

    def stop(self) -> None:
        """Ask the workers to end; does not wait."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def join(self, seconds: float) -> bool:
        """Wait for the workers at most so long altogether; whether all ended."""
        deadline = self._clock.monotonic() + seconds
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - self._clock.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            self._beats.step()
            try:
                outcome = self.engine.sync(taken.ref, event=taken.event)
            except Stopped:
                self._beats.rest()
                return  # its checkpoint stays; the next start finds the file again
            except BaseException as error:  # noqa: BLE001  one bad file never stops the others
                self._failed(taken, error)
            else:
                self._finished(taken, outcome)
            self._beats.rest()

    def _take(self) -> Taken | None:
        """The next file that is due; None when it is time to end. Sleeps without a timeout when it can."""
        with self._changed:
            while not self._stopping and self.gave_up is None:
                now = self._clock.monotonic()
                due = self._dirty.next_due()
                if due is not None and due <= now and self._breaker.allows(now):
                    taken = self._dirty.take(now)
                    if taken is not None:
                        self._changed.notify()  # somebody else looks what is next
                        return taken
                self._sleep(due, now)
            self._changed.notify_all()
            return None

    def _sleep(self, due: float | None, now: float) -> None:
        if due is None or self._timekeeper:
            self._changed.wait()
            return
        until = max(due, self._breaker.until or due)
        self._timekeeper = True
        try:
            self._changed.wait(max(0.001, until - now))
        finally:
            self._timekeeper = False

    # ---- afterwards -------------------------------------------------------------------------------------

    def _finished(self, taken: Taken, outcome: Outcome) -> None:
        with self._changed:
            self._attempts.pop(taken.ref, None)
            if outcome.look_again_seconds is not None and not self._once:
                quiet = outcome.look_again_seconds
                self._dirty.mark(taken.ref, self._clock.monotonic(), quiet_seconds=quiet, event=False)
            recovered = self._breaker.success()
            if recovered:
                self.paused_for = ""
            self._dirty.done(taken.ref)
            idle = self._is_idle()
            self._changed.notify_all() if idle or recovered else self._changed.notify()
        if recovered:
            log.info("store %s: works again", self.name)
        if idle:  # nobody follows in whose transaction the last records could go along
            self.engine.state.flush()
        self._listener.finished(taken.ref, outcome)

    def _failed(self, taken: Taken, error: BaseException) -> None:
        if isinstance(error, RootDoubtful):
            with self._changed:
                self._dirty.done(taken.ref)
                self._changed.notify_all()
            self._listener.root_doubtful(taken.ref.source, str(error))
            return
        with self._changed:
            attempts = self._attempts.get(taken.ref, 0) + 1
            self._attempts[taken.ref] = attempts
        reaction = react(error, attempts, self._clock.chance())
        parked = self._record(taken.ref, error, attempts, reaction)
        with self._changed:
            self._answer(taken, error, attempts, reaction, parked)
            self._changed.notify_all()
        if not reaction.again:
            self._listener.failed(taken.ref, error, attempts)

    def _answer(
        self, taken: Taken, error: BaseException, attempts: int, reaction: Reaction, parked: bool
    ) -> None:
        """Put the file where the reaction says, and the store with it. Under the lock."""
        now = self._clock.monotonic()
        self._judge_store(error, reaction, now)
        settle = self.engine.sources[taken.ref.source].settle_seconds
        if reaction.again and not (self._once and attempts >= _ONCE_ATTEMPTS):
            self._dirty.mark(taken.ref, now, quiet_seconds=settle, event=True)
            self._dirty.done(taken.ref)
        elif self._once or parked:
            self._dirty.done(taken.ref)
        else:
            self._dirty.defer(taken.ref, now + reaction.defer_seconds, hold=reaction.hold)

    def _judge_store(self, error: BaseException, reaction: Reaction, now: float) -> None:
        """Open, close or leave the breaker: a store that answered, if only to refuse one key, is there."""
        if reaction.pause_seconds:
            self._breaker.trip(now, reaction.pause_seconds)
        elif reaction.stop:
            self._breaker.trip(now, _STATE_PAUSE_SECONDS)
        elif reaction.store_failed:
            self._breaker.failure(now, self._clock.chance())
        elif isinstance(error, StoreError):
            self._breaker.success()
        elif self._breaker.until is not None:
            self._breaker.trip(now, 0.0)  # the probe told nothing about the store: send another
            return
        if self._breaker.until is None:
            self.paused_for = ""
            return
        if not self.paused_for:
            log.error("store %s: paused: %s", self.name, error)
        self.paused_for = str(error)
        if self._once:
            self.gave_up = error

    def _record(self, ref: FileRef, error: BaseException, attempts: int, reaction: Reaction) -> bool:
        """Keep the failure for `status`; True when the file has used up its attempts."""
        if reaction.bug:
            log.error("%s: unexpected error", _name(ref), exc_info=error)
        if not reaction.record:
            return False
        limit = self.engine.policy.max_attempts
        parked = bool(limit) and attempts >= limit
        next_ns = 0 if parked else self._clock.now_ns() + int(reaction.defer_seconds * 1e9)
        try:
            self.engine.state.record_failure(Failure(ref, _words(error), attempts, next_ns))
        except StateError as lost:
            log.error("%s: the failure could not be recorded: %s", _name(ref), lost)
        if attempts == 1 or parked:
            log.warning("%s: %s", _name(ref), error, extra={"cause": f"file failed: {_words(error)}"})
        return parked

    def _is_idle(self) -> bool:
        return self.gave_up is not None or not (self._dirty.waiting() or self._dirty.processing())


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _name(ref: FileRef) -> str:
    return f"{ref.source}:{printable(ref.path)}"


__all__ = ["MAX_WAITING", "Clock", "Listener", "StoreWorkers", "Surroundings"]
