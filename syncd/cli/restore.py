"""`syncd restore`: bring files back, from the records or only a listing."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from itertools import chain, groupby
from typing import Any

import click
from msgspec import Struct
from msgspec.structs import replace

from syncd.cli import asking, common
from syncd.config.load import Settings
from syncd.config.units import parse_bandwidth
from syncd.core.backoff import Rate, clock_words, seconds_left
from syncd.core.errors import FileUnwritable, Stopped, StoreError, SyncdError
from syncd.core.model import Source
from syncd.core.paths import printable
from syncd.core.restoring import Overwrite
from syncd.core.words import counted
from syncd.sources import places
from syncd.state.state import State
from syncd.storage.base import Breaker, Meter, ObjectStore
from syncd.storage.settings import DirSettings
from syncd.transfer.pace.progress import Line, Progress
from syncd.transfer.pace.slots import Slots
from syncd.transfer.restore import wanted
from syncd.transfer.restore.closed import Closed
from syncd.transfer.restore.download import Download
from syncd.transfer.restore.folder import Folder
from syncd.transfer.restore.restore import Entry, Report, Restore

_MOST_LINES = 20
_TICK_SECONDS = 0.2
_PAUSED_SECONDS = 1.0


class Selection(Struct, frozen=True):
    """A source, a file or folder of it, or what a store has under a prefix."""

    store: str
    prefix: str
    path: str = ""
    """The path below the prefix; empty: everything."""
    source: Source | None = None
    """Its records come first."""
    into: str = ""
    """The folder below the target; empty, or ends in ``/``."""

    @property
    def label(self) -> str:
        """Return its name in messages."""
        if self.source is None:
            return f"{self.store}:{self.prefix}{self.path}"
        return f"{self.source.name}:{self.path}" if self.path else self.source.name


@click.command()
@click.argument("what", nargs=-1, metavar="[SOURCE|PATH]...")
@click.option(
    "--to", required=True, metavar="DIR", help="The folder to restore to; created if it is missing."
)
@click.option(
    "--overwrite",
    type=click.Choice([each.value for each in Overwrite]),
    default=Overwrite.NEVER.value,
    show_default=True,
    help="Whether to replace existing files that differ; older: only if their mtime is older.",
)
@click.option("--store", "store", metavar="NAME", help="Restore the objects of this store, without records.")
@click.option("--prefix", default="", metavar="P", help="With --store: only this folder or object.")
@click.option(
    "--bandwidth-limit",
    metavar="RATE|TIMETABLE|off",
    help="A limit instead of that in transfer.bandwidth_limit.",
)
@click.option("--special", is_flag=True, help="Also restore setuid, setgid and capabilities.")
@click.option("-n", "--dry-run", is_flag=True, help="Print what would be restored; write nothing.")
@common.json_option
@common.options
def command(
    options: common.Options,
    /,
    what: tuple[str, ...],
    to: str,
    overwrite: str,
    bandwidth_limit: str | None,
    dry_run: bool,
    as_json: bool,
    **of: Any,
) -> None:
    """Bring files back from a store.

    SOURCE is a source of the configuration. PATH is a file or folder in a source, which need not exist any
    more. Without either, all sources are restored. One source goes directly into DIR; if there are several,
    each gets a folder.
    """
    special = of.pop("special")
    if not to:
        raise click.UsageError("--to is empty; name the folder to restore to")
    terminal = sys.stderr.isatty() and not options.quiet and not dry_run
    given = None if bandwidth_limit is None else asking.bandwidth(bandwidth_limit)
    settings = options.load(with_sources=False, quieter=1 if terminal else 0)
    if given is not None:
        bandwidth = parse_bandwidth(given)
        settings = replace(settings, transfer=replace(settings.transfer, bandwidth_limit=bandwidth))
    selections = _of_store(settings, what, **of) if any(of.values()) else _selected(settings, what)
    with common.interrupt() as stopping, ExitStack() as last:
        if silence := places.silence(os.path.abspath(to)):
            raise click.UsageError(f"--to {to}: {silence}")
        try:
            folder = Folder(os.path.realpath(to), _closed(settings), create=not dry_run, special=special)
        except FileUnwritable as error:
            raise click.UsageError(f"--to {to}: {error}") from error
        last.enter_context(closing(folder))
        job = Job(_without_making_stores(settings), folder, Overwrite(overwrite), stopping, dry_run=dry_run)
        with _progress(job) if terminal else ExitStack():
            job.run(selections)
    _print(job, to, as_json=as_json, dry_run=dry_run)
    sys.exit(_code(job.report))


# ---- what is meant ----------------------------------------------------------------------------------------


def _of_store(settings: Settings, what: Sequence[str], store: str | None, prefix: str) -> list[Selection]:
    if store is None:
        raise click.UsageError("--prefix needs --store: the store that has this prefix")
    if what:
        raise click.UsageError(f"--store restores by its listing; leave out {what[0]}, or --store")
    if store not in settings.stores:
        raise click.UsageError(f"no such store: {store}")
    if not prefix or prefix.endswith("/"):
        return [Selection(store, prefix)]
    above, slash, name = prefix.rpartition("/")
    return [Selection(store, above + slash, name)]


def _selected(settings: Settings, what: Sequence[str]) -> list[Selection]:
    if not settings.sources:
        raise click.UsageError("the configuration has no source; name a store: --store NAME [--prefix P]")
    names = {source.name: source for source in settings.sources}
    found: dict[str, set[str]] = {}
    for given in what or names:
        if given in names:
            found.setdefault(given, set()).add("")
            continue
        from syncd.daemon import explain  # late: a tenth of the time of a start

        place = explain.find(settings.sources, os.path.abspath(given))
        if place is None:
            raise click.UsageError(f"{printable(given)} is neither a source nor a path in one")
        found.setdefault(place.source.name, set()).add(place.path)
    return [
        Selection(source.store, source.prefix, path, source, f"{name}/" if len(found) > 1 else "")
        for name, source in names.items()
        for path in _outermost(found.get(name, set()))
    ]


def _outermost(paths: set[str]) -> list[str]:
    """Drop paths that are inside another."""
    return [
        path
        for path in sorted(paths)
        if not any(path != other and f"{path}/".startswith(f"{other}/" if other else "") for other in paths)
    ]


def _closed(settings: Settings) -> dict[str, Closed]:
    closed = {settings.state_dir: Closed("the state of syncd")}
    for name, store in settings.stores.items():
        if isinstance(store, DirSettings):
            closed[places.Places().real(store.path)] = Closed(f"the directory of the store {name}")
    for source in settings.sources:
        closed[source.root] = Closed(f"the watched folder of {source.name}", around=True)
    return closed


def _without_making_stores(settings: Settings) -> Settings:
    """A missing directory store is not mounted: a new one would have nothing to restore."""
    stores = {
        name: replace(store, create=False) if isinstance(store, DirSettings) else store
        for name, store in settings.stores.items()
    }
    return replace(settings, stores=stores)


# ---- the restore ------------------------------------------------------------------------------------------


class Job:
    """One run of the command: one store after the other, into one folder."""

    def __init__(
        self,
        settings: Settings,
        folder: Folder,
        overwrite: Overwrite,
        stopping: threading.Event,
        *,
        dry_run: bool,
    ) -> None:
        self.report = Report()
        self.progress = Progress(Line(settings.transfer.bandwidth_limit.down), sleep=self._sleep)
        self._settings = settings
        self.folder = folder
        self._overwrite = overwrite
        self._stopping = stopping
        self._dry_run = dry_run
        self._told = ""

    def _sleep(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise Stopped("stopped while the bandwidth limit holds it back")

    def _await_line(self) -> None:
        """Wait out a pause of the timetable, and say so."""
        while (holds := self.progress.line.holds()).is_paused:
            until = clock_words(holds.until or 0)
            if until != self._told:
                self._told = until
                common.say(f"paused by `bandwidth_limit` until {until}; --bandwidth-limit off restores now")
            self._sleep(_PAUSED_SECONDS)
        self._told = ""

    def run(self, selections: Sequence[Selection]) -> None:
        """Restore everything; the report has the results.

        Raises StateError. An unusable store holds up no other; an unwritable folder ends the work.
        """
        with ExitStack() as last:
            state = None
            if any(selection.source for selection in selections):
                state = last.enter_context(common.open_state(self._settings.state_dir))
            for name, chosen in groupby(sorted(selections, key=_store_of), key=_store_of):
                if self._stopping.is_set() or not isinstance(self.report.gave_up, StoreError | None):
                    break
                try:
                    error = self._run_store(name, list(chosen), state)
                except StoreError as refused:  # when it was opened
                    error = refused
                    self.report.gave_up = self.report.gave_up or refused
                if isinstance(error, StoreError):
                    common.say(f"store {name}: {error}")

    def _run_store(
        self, name: str, selections: Sequence[Selection], state: State | None
    ) -> BaseException | None:
        """Restore from one store; return what ended it early. Raises StoreError."""
        policy = self._settings.transfer
        slots = Slots(policy.concurrency, policy.memory_limit)
        breaker = Breaker(busy=slots.throttled, answered=slots.answered)
        meter = Meter(received=self.progress.received)
        # More threads than parts that fit into memory would wake each other in vain.
        at_once = max(1, min(policy.concurrency, policy.memory_limit // policy.part_size))
        with (
            common.open_store(
                self._settings, name, stopping=self._stopping, breaker=breaker, meter=meter
            ) as store,
            ThreadPoolExecutor(at_once, thread_name_prefix="restore-part") as fetchers,
        ):
            download = Download(
                store,
                self.folder,
                fetchers,
                slots,
                self.progress,
                part_size=policy.part_size,
                concurrency=policy.concurrency,
                should_stop=self._stopping.is_set,
                await_line=self._await_line,
                spare=threading.Semaphore(at_once // 2),
            )
            restore = Restore(
                download,
                self.report,
                self._overwrite,
                dry_run=self._dry_run,
                should_stop=self._stopping.is_set,
            )
            restore.run(chain.from_iterable(self._find(each, state, store) for each in selections))
            return restore.gave_up

    def _find(self, selection: Selection, state: State | None, store: ObjectStore) -> Iterator[wanted.Wanted]:
        """Yield what the records have; if nothing, what the store lists. Raises StoreError."""
        empty = True
        if selection.source is not None and state is not None:
            rows = wanted.recorded(selection.source, selection.path, state, store, selection.into)
            for item in rows:
                empty = False
                yield item
            if empty:
                common.say(
                    f"{selection.label}: there are no records of it; syncd asks the store for its objects"
                )
        if empty:
            for item in wanted.listed(store, selection.prefix, selection.path, selection.into):
                empty = False
                yield item
        if empty:
            reason = "the store has no object of it"
            with self.report.lock:
                self.report.counts["failed"] += 1
                self.report.failures.append(Entry(selection.label, selection.prefix + selection.path, reason))


def _store_of(selection: Selection) -> str:
    return selection.store


@contextmanager
def _progress(job: Job) -> Iterator[None]:
    """Draw bars on a terminal's standard error."""
    from rich.console import Console

    from syncd.cli.screen import Bars

    done, pace = threading.Event(), Rate()

    def draw(bars: Bars) -> None:
        seen = 0
        while not done.wait(_TICK_SECONDS):
            report, flying, now = job.report, job.progress.in_flight(), time.monotonic()
            files = report.counts.total() - report.counts["unchecked"]
            pace.add(files - seen, now)
            seen, rate = files, job.progress.rate()
            moved = report.bytes_finished + sum(item[1] for item in flying)
            waiting = report.files_found - files - len(flying)
            rest = (sum(item[2] - item[1] for item in flying), rate), (waiting, pace.per_second(now))
            what = f"restoring, {counted(files, 'file')} done"
            bars.draw(what, moved, report.bytes_found, flying, rate, seconds_left(rest))

    with Bars(Console(stderr=True)) as bars:
        thread = threading.Thread(target=draw, args=(bars,), name="restore-bars")
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


# ---- the end ----------------------------------------------------------------------------------------------


def _print(job: Job, to: str, *, as_json: bool, dry_run: bool) -> None:
    report, incomplete = job.report, job.folder.incomplete
    stopped = str(report.gave_up) if report.gave_up else "interrupted" if report.interrupted else None
    if as_json:
        counts = ("restored", "already_there", "kept", "failed", "folders", "unchecked")
        common.print_json(
            {
                "to": printable(os.path.abspath(to)),
                "dry_run": dry_run,
                "files": {name: report.counts[name] for name in counts},
                "bytes": {"restored": report.bytes_restored},
                **{
                    name: [_row(entry) for entry in getattr(report, name)]
                    for name in ("planned", "kept", "unchecked", "failures")
                },
                "incomplete": [
                    {"path": printable(path), "reason": reason} for path, reason in incomplete.items()
                ],
                "stopped": stopped,
            }
        )
        return
    for entry in report.planned:
        click.echo(f"restore {printable(entry.path)} ({counted(entry.size, 'byte')}): {entry.reason}")
    counts_of = report.counts
    folders = f"; {counted(counts_of['folders'], 'folder')}" if counts_of["folders"] else ""
    click.echo(
        f"{counted(counts_of['restored'], 'file')} {'would be ' if dry_run else ''}restored "
        f"({counted(report.bytes_restored, 'byte')}), {counts_of['already_there']} already there, "
        f"{counts_of['kept']} kept, {counts_of['failed']} failed{folders}"
    )
    _lines("kept", report.kept, "--overwrite older or always replaces them")
    unchecked = "restored, but neither syncd nor the store knows what its content has to be"
    _lines("unchecked", [Entry(each.path, each.key, unchecked) for each in report.unchecked], "")
    bare = [Entry(path, "", f"restored, but not {why}") for path, why in incomplete.items()]
    _lines("incomplete", bare, "")
    _lines("failed", report.failures, "")
    if stopped:
        common.say(f"{stopped}; run the same command again to continue")


def _row(entry: Entry) -> dict[str, Any]:
    found = {"path": printable(entry.path), "key": printable(entry.key)}
    return {**found, "reason": entry.reason} if entry.reason else found


def _lines(word: str, entries: Sequence[Entry], hint: str) -> None:
    for entry in entries[:_MOST_LINES]:
        click.echo(f"{word}: {printable(entry.path)}: {entry.reason}", err=True)
    if len(entries) > _MOST_LINES:
        click.echo(f"{word}: ... and {len(entries) - _MOST_LINES} more; --json names them all", err=True)
    if entries and hint:
        click.echo(f"{word}: {hint}", err=True)


def _code(report: Report) -> int:
    error = report.gave_up
    if isinstance(error, FileUnwritable):
        return common.EXIT_PARTLY
    if isinstance(error, SyncdError):
        return common.exit_code(error)
    if error is not None:
        raise error  # a bug of ours
    if report.interrupted:
        return common.EXIT_INTERRUPTED
    nothing = not report.counts["restored"] and not report.counts["already_there"]
    if report.store_error is not None and nothing:
        return common.exit_code(report.store_error)
    return common.EXIT_PARTLY if report.counts["failed"] else 0
