"""Which objects of vanished files may be removed, and when the operator has to confirm it. Pure.

A source with ``on_delete: delete`` loses an object only when its file has been gone for a grace period, and
never more of them at once than the source allows: an unmounted disk or a mistyped path must not look like a
wish to delete everything.

Each scan of the whole source reports every missing file, so a candidate that a scan does not report is back.
Only `MOST_KEPT` candidates are remembered by name; the others are counted, and another scan finds them once
the remembered ones have been deleted.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable

from msgspec import Struct

from syncd.core.model import FileRef
from syncd.core.words import counted

MOST_KEPT = 10_000
"""Candidates that are remembered by name."""
UNLIMITED = (1 << 63) - 1
"""The number of files in a bound that is a share alone."""
FLOOR = 5
"""The default allows at least this many: a quarter of a small folder would be next to nothing."""

_ENTRIES = 64
_PATIENCE = 10  # grace periods that a candidate waits for younger ones at most


class Verdict(Struct, frozen=True):
    """`allowed` may be deleted now; `parked` more wait for the operator, for the reason given."""

    allowed: tuple[FileRef, ...]
    parked: int
    reason: str
    next_look: float | None
    """When the youngest candidate will have been gone for long enough; None: nothing waits for time."""
    rescan: bool = False
    """Only another scan can find the remaining candidates."""


def allowance(recorded_files: int, max_files: int, max_fraction: float) -> int:
    """How many deletions one window may see without a confirmation.

    A number or a share that a person wrote holds as it is written; both together are the default.
    """
    if max_fraction >= 1.0:
        return max_files
    share = int(recorded_files * max_fraction)
    return share if max_files >= UNLIMITED else min(max_files, max(FLOOR, share))


class _Candidate(Struct):
    since: float
    scan: int
    """The last scan that reported it, or during which an event did."""


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
        self._going: dict[FileRef, float] = {}
        self._granted = 0
        self._all_granted = False
        self.held = ""
        """Why every deletion has to be confirmed; empty if it need not be."""
        self.unseen = ""
        """What the last scan could not see: until one sees all, deletions have to be confirmed, too."""

    # ---- candidates -------------------------------------------------------------------------------------

    def add(self, ref: FileRef, now: float) -> None:
        """Note that a recorded file is missing."""
        known = self._candidates.get(ref)
        if known is not None:
            known.scan = self._scan
        elif len(self._candidates) < MOST_KEPT:
            self._candidates[ref] = _Candidate(now, self._scan)
        else:
            self._uncounted += 1

    def refs(self) -> tuple[FileRef, ...]:
        """Return the candidates."""
        return tuple(self._candidates)

    def withdraw(self, ref: FileRef) -> None:
        """Drop a candidate, because its file is back or its object is gone."""
        self._candidates.pop(ref, None)
        self._going.pop(ref, None)

    def clear(self) -> None:
        """Forget all candidates: the observations can no longer be trusted."""
        self._candidates.clear()
        self._uncounted = 0

    def scan_begins(self) -> None:
        """Note that a scan of the whole source begins. It reports every missing file."""
        self._scan += 1
        self._uncounted = 0

    def scan_ended(self, unseen: str = "") -> None:
        """Note that the scan ended. What a complete scan did not report is back.

        `unseen` says why it is incomplete.
        """
        self.unseen = unseen
        if not unseen:
            gone = {ref: each for ref, each in self._candidates.items() if each.scan == self._scan}
            self._candidates = gone

    def waiting(self) -> int:
        """Return the number of candidates, allowed or not."""
        return len(self._candidates) + self._uncounted

    # ---- confirmations ----------------------------------------------------------------------------------

    def confirm(self) -> int:
        """Allow all deletions that wait now, because the operator says so; return how many."""
        self.held = ""
        self._granted = self.waiting()
        return self._granted

    def confirm_all(self) -> None:
        """Allow all deletions that a single pass finds, because the operator says so."""
        self.held = ""
        self._all_granted = True

    # ---- the window -------------------------------------------------------------------------------------

    def recall(self, spent: str | None, now: float, now_ns: int) -> None:
        """Count what earlier processes allowed; `spent` is the text that the last one kept, if any."""
        kept = json.loads(spent or "[]")
        self._spent = deque((now - max(0.0, (now_ns - at_ns) / 1e9), number) for at_ns, number in kept)

    def spent(self, now: float, now_ns: int) -> str:
        """Return the text for `recall` in the next process: when how many were allowed, by the wall clock.

        Those within one 64th of the window share one time, the latest.
        """
        kept: dict[int, tuple[int, int]] = {}
        for at, number in self._spent:
            place = int(at * _ENTRIES / max(1.0, self._window_seconds))
            kept[place] = now_ns - int((now - at) * 1e9), kept.get(place, (0, 0))[1] + number
        return json.dumps([*kept.values()])

    def give_back(self, will_go: Callable[[FileRef], bool]) -> None:
        """Stop counting deletions that were allowed and did not happen, except those that yet `will_go`."""
        left = Counter(at for ref, at in self._going.items() if not will_go(ref))
        self._going.clear()
        for _ in range(len(self._spent)):
            at, number = self._spent.pop()
            back = min(number, left[at])
            left[at] -= back
            self._spent.appendleft((at, number - back))

    # ---- the judgement ----------------------------------------------------------------------------------

    def judge(self, now: float, recorded_files: int) -> Verdict:
        """Return what may be deleted now, take it out of the candidates, and count it against the window."""
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
            # A tree that is being removed is counted as a whole before its first object goes.
            return Verdict((), 0, "", next_look)
        for ref in ripe:
            del self._candidates[ref]
        of_window = [] if self._all_granted else ripe[self._granted :]
        self._granted = max(0, self._granted - len(ripe))
        if of_window:
            self._spent.append((now, len(of_window)))
            self._going.update(dict.fromkeys(of_window, now))
        return Verdict(tuple(ripe), 0, "", next_look, rescan=self._uncounted > 0 and not self._candidates)

    def _objection(self, asked: int, now: float, recorded_files: int) -> str:
        """Why the operator has to confirm; empty if not."""
        if self.held:
            return self.held
        if self.unseen and asked > self._granted:
            return self.unseen
        while self._spent and self._spent[0][0] <= now - self._window_seconds:
            self._spent.popleft()
        spent = sum(number for _, number in self._spent)
        asked += spent - self._granted
        limit = allowance(recorded_files + spent, self._max_files, self._max_fraction)
        if asked <= limit:
            return ""
        return f"{counted(asked, 'deletion', 'is')} more than the {limit} allowed without confirmation"

    def _is_overdue(self, now: float) -> bool:
        longest = now - _PATIENCE * self._grace_seconds
        return any(each.since <= longest for each in self._candidates.values())
