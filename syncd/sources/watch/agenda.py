"""What the watch tree still has to look at, and how long it may sleep. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from enum import Enum

from syncd.sources.watch.map import Node

PAIR_SECONDS = 0.02
"""How long to wait for the other half of a move before a directory counts as moved out."""

TRIES = 25
"""Looks at an uncertain directory, one in each quiet turn, before its whole source is looked at again."""


class Mode(Enum):
    """What a visit of a directory does besides watching the new directories in it."""

    FIRST = "report nothing, not in those either: a scan follows"
    NEW = "report every file"
    AGAIN = "report nothing"
    DEEP = "report nothing, and visit the known directories in it too"


class Agenda:
    """Everything that waits. Each kind is an ordered set, so nothing waits twice."""

    def __init__(self) -> None:
        self._suspects: dict[Node, dict[str, int]] = {}
        self._roots: dict[str, None] = {}
        self._visits: deque[tuple[Node, Mode]] = deque()
        self._stale: dict[str, None] = {}
        self._uncertain: dict[Node, int] = {}
        self._parked: dict[Node, int] = {}
        self._removals: dict[int, None] = {}

    @property
    def is_placing(self) -> bool:
        """Return whether a directory may exist that has no watch yet, and could have one."""
        return bool(self._suspects or self._roots or self._visits or self._stale)

    def patience(self) -> float | None:
        """Return the seconds that the next turn may wait for records; None: nothing is left to do."""
        if self.is_placing or self._removals:
            return 0.0
        return PAIR_SECONDS if self._parked or self._uncertain else None

    # ---- places that may hold something else than the map says

    def suspect(self, parent: Node, name: str, mask: int = 0) -> None:
        """Look at the place `name` in `parent`. `mask` is what a record said about it."""
        names = self._suspects.setdefault(parent, {})
        names[name] = names.get(name, 0) | mask

    def take_suspects(self) -> dict[Node, dict[str, int]]:
        """Return parent -> name -> what records said about it."""
        suspects, self._suspects = self._suspects, {}
        return suspects

    def suspect_root(self, source: str) -> None:
        """Check whether the source's root is still the same."""
        self._roots[source] = None

    def take_roots(self) -> list[str]:
        """Return the sources whose root is suspect."""
        roots, self._roots = self._roots, {}
        return list(roots)

    # ---- directories to be listed

    def visit(self, node: Node, mode: Mode) -> None:
        """List this directory when its turn comes."""
        self._visits.append((node, mode))

    def take_visits(self, limit: int) -> Iterator[tuple[Node, Mode]]:
        """Yield the next ones, including those that are added while they are taken."""
        while self._visits and limit > 0:
            limit -= 1
            yield self._visits.popleft()

    def look_at_all(self, source: str) -> None:
        """Visit the whole source once no other visit waits, so that a second loss of records adds nothing."""
        self._stale[source] = None

    def take_stale(self) -> list[str]:
        """Return the sources to visit as a whole; none while other visits wait."""
        if self._visits:
            return []
        stale, self._stale = self._stale, {}
        return list(stale)

    def drop_source(self, source: str) -> None:
        """Forget a source that is no longer watched. Its nodes may stay, because they have no path."""
        self._stale.pop(source, None)

    # ---- directories whose path leads elsewhere at the moment

    def mistrust(self, node: Node) -> None:
        """Note that this directory's path leads elsewhere. A record that explains it should be on its way."""
        self._uncertain.setdefault(node, 0)

    def trust(self, node: Node) -> None:
        """Note that the directory was entered, or is no longer watched."""
        self._uncertain.pop(node, None)

    def uncertain(self) -> list[Node]:
        """Return the directories that are mistrusted."""
        return list(self._uncertain)

    def is_hopeless(self, node: Node, *, quiet: bool) -> bool:
        """Count a failed look, if no record could have come before it; return whether it is one too many."""
        if quiet and node in self._uncertain:
            self._uncertain[node] += 1
        return self._uncertain.get(node, 0) > TRIES

    # ---- directories that have left their place

    def park(self, node: Node, turn: int) -> None:
        """Note that the directory left its place in this turn; it may turn up elsewhere."""
        self._parked[node] = turn

    def unpark(self, node: Node) -> None:
        """Note that the directory turned up, or is forgotten."""
        self._parked.pop(node, None)

    def take_expired(self, turn: int) -> list[Node]:
        """Return the directories parked before this turn."""
        expired = [node for node, since in self._parked.items() if since < turn]
        for node in expired:
            self.unpark(node)
        return expired

    # ---- watches to be ended

    def remove(self, watch: int) -> None:
        """End this watch when its turn comes."""
        self._removals[watch] = None

    def keep(self, watch: int) -> None:
        """Keep a watch, because its directory is wanted after all."""
        self._removals.pop(watch, None)

    def take_removals(self, limit: int) -> list[int]:
        """Return the next watches to end; few at once, because the kernel queues a record for each."""
        return [self._removals.popitem()[0] for _ in range(min(limit, len(self._removals)))]
