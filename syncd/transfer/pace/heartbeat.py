"""The deadlines by which threads have to make progress, so that the daemon notices one that is stuck.

A thread that works has a deadline and moves it with every step. A thread that waits for work, or for another
thread, has none, so that an idle daemon needs no timer to look alive.

A thread that reads a source's folder, or works in a store's directory, may wait in the kernel for a server
that is gone, and nothing can end that. So it says where it is: such a thread is never late, but its source or
store is *silent*. Its share of the bounds is lent to others until it moves again.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Protocol

from msgspec import Struct

STUCK_SECONDS = 180.0
"""A thread that makes no step for so long is stuck, unless the service manager sets another limit."""
SILENT_SECONDS = 10.0
"""A folder that does not answer for so long is silent. Sleeping disks need less to spin up."""


class Hold(Protocol):
    """A share of a bound (`syncd.transfer.pace.slots`)."""

    def lend(self) -> None:
        """Let others use it while its owner waits for the kernel."""
        ...

    def take_back(self) -> None:
        """Return it to its owner, which moves again; others may have taken its place in the bound."""
        ...

    def sent(self, size: int) -> None:
        """Note that so many of its bytes are on their way."""
        ...


class _Thread(threading.local):
    """The calling thread."""

    def __init__(self) -> None:
        self.name = threading.current_thread().name
        self.ident = threading.get_ident()
        self.source = ""
        self.store = ""
        self.hold: Hold | None = None


_thread = _Thread()


class _Beat(Struct):
    """A thread that works."""

    moved: float
    thread: str
    source: str = ""
    """The source whose folder it reads; empty: none."""
    hold: Hold | None = None
    store: str = ""
    """The store in whose directory it works; empty: none."""
    is_silent: bool = False


class Heartbeats:
    """What all threads do, and when each last moved. For any thread; times in monotonic seconds."""

    def __init__(
        self, limit_seconds: float = STUCK_SECONDS, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit_seconds = limit_seconds
        self.silent_seconds = SILENT_SECONDS
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._beats: dict[int | str, _Beat] = {}

    def step(
        self,
        thread: str,
        key: int | None = None,
        source: str = "",
        hold: Hold | None = None,
        store: str = "",
    ) -> None:
        """Note that this thread made progress, and makes its next step within the limit."""
        name, now = key or thread, self._monotonic()
        with self._lock:
            before = self._beats.get(name)
            if before is not None and before.is_silent:
                self._end(name)
            self._beats[name] = _Beat(now, thread, source, hold, store)

    def rest(self, thread: str, key: int | None = None) -> None:
        """Note that this thread has nothing to do."""
        with self._lock:
            self._end(key or thread)

    def _end(self, key: int | str) -> None:
        beat = self._beats.pop(key, None)
        if beat is not None and beat.is_silent and beat.hold is not None:
            beat.hold.take_back()

    def late(self, now: float) -> tuple[str, ...]:
        """Return the threads that should have moved before `now`, in the order of their deadlines."""
        with self._lock:
            late = [
                (beat.moved, beat.thread)
                for beat in self._beats.values()
                if not (beat.source or beat.store) and beat.moved + self.limit_seconds < now
            ]
        return tuple(thread for _, thread in sorted(late))

    def silent(self, now: float) -> dict[str, float]:
        """Return the sources whose folders do not answer, and for how many seconds."""
        with self._lock:
            found: dict[str, float] = {}
            for beat in self._beats.values():
                if beat.source and now - beat.moved >= self.silent_seconds:
                    found[beat.source] = max(found.get(beat.source, 0.0), now - beat.moved)
            return found

    def waiting(self, now: float) -> dict[str, float]:
        """Return the stores in whose directories threads work, and for how many seconds the slowest has."""
        with self._lock:
            found: dict[str, float] = {}
            for beat in self._beats.values():
                if beat.store:
                    found[beat.store] = max(found.get(beat.store, 0.0), now - beat.moved)
            return found

    def give_up(self, now: float, after_seconds: float | None = None) -> frozenset[int | str]:
        """Return the threads that wait for silent folders; what they hold is lent from now on."""
        after = self.silent_seconds if after_seconds is None else after_seconds
        return self._lend(lambda beat: beat.source != "" and (beat.is_silent or now - beat.moved >= after))

    def give_up_stores(self, stores: Collection[str]) -> frozenset[int | str]:
        """Return the threads that wait for these stores' directories; what they hold is lent from now on."""
        return self._lend(lambda beat: beat.store in stores)

    def _lend(self, is_stuck: Callable[[_Beat], bool]) -> frozenset[int | str]:
        with self._lock:
            stuck = {key: beat for key, beat in self._beats.items() if is_stuck(beat)}
            for beat in stuck.values():
                if not beat.is_silent and beat.hold is not None:
                    beat.hold.lend()
                beat.is_silent = True
            return frozenset(stuck)

    def at_work(self, threads: Collection[int]) -> Iterator[int]:
        """Yield those of the threads that wait neither for another thread nor for a folder or a directory."""
        for thread in threads:
            beat = self._beats.get(thread)
            if beat is not None and not (beat.source or beat.store):
                yield thread

    def is_given_up(self, thread: int) -> bool:
        """Return whether it waits for a folder or a directory that does not answer, and its hold is lent."""
        beat = self._beats.get(thread)
        return beat is not None and beat.is_silent

    def are_expected(self) -> bool:
        """Return whether any thread works."""
        return bool(self._beats)


class Heartbeat:
    """The heartbeat of the calling thread. Without `heartbeats` nothing reads it."""

    def __init__(self, heartbeats: Heartbeats | None = None) -> None:
        self._heartbeats = heartbeats or Heartbeats()
        self.awaited: dict[int, int] = {}
        """Thread -> the descriptor on which it waits for the server of a store."""

    def can_go_on(self, threads: Collection[int]) -> bool:
        """Return whether any of the threads could go on now: what it waits for, if anything, is there."""
        poll = select.poll()
        for thread in self._heartbeats.at_work(threads):
            if (descriptor := self.awaited.get(thread)) is None:
                return True
            poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))

    def is_given_up(self, thread: int) -> bool:
        """See `Heartbeats.is_given_up`."""
        return self._heartbeats.is_given_up(thread)

    def step(self) -> None:
        """Note that the calling thread made progress."""
        here = _thread
        source = "" if here.store else here.source
        self._heartbeats.step(here.name, here.ident, source, here.hold, here.store)

    def rest(self) -> None:
        """Note that the calling thread waits for work, or for a thread that has its own heartbeat."""
        self._heartbeats.rest(_thread.name, _thread.ident)

    def reading(self, source: str) -> Reading:
        """Return a context in which the calling thread does nothing but read the folder of `source`."""
        return Reading(self, source)

    @contextmanager
    def alone(self, lock: threading.Lock | threading.RLock) -> Iterator[None]:
        """Hold a lock; rest while another thread has it, because that has its own heartbeat."""
        if not lock.acquire(blocking=False):
            self.rest()
            lock.acquire()
            self.step()
        try:
            yield
        finally:
            lock.release()

    def enters(self, store: str) -> None:
        """Note that the calling thread works in the directory of this store; empty: no longer."""
        _thread.store = store
        self.step()

    def holds(self, hold: Hold | None) -> None:
        """Note what the calling thread holds of a bound."""
        _thread.hold = hold

    def sent(self, size: int) -> None:
        """Note that the calling thread sent so many bytes of what it holds."""
        if _thread.hold is not None:
            _thread.hold.sent(size)


class Reading:
    """What `Heartbeat.reading` returns. Not a generator, because each file enters it several times."""

    __slots__ = ("_before", "_heartbeat", "_source")

    def __init__(self, heartbeat: Heartbeat, source: str) -> None:
        self._heartbeat = heartbeat
        self._source = source

    def __enter__(self) -> None:
        self._before, _thread.source = _thread.source, self._source
        self._heartbeat.step()

    def __exit__(self, *_: object) -> None:
        _thread.source = self._before
        self._heartbeat.step()
