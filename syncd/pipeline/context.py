"""What every part of the pipeline is given: state, time, and who hears what became of files."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from syncd.core.errors import StoreError
from syncd.core.model import FileRef, Outcome
from syncd.state.state import State
from syncd.transfer.heartbeat import Heartbeats


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and chance, passed in. ``monotonic`` in seconds, ``now_ns`` wall clock in nanoseconds."""

    monotonic: Callable[[], float]
    now_ns: Callable[[], int]
    chance: Callable[[], float]


def real_clock() -> Clock:
    """The machine's own time and chance."""
    return Clock(time.monotonic, time.time_ns, random.random)


class Listener(Protocol):
    """Hears what became of files: called by workers, outside every lock, while the file still counts as being
    processed. What it raises is logged, and harms nobody.
    """

    def finished(self, ref: FileRef, outcome: Outcome) -> None: ...

    def failed(self, ref: FileRef, error: BaseException, attempts: int) -> None: ...

    def root_changed(self, source: str, reason: str) -> None: ...


@dataclass(frozen=True)
class Context:
    """What every part of the pipeline is given.

    `once` is for a single pass: what fails is reported and not tried again, and a store that cannot be used
    ends the pass. Threads report their progress to `heartbeats`.
    """

    state: State
    clock: Clock
    listener: Listener
    once: bool = False
    heartbeats: Heartbeats = field(default_factory=Heartbeats)
    on_turn: Callable[[], None] = lambda: None
    """A worker began or ended: what there is to tell may have changed. Called often, from any thread."""


@dataclass
class RunSummary:
    """What was done since the start: files by kind of action, and what failed."""

    actions: Counter[str] = field(default_factory=Counter)
    bytes_sent: int = 0
    bytes_saved: int = 0
    bytes_finished: int = 0
    """Sizes of all files that are done with."""
    failed: int = 0
    store_error: StoreError | None = None
    """The last that blames a whole store."""
    failures: list[tuple[FileRef, str]] = field(default_factory=list)
    """The first hundred."""
