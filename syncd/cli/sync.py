"""`syncd sync`: one pass over everything, or with ``--dry-run`` only its plan.

If a daemon runs, it makes the pass, and gets the operator's overrides. Otherwise the pass takes the lock of
the state directory, scans, sends what differs, prints a summary and ends with an exit code.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import click
from msgspec import Struct

from syncd.cli import asking, common
from syncd.config.load import Settings
from syncd.core.deletions import Deletions
from syncd.core.errors import FileError, StateError, os_words
from syncd.core.model import FileRef, FileStat, OnDelete, Recorded, Source
from syncd.core.paths import name_of
from syncd.core.patterns import Rules
from syncd.core.plan import KEPT, Action, Delete, Nothing
from syncd.core.words import counted, left_out
from syncd.daemon import process
from syncd.pipeline.context import Clock, RunSummary, real_clock
from syncd.pipeline.pipeline import Pipeline
from syncd.pipeline.source_runner import DELETED, SourceRunner, deletions_held
from syncd.sources import places, root
from syncd.sources.scan import compare
from syncd.state.lock import StateLock
from syncd.state.state import State
from syncd.storage.base import ObjectStore
from syncd.storage.opening import open_store
from syncd.transfer.engine import Engine

STOP_SECONDS = 10.0


class Overrides(Struct, frozen=True):
    """What the operator overrides, by the names of sources."""

    allow_deletes: frozenset[str] = frozenset()
    """The objects of removed files may be deleted."""
    accept_roots: frozenset[str] = frozenset()
    """The root is a different directory on purpose."""
    take_over: frozenset[str] = frozenset()
    """This machine takes over from another that wrote there."""

    @property
    def sources(self) -> frozenset[str]:
        """Return all sources named."""
        return self.allow_deletes | self.accept_roots | self.take_over


class Pass(Struct, frozen=True):
    """How a pass ended."""

    pipeline: Pipeline
    interrupted: bool
    gave_up: dict[str, BaseException]
    """The unusable stores, each with its error; files of the others were sent."""
    ended: bool
    """All threads ended, except those that wait for a folder that does not answer."""
    unlike: dict[str, str]
    """The sources with objects not as recorded at the last audit, each with what to do."""


# ---- the command ------------------------------------------------------------------------------------------


@click.command()
@click.option("-n", "--dry-run", is_flag=True, help="Print what a pass would do; send and record nothing.")
@click.option(
    "--allow-deletes", multiple=True, metavar="SOURCE", help="Allow the deletions of SOURCE that wait."
)
@click.option(
    "--accept-root",
    "accept_roots",
    multiple=True,
    metavar="SOURCE",
    help="Accept that SOURCE is now a different directory. Deletions still wait for --allow-deletes.",
)
@click.option(
    "--take-over",
    multiple=True,
    metavar="SOURCE",
    help="Let this machine replace and delete what another machine wrote under the prefix of SOURCE.",
)
@common.options
def command(
    options: common.Options,
    dry_run: bool,
    allow_deletes: tuple[str, ...],
    accept_roots: tuple[str, ...],
    take_over: tuple[str, ...],
) -> None:
    """Upload everything that differs, in one pass, then exit.

    If a daemon runs, the daemon makes the pass, and this command waits for the end. The daemon scans, and
    sends without waiting until files are quiet. It also gets --allow-deletes, --accept-root and --take-over.
    """
    terminal = sys.stderr.isatty() and not options.quiet and not dry_run
    settings = options.load(quieter=1 if terminal else 0)
    overrides = Overrides(frozenset(allow_deletes), frozenset(accept_roots), frozenset(take_over))
    unknown = overrides.sources - {source.name for source in settings.sources}
    if unknown:
        raise click.UsageError(f"no such source: {', '.join(sorted(unknown))}")
    if dry_run:
        sys.exit(print_plan(settings))
    if _tell_daemon(settings, overrides):
        sys.exit(0)
    if (answer := asking.settings_daemon(settings, {"command": "flush", "scan": True})) is not None:
        sys.exit(asking.told_of_flush(answer))
    with common.interrupt() as stopping:
        code = sync(settings, overrides, stopping, terminal=terminal)
    sys.exit(code)


def sync(settings: Settings, overrides: Overrides, stopping: threading.Event, *, terminal: bool) -> int:
    """Make one pass; return the exit code. Raises StateError, also if a daemon runs."""
    process.raise_descriptor_limit()
    lock = StateLock.acquire(settings.state_dir)
    try:
        clock = real_clock()
        state = State.open(settings.state_dir, now_ns=clock.now_ns)
        is_over = True
        try:
            with _progress(terminal) as tick:
                done = run_once(
                    settings, state, clock, should_stop=stopping.is_set, tick=tick, overrides=overrides
                )
            _print_summary(done)
            is_over = done.ended
        finally:
            state.close(clean=is_over)
    finally:
        lock.release()
    if not done.ended or done.pipeline.waits_for_folders():
        _leave(_code(done))
    return _code(done)


def _tell_daemon(settings: Settings, overrides: Overrides) -> bool:
    """Pass the overrides to the running daemon; return False if there are none, or no daemon."""
    requests = [("allow-deletes", name) for name in sorted(overrides.allow_deletes)]
    requests += [("accept-root", name) for name in sorted(overrides.accept_roots)]
    requests += [("take-over", name) for name in sorted(overrides.take_over)]
    for verb, name in requests:
        answer = asking.settings_daemon(settings, {"command": verb, "source": name})
        if answer is None:
            return False
        click.echo(f"{name}: {_answered(verb, answer)}")
    return bool(requests)


def _answered(verb: str, answer: Mapping[str, Any]) -> str:
    """Return the daemon's answer to an override, in words."""
    if verb == "allow-deletes":
        return f"the daemon may now delete {counted(answer['allowed'], 'object')} that waited"
    if verb == "accept-root":
        return "the daemon accepts the directory that is there now"
    if answer["taken_over"]:
        return "the daemon takes over; the waiting files proceed"
    return "the daemon has found no object of another machine"


@contextmanager
def _progress(terminal: bool) -> Iterator[Callable[[Pipeline], None]]:
    """Draw bars on a terminal's standard error; elsewhere log lines show the progress."""
    if not terminal:
        yield lambda pipeline: None
        return
    from rich.console import Console

    from syncd.cli.screen import Bars

    with Bars(Console(stderr=True)) as bars:
        yield bars.update


def _leave(code: int) -> None:
    """Exit now: a thread is stuck in the kernel, or in an endless request."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def _print_summary(done: Pass) -> None:
    runners = done.pipeline.source_runners.values()
    waits = any(each.news.waiting_for or each.deletions_wait() for each in runners)
    _print_files(done.pipeline.tally, stays=bool(waits or done.gave_up or done.interrupted))
    for runner in done.pipeline.source_runners.values():
        _print_source(runner)
    for source, words in done.unlike.items():
        click.echo(f"{source}: {words}", err=True)
    for store, trouble in done.gave_up.items():
        common.say(f"store {store}: {trouble}")
    if not done.gave_up and done.interrupted:
        click.echo("interrupted; the next pass continues where this one stopped", err=True)


def _print_files(tally: RunSummary, *, stays: bool) -> None:
    parts = [f"{tally.actions[name]} {word}" for name, word in common.DONE.items() if tally.actions[name]]
    sent = f"{counted(tally.bytes_sent, 'byte')} sent, {tally.bytes_saved} saved"
    settling = f"; {tally.settling} settling" if tally.settling else ""
    what = common.done_words(parts, stays=bool(stays or tally.failed or tally.settling))
    click.echo(f"{what}; {sent}; {tally.failed} failed{settling}")
    for ref, error in tally.failures:
        click.echo(f"failed: {name_of(ref)}: {error}", err=True)
    for ref, reason in tally.unsettled:
        click.echo(f"settling: {name_of(ref)}: {reason}; a later pass uploads it once it is quiet", err=True)


def _print_source(runner: SourceRunner) -> None:
    """Print what the operator must know about a source besides its failed files."""
    name, news = runner.source.name, runner.news
    if news.waiting_for:
        click.echo(f"not scanned: {name}: {news.waiting_for}", err=True)
    if news.skipped:
        click.echo(f"{name}: skipped: {left_out(news.skipped)}")
    if news.out_of_sight:
        click.echo(f"{name}: {counted(news.out_of_sight, 'file', 'is')} out of sight and kept", err=True)
    for line in news.hidden:
        click.echo(f"out of sight: {name}:{line}", err=True)
    for line in news.unreadable:
        click.echo(f"cannot be read: {name}:{line}", err=True)
    if waits := runner.waits_for_take_over():
        click.echo(f"{name}: {waits}", err=True)
    if news.deletes_reason:
        allow = f"to allow them: syncd sync --allow-deletes {name}"
        waits = counted(news.deletes_parked, "deletion", "waits")
        click.echo(f"{name}: {waits}: {news.deletes_reason}; {allow}", err=True)


def _code(done: Pass) -> int:
    for error in done.gave_up.values():
        return common.exit_code(error)
    if done.interrupted:
        return common.EXIT_INTERRUPTED
    tally = done.pipeline.tally
    runners = done.pipeline.source_runners.values()
    if (
        tally.failed
        or done.unlike
        or any(each.news.waiting_for or each.news.errors or each.deletions_wait() for each in runners)
    ):
        return common.EXIT_PARTLY
    return common.EXIT_UNSETTLED if tally.settling else 0


# ---- one pass ---------------------------------------------------------------------------------------------


def run_once(
    settings: Settings,
    state: State,
    clock: Clock,
    *,
    should_stop: Callable[[], bool],
    tick: Callable[[Pipeline], None],
    overrides: Overrides | None = None,
    opener: Callable[..., ObjectStore] = open_store,
) -> Pass:
    """Scan every source and transfer what differs; call `tick` several times a second until the end.

    Raises SyncdError if a store cannot be opened or the state is unusable.
    """
    pipeline = Pipeline(state, clock, once=True, opener=opener, machine_id=process.machine_id())
    overrides = overrides or Overrides()
    over = False
    try:
        pipeline.apply(settings.sources, settings.stores, settings.transfer)
        for name in overrides.accept_roots:
            pipeline.source_runners[name].accept_root()
        for name in overrides.allow_deletes:
            pipeline.source_runners[name].confirm_deletes()
        for name in overrides.take_over:
            pipeline.source_runners[name].take_over()
        pipeline.start()
        over = pipeline.wait_done(should_stop, lambda: tick(pipeline))
    finally:
        ended = pipeline.stop(STOP_SECONDS)
    unlike: dict[str, str] = {}
    with suppress(StateError):  # an unusable state is already reported
        found = {name: runner.auditor.unlike() for name, runner in pipeline.source_runners.items()}
        unlike = {name: words for name, words in found.items() if words}
    return Pass(pipeline, not over, pipeline.gave_up(), ended, unlike)


# ---- the plan of a pass -----------------------------------------------------------------------------------

Report = Callable[[FileRef, Action | str, int], None]
"""Takes each file that differs: the action, or the error it would meet, and its size in bytes."""


def print_plan(settings: Settings) -> int:
    """Print what a pass would do; return the exit code."""
    told: Counter[str] = Counter()

    def report(ref: FileRef, action: Action | str, size: int) -> None:
        name = name_of(ref)
        if isinstance(action, str):
            told["failed"] += 1
            click.echo(f"fail     {name}: {action}")
        elif isinstance(action, Nothing):
            if not ref.path:
                told["waits"] += 1
                click.echo(f"{ref.source}: {action.reason}", err=True)
        else:
            told["done"] += 1
            click.echo(
                f"{type(action).__name__.lower():<8} {name} ({counted(size, 'byte')}): {action.reason}"
            )

    with common.open_state(settings.state_dir) as state:
        plan_all(settings, state, real_clock(), report)
    if not told:
        click.echo("nothing to do")
    return common.EXIT_PARTLY if told["failed"] or told["waits"] else 0


def plan_all(settings: Settings, state: State, clock: Clock, report: Report) -> None:
    """Report what a pass would do. Reads the files, asks no store, writes nothing."""
    pipeline = Pipeline(state, clock, once=True)
    pipeline.apply(settings.sources, settings.stores, settings.transfer)
    try:
        for source in settings.sources:
            engine = pipeline.store_runners[source.store].engine
            _plan_source(source, engine, state, report, clock.now_ns())
    finally:
        pipeline.stop(STOP_SECONDS)


def _plan_source(source: Source, engine: Engine, state: State, report: Report, now_ns: int) -> None:
    known, doubt = state.root_identity(source.name), None
    if not (silence := places.silence(source.root)):
        _, doubt = root.check_root(source, known, state.recorded_totals(source.name)[0] > 0)
    if silence or doubt:
        report(FileRef(source.name, ""), silence or str(doubt), 0)
        return
    planner = _Planner(source, engine, report)
    rules, store_id = Rules.of(source), engine.store.store_id
    found = compare.scan(source, rules, state, planner, should_stop=lambda: False, store_id=store_id)
    if found.doubt:
        report(FileRef(source.name, ""), found.doubt, 0)
    planner.deletions.scan_ended(found.unseen)
    planner.deletions.held = deletions_held(source, store_id, state)
    planner.deletions.recall(state.learned(store_id, DELETED + source.name), 0.0, now_ns)
    verdict = planner.deletions.judge(0.0, state.recorded_totals(source.name)[0])
    if verdict.parked:
        waits = f"{counted(verdict.parked, 'deletion')} would wait: {verdict.reason}"
        report(FileRef(source.name, ""), Nothing(waits), 0)
    if found.skipped:
        click.echo(f"{source.name}: skipped: {left_out(found.skipped)}")


class _Planner:
    """Plans each file as the scan finds it."""

    def __init__(self, source: Source, engine: Engine, report: Report) -> None:
        self._source = source
        self._engine = engine
        self._report = report
        self.deletions = Deletions(
            source.max_delete_files,
            source.max_delete_fraction,
            grace_seconds=0.0,
            window_seconds=source.rescan_seconds,
        )

    def found(self, ref: FileRef, stat: FileStat, recorded: Recorded | None) -> None:
        try:
            action, size = self._engine.plan(ref)
        except FileError as error:
            self._report(ref, str(error), stat.size)
            return
        self._report(ref, action, size)

    def absent(self, ref: FileRef, recorded: Recorded) -> None:
        deletes = self._source.on_delete is OnDelete.DELETE
        action = Delete("deleted locally") if deletes else KEPT
        if deletes:
            self.deletions.add(ref, 0.0)
        self._report(ref, action, recorded.fingerprint.size)

    def skipped(self, ref: FileRef, reason: str) -> None:
        self._report(ref, Nothing(f"skipped: {reason}"), 0)

    def unreadable(self, source: str, path: str, error: OSError) -> None:
        self._report(FileRef(source, path), f"the directory cannot be read: {os_words(error)}", 0)

    def out_of_sight(self, source: str, path: str, reason: str) -> None:
        self._report(FileRef(source, path), f"out of sight, its files are kept: {reason}", 0)
