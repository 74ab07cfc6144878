"""Which objects of vanished files may be removed, and when a person has to be asked first. Pure.

A source with ``on_delete: delete`` loses an object only when its file has been gone for a grace period, and
never more of them at once than the source allows: an unmounted disk or a mistyped path must not look like a
wish to delete everything.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from syncd.model import FileRef

_PATIENCE = 10  # grace periods that a candidate waits for its fellows at most

FLOOR = 10
"""So many are always allowed: in a small folder a quarter would be less than a hand's work."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`allowed` may be deleted now; `parked` more wait for a person, for the reason given."""

    allowed: tuple[FileRef, ...]
    parked: int
    reason: str
    next_look: float | None
    """When the youngest candidate will have been gone for long enough; None: nothing waits for time."""


def allowance(recorded_files: int, max_files: int, max_fraction: float) -> int:
    """How many deletions one window may see without a person's word."""
    return max(FLOOR, min(max_files, int(recorded_files * max_fraction)))


class Deletions:
    """The candidates of one source. Time in seconds, monotonic, passed in."""

    def __init__(
        self, max_files: int, max_fraction: float, *, grace_seconds: float, window_seconds: float
    ) -> None:
        self._max_files = max_files
        self._max_fraction = max_fraction
        self._grace_seconds = grace_seconds
        self._window_seconds = window_seconds
        self._since: dict[FileRef, float] = {}
        self._uncounted = 0
        self._spent: deque[float] = deque()
        self._confirmed = False

    def add(self, ref: FileRef, now: float) -> None:
        """A recorded file is gone. Beyond what could ever be allowed only their number is kept."""
        if ref in self._since:
            return
        if len(self._since) <= self._max_files or self._confirmed:
            self._since[ref] = now
        else:
            self._uncounted += 1

    def withdraw(self, ref: FileRef) -> None:
        """It is there again."""
        self._since.pop(ref, None)

    def clear(self) -> None:
        """Nothing that was seen may be believed any more."""
        self._since.clear()
        self._uncounted = 0

    def confirm(self) -> None:
        """A person said yes to what waits now; forgotten once nothing waits."""
        self._confirmed = True

    def waiting(self) -> int:
        """Candidates, allowed or not."""
        return len(self._since) + self._uncounted

    def judge(self, now: float, recorded_files: int) -> Verdict:
        """What may be deleted now. The allowed ones are taken out and count against the window."""
        while self._spent and self._spent[0] <= now - self._window_seconds:
            self._spent.popleft()
        ripe = [ref for ref, since in self._since.items() if since <= now - self._grace_seconds]
        young = [since for since in self._since.values() if since > now - self._grace_seconds]
        next_look = max(young) + self._grace_seconds if young else None
        limit = allowance(recorded_files, self._max_files, self._max_fraction)
        asked = self.waiting() + len(self._spent)
        if asked > limit and not self._confirmed:
            reason = f"{asked} deletions are more than the {limit} allowed without confirmation"
            return Verdict((), self.waiting(), reason, next_look)
        patience = now - _PATIENCE * self._grace_seconds
        if young and not any(since <= patience for since in self._since.values()):
            # A tree that is just being removed is counted whole before its first object goes.
            return Verdict((), 0, "", next_look)
        for ref in ripe:
            del self._since[ref]
            self._spent.append(now)
        self._uncounted = 0
        if self._confirmed:
            self._confirmed = False
            self._spent.clear()
        return Verdict(tuple(ripe), 0, "", None)
