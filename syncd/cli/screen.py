"""The bars of `sync` and the table of `status`. Only commands that draw import this module,
since rich is slow to import."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from syncd.core.model import FileRef
from syncd.core.paths import printable
from syncd.core.words import human, human_seconds
from syncd.daemon.status import DaemonStatus, LiveSource, SourceReport, Status, what_waits

if TYPE_CHECKING:
    from rich.progress import TaskID

    from syncd.pipeline.pipeline import Pipeline

LARGE = 16 << 20
"""Files of this size and more get a line of their own, in bytes."""
_MOST_LINES = 8
_MOST_FAILURES = 20
_UNFOLDED = 1 << 20
"""Columns that no line fills."""


def console() -> Console:
    """Standard output. Only a terminal has a width: what goes into a pipe or a file is never folded."""
    terminal = Console(highlight=False)
    return terminal if terminal.is_terminal else Console(highlight=False, width=_UNFOLDED)


class Bars:
    """The progress of a pass on a terminal: one bar for everything, one for each large file."""

    def __init__(self, console: Console) -> None:
        from rich.progress import (  # late: the table of `status` does without
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}", table_column=None),
            BarColumn(bar_width=30),
            DownloadColumn(binary_units=True),
            TextColumn("{task.fields[pace]}"),
            console=console,
            transient=True,
            refresh_per_second=5,
        )
        self._all = self._progress.add_task("scanning", total=None, pace="")
        self._files: dict[FileRef, TaskID] = {}

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, pipeline: Pipeline) -> None:
        """Draw what is under way now."""
        source_runners = list(pipeline.source_runners.values())
        scanning = not all(runner.first_scan_done.is_set() for runner in source_runners)
        found = sum(runner.news.found_bytes for runner in source_runners)
        flying = pipeline.in_flight()
        done = pipeline.tally.bytes_finished + sum(item[1] for item in flying)
        files = pipeline.tally.actions.total()
        rate, left = pipeline.outlook()
        what = f"{'scanning' if scanning else 'carrying'}, {files} files done"
        self.draw(what, done, found, flying, rate, None if scanning else left)

    def draw(
        self,
        what: str,
        done: int,
        found: int,
        flying: Sequence[tuple[FileRef, int, int]],
        rate: float | None,
        left: float | None,
    ) -> None:
        """Draw `done` of the `found` bytes, and the files that are on their way: done and total of each; and
        bytes per second and seconds left, where they can be told.
        """
        pace = [f"{human(round(rate))}/s"] if rate else []
        pace += [f"{human_seconds(left)} left"] if left is not None else []
        total = max(found, done) or None
        self._progress.update(self._all, description=what, total=total, completed=done, pace=", ".join(pace))
        self._update_files([item for item in flying if item[2] >= LARGE][:_MOST_LINES])

    def _update_files(self, large: list[tuple[FileRef, int, int]]) -> None:
        current = {ref for ref, _, _ in large}
        for ref in [ref for ref in self._files if ref not in current]:
            self._progress.remove_task(self._files.pop(ref))
        for ref, done, total in large:
            if ref not in self._files:
                name = escape(_short(printable(ref.path)))
                self._files[ref] = self._progress.add_task(f"  {name}", total=total, pace="")
            self._progress.update(self._files[ref], completed=done, total=total)


def _short(name: str, width: int = 36) -> str:
    return name if len(name) <= width else "…" + name[-(width - 1) :]


def show_status(status: Status, console: Console) -> None:
    """Show a status in the width of the console; 80 columns are enough."""
    _show_daemon(status.daemon, console)
    console.print(_sources_table(status.sources))
    for source in status.sources:
        _show_source(source, console)
    for item in status.in_flight:
        share = f"{human(item.bytes_done)} of {human(item.bytes_total)}"
        if item.bytes_per_second and item.seconds_left is not None:
            share += f", {human(item.bytes_per_second)}/s, {human_seconds(item.seconds_left)} left"
        console.print(f"in flight: {escape(item.source)}:{escape(item.path)}: {share}")
    for failure in status.failures[:_MOST_FAILURES]:
        again = failure.next_attempt or "when it changes"
        console.print(
            f"failed: {escape(failure.source)}:{escape(failure.path)}: {escape(failure.error)} "
            f"({failure.attempts} attempts, next: {again})",
            style="red",
        )
    if len(status.failures) > _MOST_FAILURES:
        console.print("... and more that failed: syncd status --json", style="red")
    totals = status.totals
    console.print(
        f"in total: {human(totals['bytes_sent'])} sent, "
        f"{human(totals['bytes_saved'])} not sent again, {totals['requests']} requests"
    )
    for cause, counted in totals.get("by_cause", {}).items():
        if counted["bytes_saved"]:
            sent, saved = human(counted["bytes_sent"]), human(counted["bytes_saved"])
            console.print(f"  by {cause}: {sent} sent, {saved} not sent again")
    if left_out := totals.get("xattrs_left_out"):  # a daemon that runs may be older than this command
        console.print(f"in total: {left_out} extended attributes did not fit into their objects' metadata")


def _show_daemon(daemon: DaemonStatus, console: Console) -> None:
    if not daemon.running:
        if daemon.error:
            console.print(f"daemon: cannot tell whether it runs: {escape(daemon.error)}", style="red")
        state = f" (state: {escape(daemon.state_dir)})" if daemon.state_dir else ""
        console.print("what the state says:" if daemon.error else f"daemon: not running{state}")
        return
    uptime = int(daemon.uptime_seconds or 0)
    up = f"{uptime // 3600}:{uptime // 60 % 60:02}:{uptime % 60:02}"
    config = f", {escape(daemon.config)}" if daemon.config else ""
    console.print(f"daemon: running, pid {daemon.pid}, up {up}{config}")
    pace = [f"{human(daemon.bytes_per_second)}/s"] if daemon.bytes_per_second else []
    pace += [f"{human_seconds(daemon.seconds_left)} left"] if daemon.seconds_left is not None else []
    if pace:
        console.print(f"sending: {', '.join(pace)}")
    if daemon.health not in (None, "ok"):
        console.print(f"not healthy: {escape(daemon.health)}", style="red")
    for store, why in daemon.stores_paused.items():
        console.print(f"store {escape(store)} is paused: {escape(why)}", style="red")


def _sources_table(sources: Sequence[SourceReport]) -> Table:
    """Only names may be folded: numbers have to be read whole."""
    table = Table(box=None, pad_edge=False)
    table.add_column("source", overflow="fold", min_width=6)
    for heading in ("files", "bytes", "pending", "moving", "failed"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("last scan (UTC)", no_wrap=True)
    for source in sources:
        table.add_row(
            escape(source.name),
            str(source.files.recorded),
            human(source.bytes.recorded),
            str(source.files.pending),
            str(source.files.in_flight),
            str(source.files.failed),
            source.last_scan[:16].replace("T", " ") if source.last_scan else "never",
        )
    return table


def _show_source(source: SourceReport, console: Console) -> None:
    name, live = escape(source.name), source.live or LiveSource()
    console.print(f"{name}: {escape(source.path)} to store {escape(source.store)}")
    if source.unlike:
        console.print(f"{name}: {escape(source.unlike)}", style="red")
    for line in what_waits(source):
        console.print(f"{name}: {escape(line)}", style="yellow")
    if source.last_audit:
        when = source.last_audit[:16].replace("T", " ")
        told = f"{source.audited} files compared, {source.repaired} had to be sent again"
        console.print(f"{name}: last audit {when}: {told}")
    skipped = ", ".join(f"{count} {kind}" for kind, count in source.skipped.items())
    if skipped:
        console.print(f"{name}: skipped: {escape(skipped)}")
    for line in _what_is_not_seen(source, live):
        console.print(f"{name}: {escape(line)}", style="yellow")


def _what_is_not_seen(source: SourceReport, live: LiveSource) -> Iterator[str]:
    if source.last_scan_unseen and not live.unreadable:
        yield f"not everything was seen: {source.last_scan_unseen}"
    if live.out_of_sight:
        yield f"{live.out_of_sight} files are out of sight and are kept"
    yield from (f"out of sight: {line}" for line in live.hidden)
    yield from (f"cannot be read: {line}" for line in live.unreadable)
    hint = "if it only grows, `mode: append` carries it meanwhile"
    yield from (f"never quiet: {path}; {hint}" for path in live.never_quiet[:_MOST_LINES])
