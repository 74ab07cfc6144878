"""Objects that a request without an answer may yet change, whatever succeeded since.

A request whose answer was lost may wait in a queue of the store and take effect after its repeat. The
monotonic clock tells how long that is possible; only from one process to the next the wall clock has to do.
Where that was put back, the time begins again.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable

from syncd.core.plan import LATE_EFFECT_NS
from syncd.state import queries

Join = Callable[[Callable[[sqlite3.Connection], object]], object]
Key = tuple[str, str]
"""Store id and key."""


class Unsettled:
    """For any thread. `write` puts an operation on the disk, `join` leaves it to a later one."""

    def __init__(
        self, now_ns: Callable[[], int], monotonic: Callable[[], float], write: Join, join: Join
    ) -> None:
        self._now_ns = now_ns
        self._monotonic = monotonic
        self._write = write
        self._join = join
        self._lock = threading.Lock()
        self._until: dict[Key, float] = {}
        self._created: set[Key] = set()

    def load(self, rows: list[tuple[str, str, int, bool]]) -> None:
        """What earlier processes left."""
        now_ns, now = self._now_ns(), self._monotonic()
        for store_id, key, since_ns, creates in rows:
            passed_ns = max(0, now_ns - since_ns)
            self._until[store_id, key] = now + (LATE_EFFECT_NS - passed_ns) / 1e9
            if creates:
                self._created.add((store_id, key))
        self._prune()

    def add(self, store_id: str, key: str, *, creates: bool) -> None:
        """From now on, for as long as a store may take. If it raises StateError, this process remembers."""
        name, since_ns = (store_id, key), self._now_ns()
        with self._lock:
            self._until[name] = self._monotonic() + LATE_EFFECT_NS / 1e9
            if creates:
                self._created.add(name)
            creates = name in self._created
        self._prune()
        self._write(lambda connection: queries.put_unsettled(connection, store_id, key, since_ns, creates))

    def left_ns(self, store_id: str, key: str) -> int:
        """How much longer something may happen to the object; 0: nothing will."""
        until = self._until.get((store_id, key))
        return 0 if until is None else max(0, round((until - self._monotonic()) * 1e9))

    def may_appear(self, store_id: str, key: str) -> bool:
        """Whether the object may be made yet."""
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
