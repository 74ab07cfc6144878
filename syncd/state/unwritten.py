"""What is not on the disk yet: records that were committed without waiting for it, and counters."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType

from syncd.core.model import FileRef, Fingerprint, Recorded
from syncd.state import queries
from syncd.state.writer import Operation

Join = Callable[[Operation, Callable[[], None]], None]
"""Queues an operation; the second argument is called once it is on the disk."""


class Unwritten:
    """Recorded files that the database does not show yet, None for those that were forgotten.

    Asked before the database is.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.files: dict[FileRef, Recorded | None] = {}
        self._refs: dict[tuple[str, Fingerprint], FileRef] = {}

    def add(self, ref: FileRef, recorded: Recorded | None, queue: Callable[[], None]) -> None:
        """From now on `recorded` is what is known of `ref`. `queue` has it written later.

        Nobody sees it before it is queued: what is written because of it would find nothing.
        """
        with self.lock:
            queue()
            self.files[ref] = recorded
            if recorded is not None:
                self._refs[recorded.store_id, recorded.fingerprint] = ref

    def twins(self, store_id: str, fingerprint: Fingerprint) -> list[tuple[FileRef, Recorded]]:
        """At most one file that has this content. The caller holds the lock."""
        ref = self._refs.get((store_id, fingerprint))
        recorded = self.files.get(ref) if ref is not None else None
        if ref is None or recorded is None:
            return []
        same = recorded.store_id == store_id and recorded.fingerprint == fingerprint
        return [(ref, recorded)] if same else []

    def settled(self, ref: FileRef, recorded: Recorded | None) -> None:
        """The write reached the disk, or failed for good: from now on the database is asked."""
        with self.lock:
            if ref in self.files and self.files[ref] is recorded:
                del self.files[ref]
            if recorded is not None and self._refs.get((recorded.store_id, recorded.fingerprint)) == ref:
                del self._refs[recorded.store_id, recorded.fingerprint]


class Totals:
    """Counters of a lifetime, which go along with some write. For any thread.

    `before` are those that the database has.
    """

    def __init__(self, before: Mapping[str, int] = MappingProxyType({})) -> None:
        self._lock = threading.Lock()
        self._all = Counter(before)
        self._counted: Counter[str] = Counter()  # of these, what is not written yet
        self._joined = False

    def add(self, amounts: Mapping[str, int]) -> None:
        """Count. `join` queues the write."""
        with self._lock:
            self._all.update(amounts)
            self._counted.update(amounts)

    def all(self) -> dict[str, int]:
        """Those that are not 0, whether they are written or not."""
        with self._lock:
            return dict(+self._all)

    def join(self, join: Join) -> None:
        """Queue one operation that writes all that was counted until it runs; nothing if one is queued."""
        with self._lock:
            if self._joined or not any(self._counted.values()):
                return
            self._joined = True
        written: dict[str, int] = {}

        def operation(connection: sqlite3.Connection) -> None:
            with self._lock:
                written.update(self._counted)
            queries.add_totals(connection, written)

        def settled() -> None:
            with self._lock:
                self._counted.subtract(written)
                self._joined = False

        join(operation, settled)
