"""The status for people, without any library: it is asked for too often to wait for one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from syncd.cli.answers import Paper
from syncd.core.words import human, human_seconds
from syncd.daemon.status import DaemonStatus, LiveSource, SourceReport, Status, what_waits

_MOST_LINES = 8
_MOST_FAILURES = 20
_MOST_NAME = 24
_HEADINGS = ("source", "files", "bytes", "pending", "moving", "failed", "last scan (UTC)")


def show_status(status: Status, paper: Paper) -> None:
    """Show a status. Lines are as long as what they say: a terminal folds them, a pipe does not."""
    _show_daemon(status.daemon, paper)
    for line in _sources_table(status.sources):
        paper.print(line)
    for source in status.sources:
        _show_source(source, paper)
    for item in status.in_flight:
        share = f"{human(item.bytes_done)} of {human(item.bytes_total)}"
        if item.bytes_per_second and item.seconds_left is not None:
            share += f", {human(item.bytes_per_second)}/s, {human_seconds(item.seconds_left)} left"
        paper.print(f"in flight: {item.source}:{item.path}: {share}")
    for failure in status.failures[:_MOST_FAILURES]:
        again = failure.next_attempt or "when it changes"
        paper.print(
            f"failed: {failure.source}:{failure.path}: {failure.error} "
            f"({failure.attempts} attempts, next: {again})",
            style="red",
        )
    if len(status.failures) > _MOST_FAILURES:
        paper.print("... and more that failed: syncd status --json", style="red")
    totals = status.totals
    paper.print(
        f"in total: {human(totals['bytes_sent'])} sent, "
        f"{human(totals['bytes_saved'])} not sent again, {totals['requests']} requests"
    )
    for cause, counted in totals.get("by_cause", {}).items():
        if counted["bytes_saved"]:
            sent, saved = human(counted["bytes_sent"]), human(counted["bytes_saved"])
            paper.print(f"  by {cause}: {sent} sent, {saved} not sent again")
    if left_out := totals.get("xattrs_left_out"):  # a daemon that runs may be older than this command
        paper.print(f"in total: {left_out} extended attributes did not fit into their objects' metadata")


def _show_daemon(daemon: DaemonStatus, paper: Paper) -> None:
    if not daemon.running:
        if daemon.error:
            paper.print(f"daemon: cannot tell whether it runs: {daemon.error}", style="red")
        state = f" (state: {daemon.state_dir})" if daemon.state_dir else ""
        paper.print("what the state says:" if daemon.error else f"daemon: not running{state}")
        return
    uptime = int(daemon.uptime_seconds or 0)
    up = f"{uptime // 3600}:{uptime // 60 % 60:02}:{uptime % 60:02}"
    config = f", {daemon.config}" if daemon.config else ""
    paper.print(f"daemon: running, pid {daemon.pid}, up {up}{config}")
    pace = [f"{human(daemon.bytes_per_second)}/s"] if daemon.bytes_per_second else []
    pace += [f"{human_seconds(daemon.seconds_left)} left"] if daemon.seconds_left is not None else []
    if pace:
        paper.print(f"sending: {', '.join(pace)}")
    if daemon.health not in (None, "ok"):
        paper.print(f"not healthy: {daemon.health}", style="red")
    for store, why in daemon.stores_paused.items():
        paper.print(f"store {store} is paused: {why}", style="red")


def _sources_table(sources: Sequence[SourceReport]) -> Iterator[str]:
    """A long name has a line of its own, so that numbers can be read whole in 80 columns."""
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
    counts = str(files.recorded), human(source.bytes.recorded), str(files.pending), str(files.in_flight)
    return source.name, *counts, str(files.failed), scanned


def _show_source(source: SourceReport, paper: Paper) -> None:
    name, live = source.name, source.live or LiveSource()
    paper.print(f"{name}: {source.path} to store {source.store}")
    if source.unlike:
        paper.print(f"{name}: {source.unlike}", style="red")
    for line in what_waits(source):
        paper.print(f"{name}: {line}", style="yellow")
    if source.last_audit:
        when = source.last_audit[:16].replace("T", " ")
        told = f"{source.audited} files compared, {source.repaired} had to be sent again"
        paper.print(f"{name}: last audit {when}: {told}")
    skipped = ", ".join(f"{count} {kind}" for kind, count in source.skipped.items())
    if skipped:
        paper.print(f"{name}: skipped: {skipped}")
    for line in _what_is_not_seen(source, live):
        paper.print(f"{name}: {line}", style="yellow")


def _what_is_not_seen(source: SourceReport, live: LiveSource) -> Iterator[str]:
    if source.last_scan_unseen and not live.unreadable:
        yield f"not everything was seen: {source.last_scan_unseen}"
    if live.out_of_sight:
        yield f"{live.out_of_sight} files are out of sight and are kept"
    yield from (f"out of sight: {line}" for line in live.hidden)
    yield from (f"cannot be read: {line}" for line in live.unreadable)
    hint = "set `mode: append` for a file that only grows, such as a log"
    yield from (f"never quiet: {path}; {hint}" for path in live.never_quiet[:_MOST_LINES])
