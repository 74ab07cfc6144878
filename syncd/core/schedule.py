"""When a source is scanned, and when its deletions are judged. Pure.

Time is in seconds of a monotonic clock. Time and chance are passed in. The owner holds a lock.
"""

from __future__ import annotations

from math import inf

from syncd.core.backoff import Schedule, ceiling

POLL_SECONDS = 60.0
"""How often a source without events, or with subtrees that have no watch, is scanned."""
_POLL_SHARE = 20  # but scans take at most a twentieth of the time
_AWAY = Schedule(base_seconds=2.0, cap_seconds=60.0)  # how often a missing root is looked for
_MAX_SUBTREES = 64  # requests kept apart; more of them become one scan of the whole source


class ScanSchedule:
    """Decides when a source is scanned, by requests and by time. A new source requests its first scan."""

    def __init__(self) -> None:
        self.asked: dict[str, str] = {"": "start"}
        """Subtrees to scan soon, each with the reason; an empty name: everything."""
        self.next_scan: float | None = None
        """When the whole source is scanned next, unless a request comes first."""
        self.next_judgement: float | None = None
        """When the waiting deletions are judged."""
        self.setbacks = 0
        """Failed rounds in a row: the root was missing, or the scan failed."""
        self._rests = False
        self._rested_at = self._all_seen_since = -inf

    def ask(self, subtree: str, reason: str) -> None:
        """Scan `subtree` soon."""
        if "" in self.asked:
            return
        if subtree == "" or len(self.asked) >= _MAX_SUBTREES:
            self.asked = {"": reason}
        else:
            self.asked[subtree] = reason

    def poll_by(self, now: float) -> None:
        """Scan everything within `POLL_SECONDS`."""
        soon = now + POLL_SECONDS
        self.next_scan = min(self.next_scan or soon, soon)

    def due(self, now: float) -> float | None:
        """Return when something is due, unless a request comes first; None: only a request makes it due."""
        if self.asked and not self.setbacks:
            return now
        return min((at for at in (self.next_scan, self.next_judgement) if at is not None), default=None)

    def take(self, now: float) -> tuple[str, str] | None:
        """Return the subtree to scan now, and why. No reason: only deletions are due. None: nothing is."""
        self._rests = False
        scan_is_due = self.next_scan is not None and now >= self.next_scan
        if self.asked and (scan_is_due or not self.setbacks):
            subtree = next(iter(self.asked))
            return subtree, self.asked.pop(subtree)
        if scan_is_due:
            return "", "interval"
        if self.next_judgement is not None and now >= self.next_judgement:
            return "", ""
        self._rests, self._rested_at = True, now
        return None

    def is_caught_up(self, since: float, *, is_blind: bool) -> bool:
        """Return whether all scans that were requested before `since` are over. If the source `is_blind`,
        because no events report its files, everything has to have been scanned since then, too.
        """
        is_over = self._rested_at >= since or (self._rests and not self.asked)
        return is_over and not (is_blind and self._all_seen_since < since)

    def set_back(self, now: float) -> None:
        """Note that a round failed: retry soon, then after growing pauses."""
        self.setbacks += 1
        self.asked.setdefault("", "the last attempt failed")
        self.next_scan = now + ceiling(self.setbacks, _AWAY)

    def scanned(
        self, subtree: str, now: float, *, interval: float, took_seconds: float, poll: bool, chance: float
    ) -> None:
        """Note that a scan succeeded. The next full scan is jittered, and sooner if the source is polled."""
        self.setbacks = 0
        if not subtree:
            self._all_seen_since = now - took_seconds
        if poll:
            interval = min(interval, max(POLL_SECONDS, took_seconds * _POLL_SHARE))
        at = now + interval * (0.9 + 0.2 * chance)
        # A scan of a subtree must not delay the scan of everything, but may bring it forward.
        keep = bool(subtree) and self.next_scan is not None
        self.next_scan = min(at, self.next_scan or at) if keep else at
