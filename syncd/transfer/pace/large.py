"""Which large files of one store are under way: few enough to leave workers for small ones.

A large file without room is put off, and called as soon as there is room.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from syncd.core.errors import NoRoom
from syncd.core.model import FileRef

_WAIT_SECONDS = 30.0
"""When a file is tried again that was not called."""


class LargeFiles:
    """At most `most` files, besides those of sources that are `left_out`: their folders do not answer.

    `call` makes a file that was put off due, and returns whether it was put off. For any thread.
    """

    def __init__(self, most: int, call: Callable[[FileRef], bool], left_out: Callable[[str], bool]) -> None:
        self._most = most
        self._call = call
        self._left_out = left_out
        self._lock = threading.Lock()
        self.under_way: set[FileRef] = set()
        self._waiting: dict[FileRef, None] = {}
        """In the order in which there was no room for them."""

    def enter(self, ref: FileRef) -> None:
        """Admit a large file that is to be sent. Raises NoRoom."""
        with self._lock:
            if not self._has_room():
                raise NoRoom("the largest allowed number of large files is in progress", _WAIT_SECONDS)
            self.under_way.add(ref)

    def wait(self, ref: FileRef) -> None:
        """Note that the file was put off for want of room."""
        with self._lock:
            self._waiting[ref] = None

    def ended(self, ref: FileRef) -> None:
        """Note that a worker is done with the file, large or not. Call another one if there is room."""
        if ref in self.under_way:
            with self._lock:
                self.under_way.discard(ref)
        while (called := self._next()) is not None:
            if self._call(called):
                return

    def _next(self) -> FileRef | None:
        if not self._waiting:  # the usual case
            return None
        with self._lock:
            ref = next(iter(self._waiting), None) if self._has_room() else None
            if ref is not None:
                del self._waiting[ref]
            return ref

    def _has_room(self) -> bool:
        return sum(not self._left_out(ref.source) for ref in self.under_way) < self._most
