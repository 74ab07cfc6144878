"""`syncd sync` as a person sees it: locks, bars, the summary at the end and the exit code."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from contextlib import nullcontext

import click

from syncd import control, once
from syncd.cli_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_PARTLY, exit_code
from syncd.config import Settings
from syncd.errors import StateError, StoreError
from syncd.model import Action, FileRef, Nothing
from syncd.paths import printable
from syncd.pipeline import Pipeline, Work, real_clock
from syncd.state import State, StateLock

log = logging.getLogger(__name__)


def sync(
    settings: Settings, allow_deletes: frozenset[str], stopping: threading.Event, *, terminal: bool
) -> int:
    """One pass; returns the exit code. Raises StateError."""
    if allow_deletes and _tell_daemon(settings, allow_deletes):
        return 0
    lock = StateLock.acquire(settings.state_dir)
    try:
        clock = real_clock()
        state = State.open(settings.state_dir, now_ns=clock.now_ns)
        try:
            with _bars(terminal) as tick:
                done = once.run_once(
                    _work(settings),
                    state,
                    clock,
                    should_stop=stopping.is_set,
                    tick=tick,
                    allow_deletes=allow_deletes,
                )
            return _summary(done)
        finally:
            state.close()
    finally:
        lock.release()


def _work(settings: Settings) -> Work:
    return Work(settings.sources, settings.stores, settings.transfer)


class _Quiet(nullcontext[Callable[[Pipeline], None]]):
    """No bars: the log lines tell."""


def _bars(terminal: bool) -> _Quiet | _Drawn:
    return _Drawn() if terminal else _Quiet(lambda pipeline: None)


class _Drawn:
    """Bars on standard error."""

    def __enter__(self) -> Callable[[Pipeline], None]:
        from rich.console import Console

        from syncd.screen import Bars

        self._bars = Bars(Console(stderr=True))
        self._bars.__enter__()
        return self._bars.update

    def __exit__(self, *details: object) -> None:
        self._bars.__exit__(*details)


def _tell_daemon(settings: Settings, names: frozenset[str]) -> bool:
    """Pass the operator's word on to the running daemon; False when there is none."""
    for name in sorted(names):
        answer = control.ask(settings.state_dir, {"command": "allow-deletes", "source": name})
        if answer is None:
            return False
        if "error" in answer:
            raise StateError(f"the daemon says: {answer['error']}")
        click.echo(f"{name}: the daemon may delete what waits now ({answer['allowed']} objects)")
    return True


def _summary(done: once.Pass) -> int:
    tally = done.pipeline.tally
    words = {"Upload": "uploaded", "Copy": "copied", "Refresh": "only touched", "Delete": "deleted"}
    parts = [f"{tally.actions[name]} {word}" for name, word in words.items() if tally.actions[name]]
    sent = f"{tally.bytes_sent} bytes sent, {tally.bytes_saved} saved"
    click.echo(f"{', '.join(parts) or 'nothing to do'}; {sent}; {tally.failed} failed")
    for ref, error in tally.failures:
        click.echo(f"failed: {ref.source}:{printable(ref.path)}: {error}", err=True)
    waiting = [keeper for keeper in done.pipeline.keepers.values() if keeper.news.waiting_for]
    for keeper in waiting:
        click.echo(f"not scanned: {keeper.source.name}: {keeper.news.waiting_for}", err=True)
    for keeper in done.pipeline.keepers.values():
        _tell_trouble(keeper.source.name, keeper.news.unreadable, keeper.news.deletes_reason)
    if done.gave_up is not None:
        click.echo(f"syncd: {done.gave_up}", err=True)
        return exit_code(done.gave_up)
    if done.interrupted:
        return EXIT_INTERRUPTED
    if tally.failed and not tally.actions.total() and isinstance(tally.last_error, StoreError):
        return exit_code(tally.last_error)  # nothing got through: the store is to blame, not the files
    unread = any(keeper.news.errors for keeper in done.pipeline.keepers.values())
    return EXIT_PARTLY if tally.failed or waiting or unread else 0


def _tell_trouble(source: str, unreadable: list[str], deletes: str) -> None:
    for line in unreadable:
        click.echo(f"cannot be read: {source}:{line}", err=True)
    if deletes:
        click.echo(f"{source}: {deletes}; to allow them: syncd sync --allow-deletes {source}", err=True)


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
        sys.stdout.flush()

    with once.state_for_reading(settings.state_dir, clock.now_ns) as state:
        once.plan_all(_work(settings), state, clock, tell)
    return EXIT_PARTLY if failed else 0


__all__ = ["EXIT_FAILED", "dry_run", "sync"]
