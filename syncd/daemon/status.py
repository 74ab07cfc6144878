"""What `syncd status` reports, as one frozen value: from the state, or with what the running daemon adds.

The control socket, the line for systemd, the table and the JSON all read the same `Status`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct, field, to_builtins

from syncd.core.model import Checkpoint, FileRef, Source, Summary
from syncd.core.paths import one_line, printable
from syncd.core.plan import Cause
from syncd.core.words import counted, differ_words, human, human_seconds, iso, left_out, paused_words

if TYPE_CHECKING:
    from syncd.state.state import State

MAX_FAILURES = 1000
"""At most this many failures are listed; all are counted."""
_MOST_LINES = 8
_MOST_FAILURES = 20
_MOST_NAME = 24
_HEADINGS = ("source", "files", "bytes", "pending", "moving", "failed", "last scan (UTC)")
Line = tuple[str, str]
"""A text, and its colour: ``red``, ``yellow`` or empty."""


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
    """The rate to all stores together; None while nothing is sent, and in the first seconds."""
    seconds_left: int | None = None
    """Until everything known is sent, by bytes and by files; None: unknown."""
    bytes_by_minute: Sequence[int] = ()
    """Bytes sent in each minute of the last hour, the oldest first."""
    bandwidth_limit: int | None = None
    """Bytes per second that may be sent now; None: no limit."""
    stopping_seconds: int | None = None
    """How long a daemon that stops may still send what is known; None: it does not stop."""
    state_rebuilt: str | None = None
    """Why the state had to start empty."""
    error: str | None = None
    config: str | None = None
    """The configuration file of the daemon, or of the command that read the state."""
    state_dir: str | None = None


class FileCounts(Struct, frozen=True):
    """Files of one source. A file counts once: as in flight, pending or failed."""

    recorded: int
    pending: int
    in_flight: int
    failed: int


class ByteCounts(Struct, frozen=True):
    """Bytes of one source; `pending` are those that uploads under way still have to send."""

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
    """Since when the file waits that has waited longest without failing."""
    last_upload: str | None = None
    """When the last object was written or copied since the daemon started."""
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
    """Objects that differed from their records at the last audit, and have not been repaired since."""
    differences: Sequence[str] = ()
    """The first of them, each with what was found."""
    last_audit: str | None = None
    """When the daemon last finished a round of comparing all objects; None: never."""
    audited: int = 0
    """The files of that round."""
    repaired: int = 0
    """Those of them that it sent again."""
    paused: str | None = None
    """Who paused it, and until when; None: it is not paused."""
    live: LiveSource | None = None

    @property
    def word(self) -> str:
        """Return how the source stands: the word of a file that stands so, or ``paused``."""
        if (self.live and self.live.waiting_for) or self.last_scan is None:
            return "unknown"
        if self.paused is not None:
            return "paused"
        counts = (("uploading", self.files.in_flight), ("pending", self.files.pending))
        failed = ("failed", self.files.failed + self.differing)
        return next((word for word, count in (*counts, failed) if count), "stored")

    @property
    def unlike(self) -> str:
        """Return that objects differ from their records, and the remedy; empty: an audit found none."""
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
    """One store. Only a running daemon knows about stores."""

    name: str
    trouble: str | None = None
    """Why nothing is sent although it should be; None: the store works, or the operator paused it."""
    requests: int = 0
    """Since the daemon started, or the store was last reconfigured."""


class Status(Struct, frozen=True):
    """Everything that `syncd status` says."""

    daemon: DaemonStatus
    sources: Sequence[SourceReport]
    in_flight: Sequence[InFlight]
    failures: Sequence[FailureReport]
    totals: Mapping[str, Any]
    """Counted since the state began; ``by_cause`` says why bytes were not sent, and what those files cost."""
    stores: Sequence[StoreReport] = ()

    def to_json(self, *, table: bool = False) -> dict[str, Any]:
        """Return the JSON of `syncd status --json`. A running daemon adds keys, to itself and to each source.

        With `table` it includes the lines for people, so that a command that asks for them loads little.
        """
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
        return {**data, "lines": list(lines(self))} if table else data

    def line(self) -> str:
        """Return the summary in one line, as ``systemctl status`` shows it."""
        pending = sum(source.files.pending for source in self.sources)
        flying = sum(source.files.in_flight for source in self.sources)
        failed = sum(source.files.failed for source in self.sources)
        counts = f"{flying} in flight, {pending} pending"
        if self.daemon.bytes_per_second:
            counts += f", {human(self.daemon.bytes_per_second)}/s"
        if self.daemon.seconds_left is not None:
            counts += f", {human_seconds(self.daemon.seconds_left)} left"
        if not pending and not flying:
            counts = (
                f"idle: {counted(sum(source.files.recorded for source in self.sources), 'file')} recorded"
            )
        differing = sum(source.differing for source in self.sources)
        counts = f"{counts}, {failed} failed" if failed else counts
        counts = (
            f"{counts}, {counted(differing, 'object', 'differs')} from the records" if differing else counts
        )
        counts = counts if self.daemon.stopping_seconds is None else f"stopping: {counts}"
        paused = [f"{store} paused: {why}" for store, why in self.daemon.stores_paused.items()]
        paused += [f"{source.name} paused {source.paused}" for source in self.sources if source.paused]
        return "; ".join([counts, *paused])


class Live(Protocol):
    """What only the running daemon knows."""

    def daemon(self) -> DaemonStatus:
        """Return what is known about the process."""
        ...

    def pending(self) -> Mapping[str, int]:
        """Return the number of dirty files of each source, those in progress included."""
        ...

    def deferred(self) -> Mapping[str, int]:
        """Return the number of dirty files of each source whose last attempt failed."""
        ...

    def in_flight(self) -> Sequence[tuple[FileRef, int, int]]:
        """Return the files under way, with the bytes done and the bytes in all."""
        ...

    def rates(self) -> Mapping[FileRef, float]:
        """Return the bytes per second of files under way, if known."""
        ...

    def source(self, name: str) -> LiveSource | None:
        """Return what is known about a source beyond its numbers; None: it is being added."""
        ...

    def stores(self) -> Sequence[StoreReport]:
        """Return the stores that sources use."""
        ...


def what_waits(source: SourceReport) -> Iterator[str]:
    """Yield what keeps back files or deletions of a source, and what the operator can do, a line each."""
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
        yield f"{counted(live.deletes_parked, 'deletion', 'waits')}: {live.deletes_reason or ''}; {allow}"


def report(sources: Sequence[Source], state: State, live: Live | None) -> Status:
    """Return the status of these sources. Raises StateError."""
    exact = live is None
    if live is None:  # nothing runs: the uploads that the next start continues
        flying = [(each.ref, _done(each), each.fingerprint.size) for each in state.checkpoints.all()]
    else:
        flying = list(live.in_flight())
    rates = live.rates() if live is not None else {}
    # A daemon that sends small files has little time to answer, and each query of the state takes some of it.
    known = state.summaries(exact=exact)
    has_failures = any(each.failed for each in known.values())
    dirty, deferred = (live.pending(), live.deferred()) if live is not None else ({}, {})
    return Status(
        live.daemon() if live is not None else DaemonStatus(),
        [
            _source(
                source,
                state,
                known.get(source.name, Summary()),
                [(done, total) for ref, done, total in flying if ref.source == source.name],
                (dirty.get(source.name, 0), deferred.get(source.name, 0)),
                live,
            )
            for source in sources
        ],
        [_in_flight(*each, rates.get(each[0])) for each in flying],
        [
            FailureReport(
                failure.ref.source,
                printable(failure.ref.path),
                failure.error,
                failure.attempts,
                iso(failure.next_attempt_ns) if failure.next_attempt_ns else None,
            )
            for failure in (state.failures.page(limit=MAX_FAILURES, exact=exact) if has_failures else ())
        ],
        _totals(state.totals()),
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


def _source(
    source: Source,
    state: State,
    known: Summary,
    flying: Sequence[tuple[int, int]],
    queued: tuple[int, int],
    live: Live | None,
) -> SourceReport:
    """`flying` are the bytes done and in all of its files, `queued` how many are dirty, and deferred."""
    found = state.audits.standing(source.name)[1] if known.differing else ()
    # The daemon keeps working between the counts: `dirty` may lack a file that is in flight.
    moving, waiting = 0, len(flying)
    if live is not None:
        moving, waiting = len(flying), max(0, queued[0] - len(flying) - min(queued[1], known.failed))
    return SourceReport(
        source.name,
        printable(source.root),
        source.store,
        FileCounts(known.files, waiting, moving, known.failed),
        ByteCounts(known.size, sum(total - done for done, total in flying)),
        iso(known.scan.ended_ns),
        known.scan.drift,
        known.scan.unseen,
        known.scan.skipped,
        known.differing,
        [f"{printable(ref.path)}: {what}" for ref, what in found],
        iso(known.audited_ns),
        known.audited,
        known.repaired,
        _paused(source, state.pauses(), live),
        live.source(source.name) if live is not None else None,
    )


def _paused(source: Source, pauses: Mapping[tuple[str, str], int], live: Live | None) -> str | None:
    """Return until when it is paused. A running daemon reports pauses of its stores itself."""
    whats = (
        [("source", source.name)]
        if live is not None
        else [("source", source.name), ("store", source.store), ("all", "")]
    )
    return next((paused_words(pauses[what]) for what in whats if what in pauses), None)


def _done(checkpoint: Checkpoint) -> int:
    return sum(part.size for part in checkpoint.parts.values())


# ---- for people ------------------------------------------------------------------------------------------


def lines(status: Status) -> Iterator[Line]:
    """Yield the lines of a status, as long as their text: a terminal folds them, a pipe does not."""
    return ((one_line(text), style) for text, style in _lines(status))  # paths may hold anything


def _lines(status: Status) -> Iterator[Line]:
    yield from _daemon_lines(status.daemon)
    yield from ((row, "") for row in _sources_table(status.sources))
    for source in status.sources:
        yield from _source_lines(source)
    for item in status.in_flight:
        share = f"{human(item.bytes_done)} of {human(item.bytes_total)}"
        if item.bytes_per_second and item.seconds_left is not None:
            share += f", {human(item.bytes_per_second)}/s, {human_seconds(item.seconds_left)} left"
        yield f"in flight: {item.source}:{item.path}: {share}", ""
    for failure in status.failures[:_MOST_FAILURES]:
        again = failure.next_attempt or "when it changes"
        tried = f"({counted(failure.attempts, 'attempt')}, next: {again})"
        yield f"failed: {failure.source}:{failure.path}: {failure.error} {tried}", "red"
    if len(status.failures) > _MOST_FAILURES:
        yield "... and more that failed: syncd status --json", "red"
    totals = status.totals
    sent, saved = human(totals["bytes_sent"]), human(totals["bytes_saved"])
    yield f"in total: {sent} sent, {saved} not sent again, {counted(totals['requests'], 'request')}", ""
    for cause, sums in totals["by_cause"].items():
        if sums["bytes_saved"]:
            sent, saved = human(sums["bytes_sent"]), human(sums["bytes_saved"])
            yield f"  by {cause}: {sent} sent, {saved} not sent again", ""
    if left_out := totals["xattrs_left_out"]:
        yield (
            f"in total: {counted(left_out, 'extended attribute')} did not fit into the metadata of objects",
            "",
        )


def _daemon_lines(daemon: DaemonStatus) -> Iterator[Line]:
    if not daemon.running:
        if daemon.error:
            yield f"daemon: cannot tell whether it runs: {daemon.error}", "red"
        state = f" (state: {daemon.state_dir})" if daemon.state_dir else ""
        yield "what the state says:" if daemon.error else f"daemon: not running{state}", ""
        return
    uptime = int(daemon.uptime_seconds or 0)
    up = f"{uptime // 3600}:{uptime // 60 % 60:02}:{uptime % 60:02}"
    config = f", {daemon.config}" if daemon.config else ""
    yield f"daemon: running, pid {daemon.pid}, up {up}{config}", ""
    if daemon.stopping_seconds is not None:
        yield f"stopping: syncd first sends known changes, for at most {daemon.stopping_seconds} s", "yellow"
    pace = [f"{human(daemon.bytes_per_second)}/s"] if daemon.bytes_per_second else []
    pace += [f"{human_seconds(daemon.seconds_left)} left"] if daemon.seconds_left is not None else []
    if pace:
        yield f"sending: {', '.join(pace)}", ""
    if daemon.health not in (None, "ok"):
        yield f"not healthy: {daemon.health}", "red"
    for store, why in daemon.stores_paused.items():
        yield f"store {store} is paused: {why}", "red"


def _sources_table(sources: Sequence[SourceReport]) -> Iterator[str]:
    """Yield the table. A long name has its own line, so that numbers fit into 80 columns."""
    rows = [_HEADINGS, *(_row(source) for source in sources)]
    widths = [max(len(row[at]) for row in rows if len(row[at]) <= _MOST_NAME) for at in range(len(_HEADINGS))]
    for name, *numbers, scanned in rows:
        if len(name) > _MOST_NAME:
            yield name
        cells = [f"{'' if len(name) > _MOST_NAME else name:<{widths[0]}}"]
        cells += [f"{number:>{width}}" for number, width in zip(numbers, widths[1:-1], strict=True)]
        yield "  ".join([*cells, scanned])


def _row(source: SourceReport) -> tuple[str, ...]:
    files = source.files
    scanned = source.last_scan[:16].replace("T", " ") if source.last_scan else "never"
    pending = str(files.pending) if source.live else "-"  # the queue is the daemon's; the state has none
    counts = str(files.recorded), human(source.bytes.recorded), pending, str(files.in_flight)
    return source.name, *counts, str(files.failed), scanned


def _source_lines(source: SourceReport) -> Iterator[Line]:
    name, live = source.name, source.live or LiveSource()
    yield f"{name}: {source.path} to store {source.store}", ""
    if source.unlike:
        yield f"{name}: {source.unlike}", "red"
    for line in what_waits(source):
        yield f"{name}: {line}", "yellow"
    if source.last_audit:
        when = source.last_audit[:16].replace("T", " ")
        told = f"{counted(source.audited, 'file')} compared, {source.repaired} had to be sent again"
        yield f"{name}: last audit {when}: {told}", ""
    if source.skipped:
        yield f"{name}: skipped: {left_out(source.skipped)}", ""
    for line in _what_is_not_seen(source, live):
        yield f"{name}: {line}", "yellow"


def _what_is_not_seen(source: SourceReport, live: LiveSource) -> Iterator[str]:
    if source.last_scan_unseen and not live.unreadable:
        yield f"not everything could be scanned: {source.last_scan_unseen}"
    if live.out_of_sight:
        yield f"{counted(live.out_of_sight, 'file', 'is')} out of sight and kept"
    yield from (f"out of sight: {line}" for line in live.hidden)
    yield from (f"cannot be read: {line}" for line in live.unreadable)
    hint = "set `mode: append` for a file that only grows, such as a log"
    yield from (f"never quiet: {path}; {hint}" for path in live.never_quiet[:_MOST_LINES])
