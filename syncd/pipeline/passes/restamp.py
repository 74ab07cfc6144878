"""Gives existing objects the properties that are configured now.

It records nothing: the stamp that an object carries shows whether it has them. So it may stop at any moment
and start again.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any, TypeVar

from msgspec import Struct, field

from syncd.core.errors import AccessRefused, FileError, Stopped, StoreError, StoreUnavailable
from syncd.core.model import FileRef
from syncd.core.paths import name_of
from syncd.pipeline.source_runner import SourceRunner
from syncd.state.state import State

T = TypeVar("T")
MOST_AT_ONCE = 8
"""Objects that are copied at once, within the bound of the transfers."""
MOST_NAMED = 1000
_MOST_TROUBLES = 16


class Restamped(Struct):
    """The result of a pass."""

    objects: int = 0
    """Recorded files that were looked at."""
    changed: int = 0
    """Objects that were copied onto themselves, or would be."""
    named: list[str] = field(default_factory=list)
    """The first of those."""
    left: list[str] = field(default_factory=list)
    """The first of those that keep properties that differ, or may, each with the reason."""
    kept: int = 0
    """How many those are."""
    ended: str = ""
    """Why not all were looked at; empty: all were."""
    unusable: str = ""
    """The kind of trouble if the store is the reason: see `unusable_by`."""


def restamp(
    runner: SourceRunner, state: State, *, dry_run: bool, goes_on: Callable[[], bool] = lambda: True
) -> Restamped:
    """Go through the records of one source, until `goes_on` returns False. Raises StateError."""
    engine, done, troubles = runner.workers.engine, Restamped(), 0
    if trouble := at_rest(runner, engine.trouble)():
        return Restamped(ended=f"its store cannot be used: {trouble}", unusable=unusable_by(trouble))
    with ThreadPoolExecutor(min(MOST_AT_ONCE, engine.policy.concurrency)) as pool:
        rows = (ref for ref, _ in state.all_recorded(runner.source.name))
        under_way: dict[Future[tuple[bool, str]], FileRef] = {}
        while not done.ended:
            done.ended = end_of(runner, goes_on)
            for ref in islice(rows, 0 if done.ended else 2 * MOST_AT_ONCE - len(under_way)):
                under_way[pool.submit(at_rest(runner, engine.stamper.restamp), ref, dry_run=dry_run)] = ref
            if not under_way:
                break
            ended, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for future in ended:
                trouble = _note(done, under_way.pop(future), future)
                troubles = 0 if trouble is None else troubles + 1
                if trouble is not None and troubles >= _MOST_TROUBLES:
                    done.ended = f"its store cannot be used: {trouble}"
                    done.unusable = unusable_by(trouble)
        for future in under_way:
            future.cancel()
    for future, ref in under_way.items():
        if not future.cancelled():
            _note(done, ref, future)
    return done


def at_rest(runner: SourceRunner, work: Callable[..., T]) -> Callable[..., T]:
    """Return `work`, after which its thread need not move, because it belongs to a pool that ends."""

    def run(*arguments: Any, **more: Any) -> T:
        try:
            return work(*arguments, **more)
        finally:
            runner.workers.engine.readers.heartbeat.rest()

    return run


def unusable_by(error: StoreError) -> str:
    """Return why the store cannot be used at all: ``credentials`` or ``unreachable``."""
    return "credentials" if isinstance(error, AccessRefused) and error.credentials else "unreachable"


def end_of(runner: SourceRunner, goes_on: Callable[[], bool]) -> str:
    """Return why to begin no further object; empty: go on."""
    if runner.workers.queue.is_held(runner.source.name):
        return "it is paused by the operator"
    return "" if goes_on() else "it was interrupted"


def _note(done: Restamped, ref: FileRef, future: Future[tuple[bool, str]]) -> StoreError | None:
    """Count the result of one object; return the error if it may concern the store as a whole."""
    done.objects += 1
    trouble = None
    try:
        others, why = future.result()
    except Stopped:
        others, why = False, "it was interrupted"
    except (StoreError, FileError) as error:
        others, why = False, str(error)
        trouble = error if isinstance(error, StoreUnavailable | AccessRefused) else None
    if others:
        done.changed += 1
        done.named += [name_of(ref)] if len(done.named) < MOST_NAMED else []
    elif why:
        done.kept += 1
        done.left += [f"{name_of(ref)}: {why}"] if len(done.left) < MOST_NAMED else []
    return trouble
