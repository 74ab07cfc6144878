"""What all parts of the pipeline share: the state, the clock, and the listener for finished files."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct, field

from syncd.core.model import FileRef, Source
from syncd.core.plan import Outcome, instance_id
from syncd.state.state import State
from syncd.transfer.pace.heartbeat import Heartbeats

MOST_NAMED = 100
"""Files of each kind that a summary names."""


class Clock(Struct, frozen=True):
    """Time and chance. ``monotonic`` counts seconds, ``now_ns`` is the wall clock in nanoseconds."""

    monotonic: Callable[[], float]
    now_ns: Callable[[], int]
    chance: Callable[[], float]


def real_clock() -> Clock:
    """Return the machine's own time and chance."""
    return Clock(time.monotonic, time.time_ns, random.random)


class Listener(Protocol):
    """Receives the result of each file. Workers call it outside every lock, while the file still counts as
    being processed. They log what it raises, and go on.
    """

    def finished(self, ref: FileRef, outcome: Outcome, delay_seconds: float) -> None:
        """Take a result; `delay_seconds` is how long the file was dirty."""
        ...

    def failed(self, ref: FileRef, error: BaseException, attempts: int) -> None: ...

    def root_changed(self, source: str, reason: str) -> None: ...


class Context(Struct, frozen=True):
    """What all parts of the pipeline share.

    `once` means a single pass: failures are reported and not retried, and a store that cannot be used ends
    the pass. Threads report their progress to `heartbeats`.
    """

    state: State
    clock: Clock
    listener: Listener
    once: bool = False
    heartbeats: Heartbeats = field(default_factory=Heartbeats)
    on_turn: Callable[[], None] = lambda: None
    """A worker began or ended a file, so the status may have changed. Called often, from any thread."""
    machine_id: str = ""
    """The id of this machine; empty: it has none that lasts, and the state's own takes its place."""

    def instance_of(self, source: Source) -> str:
        """Return the id that the objects of this source name."""
        return instance_id(self.machine_id or self.state.instance_id, source.name, source.root)


class RunSummary(Struct):
    """What was done since the start: files by kind of action, and what failed."""

    actions: Counter[str] = field(default_factory=Counter)
    bytes_sent: int = 0
    bytes_saved: int = 0
    bytes_finished: int = 0
    """The sizes of all finished files."""
    failed: int = 0
    failures: list[tuple[FileRef, str]] = field(default_factory=list)
    """The first of them, with the error."""
    settling: int = 0
    """Files that a single pass left alone because they never became quiet."""
    unsettled: list[tuple[FileRef, str]] = field(default_factory=list)
    """The first of those."""

    def count(self, outcome: Outcome) -> None:
        """Count a file that is done. The caller holds a lock."""
        self.actions[type(outcome.action).__name__] += 1
        self.bytes_sent += outcome.bytes_sent
        self.bytes_saved += outcome.bytes_saved
        self.bytes_finished += outcome.size

    def count_failure(self, ref: FileRef, words: str, *, is_settling: bool) -> None:
        """Count a file that failed for now, or is left alone. The caller holds a lock."""
        named = self.unsettled if is_settling else self.failures
        if is_settling:
            self.settling += 1
        else:
            self.failed += 1
        if len(named) < MOST_NAMED:
            named.append((ref, words))
