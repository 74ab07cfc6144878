"""The commands that only look: `status`, `check`, `verify`, `uploads`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from typing import Any

from syncd.cli import one_pass as once
from syncd.cli.check import machine as preflight
from syncd.cli.check import store as store_check
from syncd.cli.exit_codes import EXIT_FAILED, exit_code
from syncd.config.load import Settings
from syncd.core.errors import StoreError
from syncd.core.model import FileRef
from syncd.core.paths import printable
from syncd.daemon import control, status
from syncd.daemon.status import Status
from syncd.pipeline.context import real_clock
from syncd.state.state import State
from syncd.storage.base import Clock, ObjectStore
from syncd.storage.opening import StoreContext, open_store
from syncd.transfer import audit as comparison
from syncd.transfer import orphans as unfinished
from syncd.transfer.engine import MOST_READERS

Report = preflight.Report


def current(settings: Settings) -> Status:
    """The status: from the running daemon, else from the state."""
    try:
        answer = control.ask(settings.state_dir, {"command": "status"})
        if answer is not None and "error" not in answer:
            return Status.from_json(answer)
    except (KeyError, TypeError) as error:
        answer = {"error": f"its answer cannot be read: {error}"}
    except (OSError, ValueError) as error:
        answer = {"error": str(error)}
    with _state(settings) as state:
        report = status.report(settings.sources, state, None)
    if answer is None:
        return report
    return replace(report, daemon=replace(report.daemon, error=answer["error"]))


def of_path(settings: Settings, path: str) -> dict[str, Any] | None:
    """What is known about one file, given by its path; None when it is in no source."""
    absolute = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(path))), os.path.basename(path))
    for source in settings.sources:
        below = absolute.removeprefix(source.root.rstrip("/") + "/")
        if below != absolute:
            with _state(settings) as state:
                return status.of_path(state, FileRef(source.name, below))
    return None


def check(settings: Settings, report: Report, *, thorough: bool) -> int:
    """Run every check; returns the exit code, that of the worst store error where there is one."""
    codes = [0]

    def noted(name: str, passed: bool | None, detail: str) -> None:
        if passed is False:
            codes.append(EXIT_FAILED)
        report(name, passed, detail)

    preflight.directories(settings.sources, settings.state_dir, noted)
    preflight.watch_limits(settings.sources, noted)
    for name in sorted({source.store for source in settings.sources}):
        prefix = next(source.prefix for source in settings.sources if source.store == name)
        probe = store_check.thorough if thorough else store_check.basic
        try:
            with _store(settings, name) as store:
                probe(store, prefix, _named(name, noted))
        except StoreError as error:
            codes.append(exit_code(error))
            report(f"store {name}", False, str(error))
    return max(codes)


def _named(store: str, report: Report) -> Report:
    return lambda what, passed, detail: report(f"{store}: {what}", passed, detail)


def verify(settings: Settings, *, read: bool, tell: Callable[[dict[str, Any]], None]) -> dict[str, int]:
    """Compare every source with its store; `tell` hears of each difference as it is found.

    Returns how many ``files`` were compared, and of the differences how many are ``serious`` and ``notes``.
    """
    counts = {"files": 0, "serious": 0, "notes": 0}

    def heard(found: comparison.Difference) -> None:
        counts["serious" if found.serious else "notes"] += 1
        tell(
            {
                "source": found.ref.source,
                "path": printable(found.ref.path),
                "difference": found.what,
                "serious": found.serious,
            }
        )

    with _state(settings) as state:
        for source in settings.sources:
            others = [other for other in settings.sources if other.store == source.store]
            with _store(settings, source.store) as store:
                threads = settings.transfer.concurrency
                threads = min(threads, MOST_READERS) if read else threads
                for differences in comparison.verify(source, state, store, read=read, threads=threads):
                    counts["files"] += 1
                    for found in differences:
                        heard(found)
                for found in comparison.unknown(source, state, store, others):
                    heard(found)
    return counts


def uploads(settings: Settings, *, abort: bool) -> dict[str, Any]:
    """List unfinished uploads; with `abort` give up those that no checkpoint knows."""
    orphans: list[dict[str, Any]] = []
    with _state(settings) as state:
        ours = [
            {
                "source": item.ref.source,
                "path": printable(item.ref.path),
                "key": item.key,
                "upload_id": item.upload_id,
                "bytes_done": sum(part.size for part in item.parts.values()),
                "bytes_total": item.fingerprint.size,
            }
            for item in unfinished.ours(state)
        ]
        for name in sorted({source.store for source in settings.sources}):
            sources = [source for source in settings.sources if source.store == name]
            with _store(settings, name) as store:
                for orphan in unfinished.orphans(name, store, sources, state):
                    if abort:
                        store.abort_multipart_upload(orphan.upload.key, orphan.upload.upload_id)
                    orphans.append({"store": name, **asdict(orphan.upload), "aborted": abort})
    return {"ours": ours, "orphans": orphans}


@contextmanager
def _state(settings: Settings) -> Iterator[State]:
    with once.state_for_reading(settings.state_dir, real_clock().now_ns) as state:
        yield state


@contextmanager
def _store(settings: Settings, name: str) -> Iterator[ObjectStore]:
    """One store, closed at the end."""
    clock = real_clock()
    context = StoreContext(Clock(lambda: clock.now_ns() / 1e9, time.sleep, clock.chance))
    with closing(open_store(settings.stores[name], context)) as store:
        yield store
