"""Objects that a request without an answer may yet change, whatever succeeded since.

A request whose answer was lost may wait in a queue of the store and take effect after its repeat. The
monotonic clock tells how long that is possible, from one process to the next as well, for it counts from the
boot. After another boot the time begins again.

A request may also outlive the process that sent it. So what is under way is noted in a file, without a
flush: that outlives a kill, and costs a small file some microseconds. The next process takes the outcome for
unknown.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress

from msgspec import json

from syncd.core.errors import StateError, os_words
from syncd.core.plan import LATE_EFFECT_NS
from syncd.state import queries

Join = Callable[[Callable[[sqlite3.Connection], object]], object]
Key = tuple[str, str]
"""Store id and key."""

UNDER_WAY = "under-way"
"""The file, in the directory of the state."""
_SLOT = 8192
"""Bytes of the file for one request; a longer key is not noted."""


class UnderWay:
    """The requests of this process that have no answer yet, in a file with a slot for each.

    For any thread.
    """

    def __init__(self, path: str) -> None:
        """Opens the file, or makes it. Raises StateError."""
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            directory = os.path.dirname(path)
            raise StateError(f"the state directory {directory} cannot be used: {os_words(error)}") from error
        self._slots = 0
        self._free: list[int] = []
        """Those of the slots that no request has."""
        self._lock = threading.Lock()

    def left(self) -> list[tuple[str, str, bool]]:
        """Store id, key, and whether it may make an object, of what the last process had under way."""
        found = []
        with suppress(OSError):
            for start in range(0, os.fstat(self._fd).st_size, _SLOT):
                with suppress(ValueError):  # free, or half written
                    text = os.pread(self._fd, _SLOT, start).split(b"\0")[0]
                    found.append(json.decode(text, type=tuple[str, str, bool]))
        return found

    def clear(self) -> None:
        """Forget what the last process left."""
        with suppress(OSError):
            os.ftruncate(self._fd, 0)

    def note(self, store_id: str, key: str, *, creates: bool) -> Noted:
        """Surrounds a request of this process that may change the object. It is sent also where it cannot be
        noted.
        """
        text = json.encode((store_id, key, creates))
        return Noted(self, text if len(text) < _SLOT else b"")

    def begin(self, text: bytes) -> int:
        """Do the first half of `note`; return the slot."""
        with self._lock:
            if not self._free:
                self._free.append(self._slots)
                self._slots += 1
            slot = self._free.pop()
        self._write(slot, text)  # of its own slot: without the lock
        return slot

    def end(self, slot: int) -> None:
        """Do the second half of `note`."""
        self._write(slot, b"")
        with self._lock:
            self._free.append(slot)

    def _write(self, slot: int, text: bytes) -> None:
        try:
            os.pwrite(self._fd, text + b"\0", slot * _SLOT)
        except OSError:
            return  # see `note`

    def close(self) -> None:
        """What a thread still has under way stays noted, and the file open for it. Done also when closed."""
        with self._lock:
            if len(self._free) == self._slots and self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


class Noted:
    """What `UnderWay.note` returns. No generator: every file uses it, and generators cost more."""

    __slots__ = ("_slot", "_text", "_under_way")

    def __init__(self, under_way: UnderWay, text: bytes) -> None:
        self._under_way = under_way
        self._text = text
        self._slot = -1

    def __enter__(self) -> None:
        self._slot = self._under_way.begin(self._text)

    def __exit__(self, *_: object) -> None:
        self._under_way.end(self._slot)


class Unsettled:
    """For any thread. `write` puts an operation on the disk, `join` leaves it to a later one."""

    def __init__(self, monotonic: Callable[[], float], write: Join, join: Join, boot: str) -> None:
        self._monotonic = monotonic
        self._boot = boot
        self._write = write
        self._join = join
        self._lock = threading.Lock()
        self._until: dict[Key, float] = {}
        self._created: set[Key] = set()

    def load(self, rows: list[tuple[str, str, int, bool, str]]) -> None:
        """Take over what earlier processes left."""
        now = self._monotonic()
        of_now = []
        for store_id, key, since_ns, creates, boot in rows:
            is_of_now = boot == self._boot != ""
            since = min(now, since_ns / 1e9) if is_of_now else now
            self._until[store_id, key] = since + LATE_EFFECT_NS / 1e9
            if creates:
                self._created.add((store_id, key))
            if not is_of_now:
                of_now.append((store_id, key, round(now * 1e9), creates, self._boot))
        if of_now:
            self._join(lambda connection: queries.put_unsettled(connection, of_now))
        self._prune()

    def add(self, store_id: str, key: str, *, creates: bool) -> None:
        """From now on, for as long as a store may take. If it raises StateError, this process remembers."""
        name, now = (store_id, key), self._monotonic()
        with self._lock:
            self._until[name] = now + LATE_EFFECT_NS / 1e9
            if creates:
                self._created.add(name)
            creates = name in self._created
        self._prune()
        row = (store_id, key, round(now * 1e9), creates, self._boot)
        self._write(lambda connection: queries.put_unsettled(connection, [row]))

    def left_ns(self, store_id: str, key: str) -> int:
        """Return the nanoseconds for which something may still happen to the object; 0: nothing will."""
        until = self._until.get((store_id, key))
        return 0 if until is None else max(0, round((until - self._monotonic()) * 1e9))

    def may_appear(self, store_id: str, key: str) -> bool:
        """Return whether a request may still make the object."""
        return self.left_ns(store_id, key) > 0 and (store_id, key) in self._created

    def _prune(self) -> None:
        now = self._monotonic()
        with self._lock:
            over = [name for name, until in self._until.items() if until <= now]
            for name in over:
                del self._until[name]
                self._created.discard(name)
        if over:
            self._join(lambda connection: queries.drop_unsettled(connection, over))


def boot_id() -> str:
    """Return the id of the last start of this machine; empty: the kernel does not tell."""
    with suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read(64).strip()
    return ""
