"""What there is to say about a source beyond what the state holds, and what its watcher does not see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class EventCoverage:
    """What events do not tell about a source: all of it, or some subtrees. `reason` is empty when nothing."""

    reason: str = ""
    subtrees: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WatchHandle:
    """The watcher, as far as one source is concerned."""

    blindness: Callable[[], EventCoverage] = EventCoverage
    rewatch: Callable[[], None] = lambda: None
    """Place the watches anew."""


@dataclass(slots=True)
class SourceStatus:
    """What `status` says about a source beyond what the state holds."""

    waiting_for: str = ""
    """Why nothing is done: the root is away, replaced, empty; or the last scan failed."""
    scanning: bool = False
    skipped: dict[str, int] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)
    errors: int = 0
    deletes_parked: int = 0
    deletes_reason: str = ""
    scans: int = 0
    found_bytes: int = 0
    """Sizes of all files that scans have marked, since the start."""
