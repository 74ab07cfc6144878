"""How often each file of a store failed, and which states of files the store refused.

A refused state of a file waits, also through a restart: the state keeps its name with the failure. Another
state of the file, other settings, or the operator ends that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from math import inf

import xxhash
from msgspec import Struct, to_builtins

from syncd.core.errors import REFUSED_SCHEDULE, StoreError, may_be_the_stores
from syncd.core.model import Failure, FileRef, FileStat, Source

_TWICE = 2  # after so many refusals a file waits for hours


class _Refused(Struct):
    """A state of a file, and until when (monotonic) nothing of it is sent."""

    name: bytes
    until: float


class Refusals:
    """The failures of one store's files. Any thread may ask."""

    def __init__(self, settings: object, source: Callable[[str], Source | None]) -> None:
        self._settings = to_builtins(settings)
        self._source = source
        self._lock = threading.Lock()
        self._counts: dict[FileRef, tuple[int, int]] = {}
        """How often in a row a file failed, and how many of those were refusals of its present state."""
        self._refused: dict[FileRef, _Refused] = {}
        self._unproven: set[FileRef] = set()
        """Files refused since content was last taken, perhaps through the store's fault."""
        self._on_trial: FileRef | None = None
        """The one of them that is tried once more, for all."""

    def name_of(self, ref: FileRef, seen: FileStat | None) -> bytes:
        """Return a name for a state of a file (None: it is gone) and the settings with which it is sent."""
        what = repr((to_builtins((seen, self._source(ref.source))), self._settings))
        return xxhash.xxh3_128_digest(what.encode("utf-8", "surrogateescape"))

    def attempts(self, ref: FileRef) -> int:
        """Return how often in a row the file failed."""
        return self._counts.get(ref, (0, 0))[0]

    def is_refused(self, ref: FileRef) -> bool:
        """Return whether the store refused the state of the file that it last got."""
        return ref in self._refused

    def seconds(self, ref: FileRef, seen: FileStat, now: float) -> float:
        """Return how many seconds this state of the file still waits because the store refused it."""
        with self._lock:
            known = self._refused.get(ref)
        if known is None or now >= known.until or known.name != self.name_of(ref, seen):
            return 0.0
        return known.until - now

    def remember(self, failure: Failure, now: float, now_ns: int) -> None:
        """Take over the failure of an earlier process."""
        seconds = min((failure.next_attempt_ns - now_ns) / 1e9, REFUSED_SCHEDULE.cap_seconds)
        if not failure.next_attempt_ns:
            seconds = inf
        with self._lock:
            self._counts[failure.ref] = failure.attempts, failure.refusals
            if failure.refused and failure.refusals >= _TWICE and seconds > 0:
                self._refused[failure.ref] = _Refused(failure.refused, now + seconds)

    def attempt(self, ref: FileRef, error: BaseException, now: float) -> tuple[int, int]:
        """Return which failure in a row this is, and how many before were refusals. Another state of a
        refused file begins a new row; a try that an event hastened repeats the one before.
        """
        with self._lock:
            attempts, refusals = self._counts.get(ref, (0, 0))
            known = self._refused.get(ref)
            if known is not None and isinstance(error, StoreError):
                if known.name != self.name_of(ref, error.seen):
                    del self._refused[ref]
                    attempts = refusals = 0
                elif now < known.until:
                    attempts, refusals = max(0, attempts - 1), max(0, refusals - 1)
            return attempts + 1, refusals

    def count(self, ref: FileRef, attempts: int, refusals: int) -> None:
        """Set how many failures and refusals there were."""
        with self._lock:
            self._counts[ref] = attempts, refusals

    def refuse(self, ref: FileRef, error: BaseException, until: float) -> bytes:
        """Send nothing of the state of the file that met this error until then; return its name."""
        if not isinstance(error, StoreError):
            return b""
        name = self.name_of(ref, error.seen)
        with self._lock:
            if ref == self._on_trial:
                self._on_trial = None
                self._unproven.clear()
            if ref not in self._refused and may_be_the_stores(error):
                self._unproven.add(ref)
            self._refused[ref] = _Refused(name, until)
        return name

    def acquit(self, taken: FileRef) -> set[FileRef]:
        """Retry files that wait for hours because the store refused everything: now it took one. First one of
        them is tried once more, and if that is taken, the others. Returns which.
        """
        with self._lock:
            if self._on_trial not in (None, taken):
                return set()
            waiting = {ref for ref in self._unproven if self._counts.get(ref, (0, 0))[1] >= _TWICE}
            waiting &= {ref for ref, known in self._refused.items() if known.until < inf}
            if self._on_trial is None:
                freed = {min(waiting)} if waiting and len(self._unproven) > 1 else set()
                self._on_trial = next(iter(freed), None)
            else:
                freed, self._on_trial = waiting, None
            self._unproven = self._unproven - freed if self._on_trial else set()
            for ref in freed:
                self._refused[ref].until = -inf
        return freed

    def pardon(self, ref: FileRef) -> None:
        """Allow its state to be sent again; its failures keep counting."""
        with self._lock:
            self._refused.pop(ref, None)

    def forget(self, ref: FileRef) -> bool:
        """Forget the failures of the file; return whether it had any."""
        with self._lock:
            self._refused.pop(ref, None)
            return self._counts.pop(ref, None) is not None

    def discard(self, source: str) -> None:
        """Forget the files of a source."""
        with self._lock:
            self._counts = {ref: count for ref, count in self._counts.items() if ref.source != source}
            self._refused = {ref: known for ref, known in self._refused.items() if ref.source != source}
            self._unproven = {ref for ref in self._unproven if ref.source != source}
