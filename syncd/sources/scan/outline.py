"""The recorded files of a directory in the order of a walk, a page at a time."""

from __future__ import annotations

from collections.abc import Callable

from syncd.state.queries import Row

PAGE = 4096
"""Rows read at once: about two megabytes."""


class RecordCursor:
    """The recorded files under a directory, one at a time, in the order of bytes; `row` is the next one."""

    def __init__(self, page: Callable[[bytes], list[Row]]) -> None:
        self._page = page
        self._rows: list[Row] = []
        self._index = 0
        self.row: Row | None = None
        self._fetch(b"")

    def advance(self) -> Row | None:
        """Go to the next one, and return it."""
        self._index += 1
        try:  # called for every recorded file: the end of a page is the exception
            self.row = row = self._rows[self._index]
            return row
        except IndexError:
            self._turn()
        return self.row

    def _turn(self) -> None:
        """To the next page, if there is one."""
        if len(self._rows) == PAGE:
            self._fetch(self._rows[-1][0] + b"\0")
        else:
            self.row = None

    def skip_below(self, prefix: bytes) -> None:
        """Pass over all that begin with `prefix`, which ends with a slash (or is empty: all)."""
        after = prefix[:-1] + b"0"  # what sorts right behind "prefix/..."
        if not prefix or (self._rows and self._rows[-1][0] < after and len(self._rows) == PAGE):
            self._fetch(after) if prefix else self._end()
            return
        while self.row is not None and self.row[0].startswith(prefix):
            self.advance()

    def _fetch(self, start: bytes) -> None:
        self._rows = self._page(start)
        self._index = 0
        self.row = self._rows[0] if self._rows else None

    def _end(self) -> None:
        self._rows, self.row = [], None
