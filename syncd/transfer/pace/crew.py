"""How many workers of one store carry small files at once: as many as keep the interpreter busy.

A worker that waits for an answer leaves the interpreter to others. If answers are fast, a few workers use
all of it, and more of them only wait in line, with every thread that has to answer the operator. If answers
are slow, nearly all of them wait, and many are needed.

The time of an answer does not tell the two apart: in a long line each answer waits to be read, so that it
seems slow. So before each request its worker checks whether another worker could run while this one waits.
If none could, the interpreter has nothing to do until an answer comes, and one more worker helps. If one
could at each of many requests, the crew does as well with one worker less.

Only the use of the interpreter is limited. A large file does not count, and after a moment no file does,
whatever its worker waits for: nothing that hangs blocks the others.
"""

from __future__ import annotations

from math import inf

LEAST = 6
"""So many workers are always useful: threads of other programs keep some of them from the processor."""
FRESH_SECONDS = 0.2
"""After so long a file no longer counts."""
BUSY_REQUESTS = 32
"""After so many requests during which the interpreter was always busy, the crew loses a worker."""


class Crew:
    """The workers that carry small files, at most `most`. The owner holds a lock around all changes.

    Workers are given by the identifiers of their threads, times in seconds of a monotonic clock.
    """

    def __init__(self, most: float = inf) -> None:
        self.size = most
        """If so many have a file that counts, another one is useless."""
        self._most = most
        self._since: dict[int, float] = {}
        """The workers that have a small file, and since when."""
        self._busy = 0
        """Requests since the crew last grew or shrank."""

    def begins(self, worker: int, now: float) -> None:
        """Note that the worker has a file from now on."""
        self._since[worker] = now

    def has_large(self, worker: int) -> None:
        """Note that the file of the worker is large."""
        self._since.pop(worker, None)

    def ends(self, worker: int) -> None:
        """Note that the worker has no file."""
        self._since.pop(worker, None)

    def beside(self, worker: int) -> list[int] | None:
        """Return the other workers that have a small file; None: this one has none. Needs no lock."""
        if worker not in self._since:
            return None
        return [other for other in list(self._since) if other != worker]

    def asks(self, *, alone: bool) -> bool:
        """Count a request; `alone`: none of the other workers can go on. Return whether the crew grew."""
        self._busy += 1
        if alone:
            grows, self._busy = self.size < self._most, 0
            self.size = min(self._most, self.size + 1)
            return grows
        if self._busy >= BUSY_REQUESTS:
            self.size, self._busy = max(min(LEAST, self._most), self.size - 1), 0
        return False

    def is_full(self, now: float) -> bool:
        """Return whether another worker is useless now."""
        if len(self._since) < self.size:
            return False
        return sum(now - since < FRESH_SECONDS for since in self._since.values()) >= self.size
