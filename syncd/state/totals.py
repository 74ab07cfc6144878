"""Counters of a lifetime, kept in memory until they go along with some write."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Mapping

from syncd.state import queries as rows
from syncd.state.writer import Operation

NAMES = ("bytes_sent", "bytes_saved", "requests")

Join = Callable[[Operation, Callable[[], None]], None]
"""Queues an operation, and says when it is on the disk."""


class Totals:
    """What was counted and is not on the disk yet. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted = dict.fromkeys(NAMES, 0)
        self._joined = False

    def add(self, amounts: Mapping[str, int]) -> None:
        """Count; `join` writes it."""
        with self._lock:
            for name, amount in amounts.items():
                self._counted[name] += amount

    def join(self, join: Join) -> None:
        """Queue one operation for all that was counted, however often; what is counted later is its too."""
        with self._lock:
            if self._joined or not any(self._counted.values()):
                return
            self._joined = True
        written: dict[str, int] = {}

        def operation(connection: sqlite3.Connection) -> None:
            with self._lock:
                written.update(self._counted)
            rows.add_totals(connection, written)

        def settled() -> None:
            with self._lock:
                for name, amount in written.items():
                    self._counted[name] -= amount
                self._joined = False

        join(operation, settled)
