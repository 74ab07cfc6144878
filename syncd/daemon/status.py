"""What `syncd status` says, as one frozen value: from the state alone, or with what the running daemon adds.

The control socket, the line for systemd, the table and the JSON all read the same `Status`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct, convert, field, to_builtins

from syncd.core.model import Cause, Checkpoint, FileRef, Source
from syncd.core.paths import printable
from syncd.core.words import differ_words, human, human_seconds, iso, paused_words

if TYPE_CHECKING:
    from syncd.state.state import State

MAX_FAILURES = 1000
"""At most this many failures are listed; all are counted."""


class DaemonStatus(Struct, frozen=True):
    """The process. `error` says why a running daemon could not be asked."""

    running: bool = False
    pid: int | None = None
    uptime_seconds: float | None = None
    health: str | None = None
    """``ok``, or what is wrong; None when no daemon was asked."""
    stores_paused: Mapping[str, str] = field(default_factory=dict)
    """Store -> why nothing is sent to it at the moment."""
    bytes_per_second: int | None = None
    """What is sent to all stores together; None while nothing is, and in the first seconds."""
    seconds_left: int | None = None
    """Until everything that is known is sent, by bytes and by files; None where that cannot be told."""
    bytes_by_minute: Sequence[int] = ()
    """What was sent in each minute of the last hour, the oldest first."""
    bandwidth_limit: int | None = None
    """Bytes per second that may be sent now; None: no limit."""
    state_rebuilt: str | None = None
    """Why the state had to begin empty."""
    error: str | None = None
    config: str | None = None
    """The configuration file of the daemon, or of the command that read the state."""
    state_dir: str | None = None


class FileCounts(Struct, frozen=True):
    """Files of one source. A file counts once: in flight, or pending, or failed."""

    recorded: int
    pending: int
    in_flight: int
    failed: int


class ByteCounts(Struct, frozen=True):
    """Bytes of one source; `pending` are those that uploads under way have yet to send."""

    recorded: int
    pending: int


class WatchStatus(Struct, frozen=True):
    """How changes in a source are noticed."""

    mode: str
    watches: int = 0
    overflows: int = 0
    reason: str | None = None
    unwatched: Sequence[str] = ()


class LiveSource(Struct, frozen=True):
    """What only the running daemon knows about a source."""

    waiting_for: str | None = None
    scanning: bool = False
    unreadable: Sequence[str] = ()
    out_of_sight: int = 0
    hidden: Sequence[str] = ()
    deletes_parked: int = 0
    deletes_reason: str | None = None
    waits_for_take_over: str | None = None
    never_quiet: Sequence[str] = ()
    watch: WatchStatus | None = None
    oldest_pending: str | None = None
    """Since when the file waits that waits the longest and has not failed."""
    last_upload: str | None = None
    """When the last object was made or copied since the daemon started."""
    actions: Mapping[str, int] = field(default_factory=dict)
    """Files since the daemon started, by what was done: upload, copy, delete, refresh, nothing."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """Failed attempts since the daemon started, by kind."""
    bytes_sent: int = 0
    """Since the daemon started."""
    saved: Mapping[str, int] = field(default_factory=dict)
    """Bytes that were not sent since the daemon started, by cause."""
    rescan_seconds: float = 0.0


class SourceReport(Struct, frozen=True):
    """One source. `live` is None when no daemon was asked."""

    name: str
    path: str
    store: str
    files: FileCounts
    bytes: ByteCounts
    last_scan: str | None
    drift: int
    last_scan_unseen: str = ""
    """What the last scan could not see; empty: it saw everything."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """How many of each kind the last scan left out."""
    differing: int = 0
    """Objects that the last audit did not find as they are recorded, and that nothing has mended since."""
    differences: Sequence[str] = ()
    """The first of them, each with what was found."""
    last_audit: str | None = None
    """When the daemon last ended a round of comparing all objects; None: it did not yet."""
    audited: int = 0
    """The files of that round."""
    repaired: int = 0
    """Those of them that it had sent again."""
    paused: str | None = None
    """By whom it is paused, and until when; None: it is not."""
    live: LiveSource | None = None

    @property
    def word(self) -> str:
        """How the source stands: the word of a file that says it, or ``paused``."""
        if (self.live and self.live.waiting_for) or self.last_scan is None:
            return "unknown"
        if self.paused is not None:
            return "paused"
        counts = (("uploading", self.files.in_flight), ("pending", self.files.pending))
        failed = ("failed", self.files.failed + self.differing)
        return next((word for word, count in (*counts, failed) if count), "stored")

    @property
    def unlike(self) -> str:
        """That objects are not as recorded, and what mends them; empty: the last audit found nothing."""
        return differ_words(self.differing, self.differences)


class InFlight(Struct, frozen=True):
    """A file under way, or, without a daemon, an upload that the next start continues."""

    source: str
    path: str
    bytes_done: int
    bytes_total: int
    bytes_per_second: int | None = None
    seconds_left: int | None = None


class FailureReport(Struct, frozen=True):
    """A file that could not be uploaded. Without `next_attempt` it waits for the file to change."""

    source: str
    path: str
    error: str
    attempts: int
    next_attempt: str | None


class StoreReport(Struct, frozen=True):
    """One store, of which only a running daemon knows."""

    name: str
    trouble: str | None = None
    """Why nothing is sent although it should be; None: it works, or is paused by the operator."""
    requests: int = 0
    """Since the daemon started, or the store was last reconfigured."""


class Status(Struct, frozen=True):
    """Everything that `syncd status` says."""

    daemon: DaemonStatus
    sources: Sequence[SourceReport]
    in_flight: Sequence[InFlight]
    failures: Sequence[FailureReport]
    totals: Mapping[str, Any]
    """Counted since the state began; ``by_cause`` says why bytes were not sent, and what these files cost."""
    stores: Sequence[StoreReport] = ()

    def to_json(self) -> dict[str, Any]:
        """`syncd status --json`. A running daemon adds keys, to itself and to each source."""
        data: dict[str, Any] = to_builtins(self)
        if self.daemon.health is None:  # no daemon was asked: only the keys that are always there
            shown = ("running", "pid", "uptime_seconds", *(["error"] if self.daemon.error else []))
            shown += tuple(key for key in ("config", "state_dir") if data["daemon"][key])
            data["daemon"] = {key: data["daemon"][key] for key in shown}
            del data["stores"]
            for item in data["in_flight"]:
                del item["bytes_per_second"], item["seconds_left"]
        for report, source in zip(self.sources, data["sources"], strict=True):
            live = source.pop("live")
            source.update({"state": report.word, **live} if live else {})
            if live is None and source["paused"] is None:  # as above
                del source["paused"]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Status:
        """What `to_json` made, in this version or another. Raises KeyError, ValidationError."""
        return convert({**data, "sources": [_nested(item) for item in data["sources"]]}, cls)

    def line(self) -> str:
        """The summary in one line, as ``systemctl status`` shows it."""
        pending = sum(source.files.pending for source in self.sources)
        flying = sum(source.files.in_flight for source in self.sources)
        failed = sum(source.files.failed for source in self.sources)
        counts = f"{flying} in flight, {pending} pending"
        if self.daemon.bytes_per_second:
            counts += f", {human(self.daemon.bytes_per_second)}/s"
        if self.daemon.seconds_left is not None:
            counts += f", {human_seconds(self.daemon.seconds_left)} left"
        if not pending and not flying:
            counts = f"idle: {sum(source.files.recorded for source in self.sources)} files recorded"
        differing = sum(source.differing for source in self.sources)
        counts = f"{counts}, {failed} failed" if failed else counts
        counts = f"{counts}, {differing} objects not as recorded" if differing else counts
        paused = [f"{store} paused: {why}" for store, why in self.daemon.stores_paused.items()]
        paused += [f"{source.name} paused {source.paused}" for source in self.sources if source.paused]
        return "; ".join([counts, *paused])


class Live(Protocol):
    """What only the running daemon knows."""

    def daemon(self) -> DaemonStatus:
        """The process."""
        ...

    def pending(self) -> Mapping[str, int]:
        """Dirty files by source, those in progress included."""
        ...

    def deferred(self) -> Mapping[str, int]:
        """Dirty files by source whose last attempt failed."""
        ...

    def in_flight(self) -> Sequence[tuple[FileRef, int, int]]:
        """Files under way, with bytes done and bytes in all."""
        ...

    def rates(self) -> Mapping[FileRef, float]:
        """Bytes per second of files under way, where that can be told."""
        ...

    def source(self, name: str) -> LiveSource | None:
        """What is known about a source beyond its numbers; None if it is being added."""
        ...

    def stores(self) -> Sequence[StoreReport]:
        """The stores that sources use."""
        ...


def what_waits(source: SourceReport) -> Iterator[str]:
    """What keeps back files or deletions of a source, and what the operator can do, a line each."""
    live = source.live or LiveSource()
    if live.waiting_for:
        yield f"waiting: {live.waiting_for}"
    if source.paused:
        yield f"paused {source.paused}"
    if live.watch is not None and live.watch.reason:
        yield f"{live.watch.mode}: {live.watch.reason}"
    if live.waits_for_take_over:
        yield live.waits_for_take_over
    if live.deletes_parked:
        allow = f"to allow them: syncd sync --allow-deletes {source.name}"
        yield f"{live.deletes_parked} deletions wait: {live.deletes_reason or ''}; {allow}"


def report(sources: Sequence[Source], state: State, live: Live | None) -> Status:
    """The status of these sources. Raises StateError."""
    checkpoints = state.checkpoints()
    if live is None:  # nothing runs: the uploads that the next start continues
        flying = [(each.ref, _done(each), each.fingerprint.size) for each in checkpoints]
    else:
        flying = list(live.in_flight())
    rates = live.rates() if live is not None else {}
    return Status(
        live.daemon() if live is not None else DaemonStatus(),
        _sources(sources, state, checkpoints, flying, live),
        [_in_flight(*each, rates.get(each[0])) for each in flying],
        [
            FailureReport(
                failure.ref.source,
                printable(failure.ref.path),
                failure.error,
                failure.attempts,
                iso(failure.next_attempt_ns) if failure.next_attempt_ns else None,
            )
            for failure in state.failures(limit=MAX_FAILURES, exact=live is None)
        ],
        _totals(state.totals(exact=live is None)),
        live.stores() if live is not None else (),
    )


def _totals(counted: Mapping[str, int]) -> dict[str, Any]:
    both = "bytes_sent", "bytes_saved"
    causes = {
        cause.value: {name: counted.get(f"{name}:{cause.value}", 0) for name in both} for cause in Cause
    }
    plain = {name: counted.get(name, 0) for name in (*both, "requests", "xattrs_left_out")}
    return plain | {"by_cause": causes}


def _in_flight(ref: FileRef, done: int, total: int, rate: float | None) -> InFlight:
    left = round((total - done) / rate) if rate else None
    return InFlight(ref.source, printable(ref.path), done, total, round(rate) if rate else None, left)


def _sources(
    sources: Sequence[Source],
    state: State,
    checkpoints: Sequence[Checkpoint],
    flying: Sequence[tuple[FileRef, int, int]],
    live: Live | None,
) -> list[SourceReport]:
    failed, pauses = state.failure_count(exact=live is None), state.pauses()
    dirty, deferred = (live.pending(), live.deferred()) if live is not None else ({}, {})
    reports = []
    for source in sources:
        recorded, size = state.recorded_totals(source.name, exact=live is None)
        scan = state.last_scan(source.name)
        audited = state.audits.round(source.name)
        differing, found = state.audits.standing(source.name, exact=live is None)
        mine = [(done, total) for ref, done, total in flying if ref.source == source.name]
        # The daemon goes on working between the counts: `dirty` may lack a file that is in flight.
        moving, waiting = 0, len(mine)
        if live is not None:
            told_as_failed = min(deferred.get(source.name, 0), failed.get(source.name, 0))
            moving, waiting = len(mine), max(0, dirty.get(source.name, 0) - len(mine) - told_as_failed)
        reports.append(
            SourceReport(
                source.name,
                printable(source.root),
                source.store,
                FileCounts(recorded, waiting, moving, failed.get(source.name, 0)),
                ByteCounts(size, sum(total - done for done, total in mine)),
                iso(scan.ended_ns),
                scan.drift,
                scan.unseen,
                scan.skipped,
                differing,
                [f"{printable(ref.path)}: {what}" for ref, what in found],
                iso(audited.ended_ns),
                audited.looked_at,
                audited.repaired,
                _paused(source, pauses, live),
                live.source(source.name) if live is not None else None,
            )
        )
    return reports


def _paused(source: Source, pauses: Mapping[tuple[str, str], int], live: Live | None) -> str | None:
    """Until when it is paused. A running daemon says of its stores themselves that they are."""
    whats = (
        [("source", source.name)]
        if live is not None
        else [("source", source.name), ("store", source.store), ("all", "")]
    )
    return next((paused_words(pauses[what]) for what in whats if what in pauses), None)


def _done(checkpoint: Checkpoint) -> int:
    return sum(part.size for part in checkpoint.parts.values())


def _nested(data: Mapping[str, Any]) -> dict[str, Any]:
    """A source of the JSON as `SourceReport` has it: what only a daemon knows is a value of its own."""
    return {**data, "live": data if data.keys() & set(LiveSource.__struct_fields__) else None}
