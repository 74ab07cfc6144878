"""What `syncd status` says, as plain data: from the state alone, or with what a running daemon adds."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from syncd.core.model import Checkpoint, FileRef, Source
from syncd.core.paths import printable
from syncd.state.state import State

MAX_FAILURES = 1000
_ALL_FAILURES = 1 << 20


class Live(Protocol):
    """What only the running daemon knows."""

    def facts(self) -> dict[str, Any]:
        """``daemon`` facts: pid, uptime and so on."""
        ...

    def pending(self) -> Mapping[str, int]:
        """Dirty files per source, those being processed included."""
        ...

    def in_flight(self) -> Sequence[tuple[FileRef, int, int]]:
        """Files being carried, with bytes done and bytes in all."""
        ...

    def source_news(self, source: str) -> dict[str, Any]:
        """What is worth saying about a source beyond its numbers."""
        ...

    def totals(self) -> Mapping[str, int]:
        """Counters not yet in the state."""
        ...


def iso(time_ns: int | None) -> str | None:
    """ISO 8601 in UTC, to the second; None stays None."""
    if time_ns is None:
        return None
    moment = dt.datetime.fromtimestamp(time_ns // 10**9, dt.UTC)
    return moment.isoformat().replace("+00:00", "Z")


def report(sources: Sequence[Source], state: State, live: Live | None) -> dict[str, Any]:
    """The interface that DESIGN.md calls "Status as JSON", with more keys where there is more to say."""
    checkpoints = state.checkpoints()
    flying = live.in_flight() if live is not None else []
    pending = live.pending() if live is not None else {}
    daemon: dict[str, Any] = {"running": False, "pid": None, "uptime_seconds": None}
    if live is not None:
        daemon |= live.facts()
    return {
        "daemon": daemon,
        "sources": [_source(source, state, checkpoints, flying, pending, live) for source in sources],
        "in_flight": _in_flight(flying, checkpoints, live is not None),
        "failures": _failures(state),
        "totals": _totals(state, live),
    }


def _source(
    source: Source,
    state: State,
    checkpoints: Sequence[Checkpoint],
    flying: Sequence[tuple[FileRef, int, int]],
    pending: Mapping[str, int],
    live: Live | None,
) -> dict[str, Any]:
    files, size = state.recorded_totals(source.name)
    last_scan_ns, drift = state.last_scan(source.name)
    unfinished = [checkpoint for checkpoint in checkpoints if checkpoint.ref.source == source.name]
    mine = [item for item in flying if item[0].source == source.name]
    waiting = max(0, pending.get(source.name, 0) - len(mine)) if live is not None else len(unfinished)
    left = sum(total - done for _, done, total in mine) if live is not None else _left(unfinished)
    entry: dict[str, Any] = {
        "name": source.name,
        "path": printable(source.root),
        "store": source.store,
        "files": {
            "recorded": files,
            "pending": waiting,
            "in_flight": len(mine),
            "failed": state.failure_count().get(source.name, 0),
        },
        "bytes": {"recorded": size, "pending": left},
        "last_scan": iso(last_scan_ns),
        "drift": drift,
    }
    if live is not None:
        entry |= live.source_news(source.name)
    return entry


def _left(unfinished: Sequence[Checkpoint]) -> int:
    return sum(item.fingerprint.size - _done(item) for item in unfinished)


def _done(checkpoint: Checkpoint) -> int:
    return sum(part.size for part in checkpoint.parts.values())


def _in_flight(
    flying: Sequence[tuple[FileRef, int, int]], checkpoints: Sequence[Checkpoint], alive: bool
) -> list[dict[str, Any]]:
    """Files being carried now; when nothing runs, the uploads that the next start will go on with."""
    if not alive:
        flying = [(item.ref, _done(item), item.fingerprint.size) for item in checkpoints]
    return [
        {"source": ref.source, "path": printable(ref.path), "bytes_done": done, "bytes_total": total}
        for ref, done, total in flying
    ]


def _failures(state: State) -> list[dict[str, Any]]:
    return [
        {
            "source": failure.ref.source,
            "path": printable(failure.ref.path),
            "error": failure.error,
            "attempts": failure.attempts,
            "next_attempt": iso(failure.next_attempt_ns) if failure.next_attempt_ns else None,
        }
        for failure in state.failures(limit=MAX_FAILURES)
    ]


def _totals(state: State, live: Live | None) -> dict[str, int]:
    totals = {"bytes_sent": 0, "bytes_saved": 0, "requests": 0} | dict(state.totals())
    for name, value in (live.totals() if live is not None else {}).items():
        totals[name] = totals.get(name, 0) + value
    return totals


def of_path(state: State, ref: FileRef) -> dict[str, Any]:
    """What is known about one file."""
    recorded = state.recorded(ref)
    failure = next((row for row in state.failures(ref.source, _ALL_FAILURES) if row.ref == ref), None)
    checkpoint = state.checkpoint_for(ref)
    entry: dict[str, Any] = {"source": ref.source, "path": printable(ref.path), "recorded": None}
    if recorded is not None:
        entry["recorded"] = {
            "key": recorded.key,
            "etag": recorded.etag,
            "size": recorded.fingerprint.size,
            "xxh128": recorded.fingerprint.hex,
            "since": iso(recorded.recorded_ns),
        }
    entry["unfinished"] = None
    if checkpoint is not None:
        entry["unfinished"] = {"bytes_done": _done(checkpoint), "bytes_total": checkpoint.fingerprint.size}
    entry["failure"] = None
    if failure is not None:
        entry["failure"] = {"error": failure.error, "attempts": failure.attempts}
    return entry
