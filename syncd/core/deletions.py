"""Which objects of vanished files may be removed, and when a person has to be asked first. Pure.

A source with ``on_delete: delete`` loses an object only when its file has been gone for a grace period, and
never more of them at once than the source allows: an unmounted disk or a mistyped path must not look like a
wish to delete everything.

Each scan of the whole source tells anew what is gone, so a candidate that a scan did not tell again is back.
Of the candidates only `MOST_KEPT` are remembered by name, the others are counted: once those that are
remembered have gone, another scan finds the others.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from syncd.core.model import FileRef

MOST_KEPT = 10_000
"""Candidates that are remembered by name."""
FLOOR = 10
"""A share of a small folder would be less than a hand's work: so many are allowed by any share above 0."""

_PATIENCE = 10  # grace periods that a candidate waits for its fellows at most


@dataclass(frozen=True, slots=True)
class Verdict:
    """`allowed` may be deleted now; `parked` more wait for a person, for the reason given."""

    allowed: tuple[FileRef, ...]
    parked: int
    reason: str
    next_look: float | None
    """When the youngest candidate will have been gone for long enough; None: nothing waits for time."""
    rescan: bool = False
    """Only another scan can tell the rest of them."""


def allowance(recorded_files: int, max_files: int, max_fraction: float) -> int:
    """How many deletions one window may see without a person's word."""
    share = max(FLOOR, int(recorded_files * max_fraction)) if max_fraction > 0 else 0
    return min(max_files, share)


@dataclass(slots=True)
class _Candidate:
    since: float
    scan: int
    """The last scan that told of it, or during which somebody else did."""


class Deletions:
    """The candidates of one source. Time in seconds, monotonic, passed in. No lock inside."""

    def __init__(
        self, max_files: int, max_fraction: float, *, grace_seconds: float, window_seconds: float
    ) -> None:
        self._max_files = max_files
        self._max_fraction = max_fraction
        self._grace_seconds = grace_seconds
        self._window_seconds = window_seconds
        self._candidates: dict[FileRef, _Candidate] = {}
        self._uncounted = 0
        self._scan = 0
        self._spent: deque[tuple[float, int]] = deque()
        self._granted = 0
        self._all_granted = False
        self.held = ""
        """Why a person has to be asked whatever the number; empty: not so."""
        self.unseen = ""
        """What the last scan could not see: until one sees everything, a person has to be asked, too."""

    # ---- candidates -------------------------------------------------------------------------------------

    def add(self, ref: FileRef, now: float) -> None:
        """A recorded file is gone."""
        known = self._candidates.get(ref)
        if known is not None:
            known.scan = self._scan
        elif len(self._candidates) < MOST_KEPT:
            self._candidates[ref] = _Candidate(now, self._scan)
        else:
            self._uncounted += 1

    def withdraw(self, ref: FileRef) -> None:
        """It is there again."""
        self._candidates.pop(ref, None)

    def clear(self) -> None:
        """Nothing that was seen may be believed any more."""
        self._candidates.clear()
        self._uncounted = 0

    def scan_begins(self) -> None:
        """A scan of the whole source will tell everything that is gone."""
        self._scan += 1
        self._uncounted = 0

    def scan_ended(self, unseen: str = "") -> None:
        """It told everything: what it did not tell again is back. Or it did not: `unseen` says why."""
        self.unseen = unseen
        if not unseen:
            told = {ref: each for ref, each in self._candidates.items() if each.scan == self._scan}
            self._candidates = told

    def waiting(self) -> int:
        """Candidates, allowed or not."""
        return len(self._candidates) + self._uncounted

    # ---- a person's word --------------------------------------------------------------------------------

    def confirm(self) -> int:
        """A person said yes to as many as wait now, beyond what is allowed anyway; returns how many."""
        self.held = ""
        self._granted = self.waiting()
        return self._granted

    def confirm_all(self) -> None:
        """A person said yes to all that will be found: for a single pass, which ends soon."""
        self.held = ""
        self._all_granted = True

    # ---- the judgement ----------------------------------------------------------------------------------

    def judge(self, now: float, recorded_files: int) -> Verdict:
        """What may be deleted now. The allowed ones are taken out and count against the window."""
        asked = self.waiting()
        if not asked:
            self._granted = 0
            return Verdict((), 0, "", None)
        ripe = [ref for ref, each in self._candidates.items() if each.since <= now - self._grace_seconds]
        young = [each.since for each in self._candidates.values() if each.since > now - self._grace_seconds]
        next_look = max(young) + self._grace_seconds if young else None
        reason = "" if self._all_granted else self._objection(asked, now, recorded_files)
        if reason:
            return Verdict((), asked, reason, next_look)
        if young and not self._granted and not self._is_overdue(now):
            # A tree that is just being removed is counted whole before its first object goes.
            return Verdict((), 0, "", next_look)
        for ref in ripe:
            del self._candidates[ref]
        of_window = max(0, len(ripe) - self._granted)
        self._granted = max(0, self._granted - len(ripe))
        if of_window and not self._all_granted:
            self._spent.append((now, of_window))
        return Verdict(tuple(ripe), 0, "", next_look, rescan=self._uncounted > 0 and not self._candidates)

    def _objection(self, asked: int, now: float, recorded_files: int) -> str:
        """Why a person has to be asked; empty when not."""
        if self.held:
            return self.held
        if self.unseen and asked > self._granted:
            return self.unseen
        while self._spent and self._spent[0][0] <= now - self._window_seconds:
            self._spent.popleft()
        asked += sum(number for _, number in self._spent) - self._granted
        limit = allowance(recorded_files, self._max_files, self._max_fraction)
        if asked <= limit:
            return ""
        return f"{asked} deletions are more than the {limit} allowed without confirmation"

    def _is_overdue(self, now: float) -> bool:
        patience = now - _PATIENCE * self._grace_seconds
        return any(each.since <= patience for each in self._candidates.values())
