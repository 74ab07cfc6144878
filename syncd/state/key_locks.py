"""Who changes which object at this moment: one lock for each key of each store, for the whole process.

What replaces or removes an object, or ends an upload, holds its key from the question that permits it until
the result is recorded. So no two sources, and no two generations of workers after a reload, act on one object
at once. A copy inside the store shares the key that it reads, and never waits for it.

A thread waits for a key only while it holds no other and no request slot, so nothing waits in a circle. A
request that hangs would hold its key with it: a reload that goes on without that request abandons the lock.
What the request still does then counts as unknown.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from syncd.core.errors import KeyBusy

Key = tuple[str, str]
"""Store id and key."""

MOST_WAITS = 30
"""Seconds for which a thread waits for a key; then its file goes back to the queue."""
_WAIT_SECONDS = 1.0


class KeyLocks:
    """For any thread."""

    def __init__(self) -> None:
        self._holders: dict[Key, Exclusive] = {}
        self._copies: dict[Key, list[tuple[object, object]]] = {}
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._waiting = 0
        """How many threads wait for a change."""

    def exclusive(
        self,
        owner: object,
        name: Key,
        *,
        waiting: Callable[[], object] | None = None,
        lost: Callable[[], object] = lambda: None,
    ) -> Exclusive:
        """Surrounds a change of the object or of its uploads; a thread that holds the key may enter again.

        If the key is taken, `waiting` is called once a second until it is free, and may raise. Raises KeyBusy
        after `MOST_WAITS`, or at once without `waiting`. `lost` is called at the end of an abandoned lock.
        """
        return Exclusive(self, owner, name, waiting, lost)

    @contextmanager
    def shared(self, owner: object, name: Key) -> Iterator[bool]:
        """Surrounds a copy of the object; yields False, and takes no lock, while a thread changes it."""
        copy = (owner, object())
        with self._lock:
            free = name not in self._holders
            if free:
                self._copies.setdefault(name, []).append(copy)
        try:
            yield free
        finally:
            with self._lock:
                self._drop_copies(name, lambda each: each is copy)

    def _drop_copies(self, name: Key, is_over: Callable[[tuple[object, object]], bool]) -> None:
        left = [copy for copy in self._copies.pop(name, ()) if not is_over(copy)]
        if left:
            self._copies[name] = left
        self._changed.notify_all()

    def abandon(self, owner: object) -> list[Key]:
        """Free all keys of `owner`; returns those whose objects its requests may still change."""
        with self._lock:
            for name in list(self._copies):
                self._drop_copies(name, lambda copy: copy[0] is owner)
            names = [name for name, holder in self._holders.items() if holder.owner is owner]
            for name in names:
                del self._holders[name]
            self._changed.notify_all()
        return names

    def enter(self, holder: Exclusive) -> bool:
        """The first half of `exclusive`; False if the thread holds the key already."""
        name = holder.name
        with self._lock:
            for _ in range(MOST_WAITS if holder.waiting else 1):
                known = self._holders.get(name)
                if known is None and name not in self._copies:
                    self._holders[name] = holder
                    return True
                if known is not None and (known.owner, known.thread) == (holder.owner, holder.thread):
                    return False
                if holder.waiting is not None:
                    self._waiting += 1
                    self._changed.wait(_WAIT_SECONDS)
                    self._waiting -= 1
                    holder.waiting()
        raise KeyBusy("another request works on its object")

    def leave(self, holder: Exclusive) -> None:
        """The second half of `exclusive`."""
        with self._lock:
            lost = self._holders.get(holder.name) is not holder
            if not lost:
                del self._holders[holder.name]
                if self._waiting:
                    self._changed.notify_all()
        if lost:
            holder.lost()


class Exclusive:
    """What `KeyLocks.exclusive` returns. No generator: every file uses it, and generators cost more."""

    __slots__ = ("_first", "_locks", "lost", "name", "owner", "thread", "waiting")

    def __init__(
        self,
        locks: KeyLocks,
        owner: object,
        name: Key,
        waiting: Callable[[], object] | None,
        lost: Callable[[], object],
    ) -> None:
        self._locks = locks
        self.owner = owner
        self.name = name
        self.waiting = waiting
        self.lost = lost
        self.thread = threading.get_ident()
        self._first = False

    def __enter__(self) -> None:
        self._first = self._locks.enter(self)

    def __exit__(self, *_: object) -> None:
        if self._first:
            self._locks.leave(self)
