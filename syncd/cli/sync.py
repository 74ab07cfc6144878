"""`syncd sync` as a person sees it: locks, bars, the summary at the end and the exit code."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import click

from syncd.cli import one_pass as once
from syncd.cli.exit_codes import EXIT_INTERRUPTED, EXIT_PARTLY, exit_code
from syncd.cli.one_pass import Overrides
from syncd.config.load import Settings
from syncd.core.errors import StateError
from syncd.core.model import Action, FileRef, Nothing
from syncd.core.paths import printable
from syncd.daemon import control
from syncd.pipeline.pipeline import Pipeline, real_clock
from syncd.state.lock import StateLock
from syncd.state.state import State

log = logging.getLogger("syncd.daemon")

_DONE = {"Upload": "uploaded", "Copy": "copied", "Refresh": "only touched", "Delete": "deleted"}


def sync(settings: Settings, words: Overrides, stopping: threading.Event, *, terminal: bool) -> int:
    """One pass; returns the exit code. Raises StateError. Words are for the daemon where one runs."""
    if _tell_daemon(settings, words):
        return 0
    lock = StateLock.acquire(settings.state_dir)
    try:
        clock = real_clock()
        state = State.open(settings.state_dir, now_ns=clock.now_ns)
        state.interrupted = lock.interrupted
        try:
            with _bars() if terminal else _no_bars() as tick:
                done = once.run_once(
                    settings,
                    state,
                    clock,
                    should_stop=stopping.is_set,
                    tick=tick,
                    words=words,
                )
            _summary(done)
            if not done.ended:
                _leave(_code(done), state)
            return _code(done)
        finally:
            state.close()
    finally:
        lock.release()


@contextmanager
def _no_bars() -> Iterator[Callable[[Pipeline], None]]:
    """The log lines tell."""
    yield lambda pipeline: None


@contextmanager
def _bars() -> Iterator[Callable[[Pipeline], None]]:
    """Bars on standard error."""
    from rich.console import Console

    from syncd.cli.screen import Bars

    with Bars(Console(stderr=True)) as bars:
        yield bars.update


def _leave(code: int, state: State) -> None:
    """A thread is stuck in the kernel, or in a request that does not end: the exit must not wait for it."""
    with suppress(StateError):
        state.flush()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def _tell_daemon(settings: Settings, words: Overrides) -> bool:
    """Pass the operator's words on to the running daemon; False when there are none, or no daemon."""
    told = [("allow-deletes", name) for name in sorted(words.allow_deletes)]
    told += [("accept-root", name) for name in sorted(words.accept_roots)]
    for command, name in told:
        try:
            answer = control.ask(settings.state_dir, {"command": command, "source": name})
        except (OSError, ValueError) as error:
            raise StateError(f"the daemon does not answer: {error}") from error
        if answer is None:
            return False
        if "error" in answer:
            raise StateError(f"the daemon says: {answer['error']}")
        if command == "allow-deletes":
            click.echo(f"{name}: the daemon may delete what waits now ({answer['allowed']} objects)")
        else:
            click.echo(f"{name}: the daemon takes the directory that is there now")
    return bool(told)


def _summary(done: once.Pass) -> None:
    tally = done.pipeline.tally
    parts = [f"{tally.actions[name]} {word}" for name, word in _DONE.items() if tally.actions[name]]
    sent = f"{tally.bytes_sent} bytes sent, {tally.bytes_saved} saved"
    click.echo(f"{', '.join(parts) or 'nothing to do'}; {sent}; {tally.failed} failed")
    for ref, error in tally.failures:
        click.echo(f"failed: {ref.source}:{printable(ref.path)}: {error}", err=True)
    for runner in done.pipeline.source_runners.values():
        name, news = runner.source.name, runner.news
        if news.waiting_for:
            click.echo(f"not scanned: {name}: {news.waiting_for}", err=True)
        for line in news.unreadable:
            click.echo(f"cannot be read: {name}:{line}", err=True)
        if news.deletes_reason:
            allow = f"to allow them: syncd sync --allow-deletes {name}"
            click.echo(
                f"{name}: {news.deletes_parked} deletions wait: {news.deletes_reason}; {allow}", err=True
            )
    if done.gave_up is not None:
        click.echo(f"syncd: {done.gave_up}", err=True)
    elif done.interrupted:
        click.echo("interrupted; the next pass goes on where this one was", err=True)


def _code(done: once.Pass) -> int:
    if done.gave_up is not None:
        return exit_code(done.gave_up)
    if done.interrupted:
        return EXIT_INTERRUPTED
    tally = done.pipeline.tally
    if tally.store_error is not None and not any(tally.actions[name] for name in _DONE):
        return exit_code(tally.store_error)  # nothing got through: the store is to blame, not the files
    news = [runner.news for runner in done.pipeline.source_runners.values()]
    return EXIT_PARTLY if tally.failed or any(each.waiting_for or each.errors for each in news) else 0


def dry_run(settings: Settings) -> int:
    """Print what a pass would do; returns the exit code."""
    clock = real_clock()
    failed = 0

    def tell(ref: FileRef, action: Action | str, size: int) -> None:
        nonlocal failed
        name = f"{ref.source}:{printable(ref.path)}"
        if isinstance(action, str):
            failed += 1
            click.echo(f"fail     {name}: {action}")
        elif not isinstance(action, Nothing):
            click.echo(f"{type(action).__name__.lower():<8} {name} ({size} bytes): {action.reason}")

    with once.state_for_reading(settings.state_dir, clock.now_ns) as state:
        once.plan_all(settings, state, clock, tell)
    return EXIT_PARTLY if failed else 0


__all__ = ["Overrides", "dry_run", "sync"]
