"""What an error means for the file, for its store and for the daemon: one table, pure.

Each class of `syncd.core.errors` has one row; what is not in the tree at all is a bug of ours, and is
treated like a poisoned file: reported with its traceback, tried again late, never in the way of others.
"""

from __future__ import annotations

from dataclasses import dataclass

from syncd.core.backoff import Schedule, delay
from syncd.core.errors import (
    AccessRefused,
    FileChanged,
    FileError,
    FileVanished,
    StateError,
    StoreRefused,
    StoreUnavailable,
)

FILE_SCHEDULE = Schedule(base_seconds=5.0, cap_seconds=600.0)
"""For a file that the operating system will not let us read."""
STORE_SCHEDULE = Schedule(base_seconds=2.0, cap_seconds=300.0)
"""For a request that did not get through, after the retries in place."""
REFUSED_SCHEDULE = Schedule(base_seconds=60.0, cap_seconds=3600.0)
"""For an object that the store refuses: nothing but the passing of time, or a person, will change it."""
PAUSE_SECONDS = 60.0
"""One probe a minute of a store that will not let us in at all."""

LONGEST_WISH_SECONDS = 3600.0
"""A store that asks to be left alone for longer than that is asked again nevertheless."""


@dataclass(frozen=True, slots=True)
class Reaction:
    """What to do after a file failed."""

    again: bool = False
    """Nothing is wrong: mark it dirty and let it settle, for ``defer_seconds`` at least."""
    defer_seconds: float = 0.0
    hold: bool = False
    """Marks do not hasten it: the cause is not in the file."""
    record: bool = False
    """A failure that `status` shows, and that counts as an attempt."""
    store_failed: bool = False
    """Counts against the store: after several in a row it is left alone for a while."""
    pause_seconds: float = 0.0
    """The whole store is paused at once."""
    stop: bool = False
    """Without memory we do not act."""
    bug: bool = False
    """Not one of our errors: log the traceback."""


def react(error: BaseException, attempts: int, chance: float) -> Reaction:
    """The reaction to `error`, which is failure number `attempts` (from 1) of its file in a row."""
    if isinstance(error, FileChanged):
        return Reaction(again=True, defer_seconds=error.quiet_seconds)
    if isinstance(error, FileVanished):
        return Reaction(again=True)
    if isinstance(error, FileError):
        return Reaction(defer_seconds=_late(attempts, chance, FILE_SCHEDULE), record=True)
    if isinstance(error, AccessRefused):
        return Reaction(defer_seconds=1.0, hold=True, pause_seconds=PAUSE_SECONDS)
    if isinstance(error, StoreRefused):
        return Reaction(defer_seconds=_late(attempts, chance, REFUSED_SCHEDULE), hold=True, record=True)
    if isinstance(error, StoreUnavailable):
        wish = min(error.retry_after_seconds or 0.0, LONGEST_WISH_SECONDS)
        seconds = max(wish, _late(attempts, chance, STORE_SCHEDULE))
        return Reaction(defer_seconds=seconds, hold=True, record=True, store_failed=True, pause_seconds=wish)
    if isinstance(error, StateError):
        return Reaction(defer_seconds=1.0, hold=True, stop=True)
    return Reaction(
        defer_seconds=_late(attempts, chance, STORE_SCHEDULE),
        hold=True,
        record=True,
        bug=not _is_ours(error),
    )


def _is_ours(error: BaseException) -> bool:
    return type(error).__module__.startswith("syncd.")


def _late(attempts: int, chance: float, schedule: Schedule) -> float:
    """Jitter over the upper half only: a failing file is never tried again at once."""
    return delay(attempts, 0.5 + chance / 2, schedule)
