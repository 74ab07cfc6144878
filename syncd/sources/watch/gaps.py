"""How much of a source is watched: the gaps, their reasons, and the remedies. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from msgspec import Struct

from syncd.core.paths import printable
from syncd.core.words import counted

MAX_GAPS = 1000
"""Gaps remembered one by one; with more, the whole source is polled."""

MAX_SUBTREES = 1000
"""Subtrees of one source to scan at once; more of them are merged into their common directory."""


class GapKind(Enum):
    """Why a directory is not watched."""

    LIMIT = "watch limit"
    UNREADABLE = "cannot be read"
    OTHER = "not watched"


class Gap(Struct):
    """A directory that is not watched, with everything below it."""

    kind: GapKind
    reason: str
    directories: int = 1
    """Itself and, if they were counted, those below it."""


class WatchStatus(Struct, frozen=True):
    """How one source is watched."""

    mode: str
    """``events`` or ``polling``: the whole source has to be scanned at a shorter interval."""
    watches: int
    directories: int
    """Known directories, watched or not."""
    overflows: int
    """How often the kernel's queue was full and events were lost, since the start."""
    reason: str
    """Why not every directory has ``events``; empty: every one has."""
    unwatched: tuple[str, ...]
    """Subtrees that have to be polled; ``("",)`` for the whole source."""


class Gaps:
    """The gaps of one source."""

    def __init__(self) -> None:
        self.polled = ""
        """Why no events come from this source; empty: they do."""
        self._gaps: dict[str, Gap] = {}
        self._whole: Gap | None = None
        self._limit_said = False

    def add(self, path: str, gap: Gap) -> tuple[str, Gap] | None:
        """Note that a directory cannot be watched; return the news: this gap, or that there are too many."""
        known = self._gaps.get(path)
        if known is None and len(self._gaps) >= MAX_GAPS:
            if self._whole is not None:
                return None
            self._whole = Gap(gap.kind, f"more than {MAX_GAPS} directories: {gap.reason}")
            return "", self._whole
        if known is not None and known.kind is gap.kind:
            return None
        self._gaps[path] = gap
        return path, gap

    def close(self, path: str) -> None:
        """Note that the directory is watched now."""
        self._gaps.pop(path, None)

    def drop(self, path: str) -> None:
        """Note that the directory, with everything below it, is no longer at this place."""
        self._gaps.pop(path, None)
        if self._gaps:
            below = path + "/" if path else ""
            for gap in [gap for gap in self._gaps if gap.startswith(below)]:
                del self._gaps[gap]

    def clear(self) -> None:
        """Forget all gaps."""
        self.polled = ""
        self._gaps.clear()
        self._whole = None
        self._limit_said = False

    def at(self, path: str) -> Gap | None:
        """Return the gap at exactly this path."""
        return self._gaps.get(path)

    def paths(self) -> list[str]:
        """Return the topmost directories that are not watched; only some if there are too many."""
        return list(self._gaps)

    @property
    def is_whole(self) -> bool:
        """Return whether there are more gaps than are remembered one by one."""
        return self._whole is not None

    def has(self, directory: str, kind: GapKind) -> bool:
        """Return whether one of the gaps directly in this directory is of this kind."""
        return any(
            gap.kind is kind and path.rpartition("/")[0] == directory for path, gap in self._gaps.items()
        )

    def beyond_limit(self, watches: int) -> int:
        """Return how many directories the watch limit leaves out, as far as they were counted."""
        if self._whole is not None and self._whole.kind is GapKind.LIMIT:
            return max(0, self._whole.directories - watches)
        return sum(gap.directories for gap in self._gaps.values() if gap.kind is GapKind.LIMIT)

    def is_limit_news(self) -> bool:
        """Return whether the limit was reached and this is the first call since."""
        reached = self.beyond_limit(0) > 0
        news, self._limit_said = reached and not self._limit_said, reached
        return news

    def status(self, watches: int, overflows: int, remedy: str) -> WatchStatus:
        """Return the status. `remedy` is the command that raises the watch limit."""
        limited = self.beyond_limit(watches)
        others = [(path, gap) for path, gap in sorted(self._gaps.items()) if gap.kind is not GapKind.LIMIT]
        directories = watches + limited + len(others)
        if self.polled:
            return WatchStatus("polling", watches, directories, overflows, self.polled, ("",))
        is_whole = self._whole is not None or "" in self._gaps
        reasons = []
        if limited:
            reasons.append(
                f"watch limit reached: {watches} of {counted(directories, 'directory', 'is')} watched; "
                f"raise it with: {remedy}"
            )
        if self._whole is not None and not limited:
            reasons.append(self._whole.reason)
        elif others:
            path, gap = others[0]
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            reasons.append(f"not watched: {printable(path) or 'the root'} ({gap.reason}){more}")
        unwatched = ("",) if is_whole else tuple(sorted(self._gaps))
        mode = "polling" if is_whole else "events"
        return WatchStatus(mode, watches, directories, overflows, "; ".join(reasons), unwatched)


def merge_subtrees(reasons: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return subtrees of a source, with reasons: none inside another, at most `MAX_SUBTREES`."""
    kept = [subtree for subtree in reasons if not _inside_another(subtree, reasons)]
    if len(kept) > MAX_SUBTREES:
        common = _common_directory(kept)
        return [(common, f"{len(kept)} subtrees to scan, the first: {reasons[kept[0]]}")]
    return [(subtree, reasons[subtree]) for subtree in kept]


def _inside_another(subtree: str, others: Mapping[str, str]) -> bool:
    while subtree:
        subtree = subtree.rpartition("/")[0]
        if subtree in others:
            return True
    return False


def _common_directory(paths: list[str]) -> str:
    common = paths[0].split("/")
    for path in paths:
        names = path.split("/")
        size = next((i for i, (a, b) in enumerate(zip(common, names, strict=False)) if a != b), None)
        common = common[: min(len(common), len(names)) if size is None else size]
    return "/".join(common)
