"""`syncd verify`: store, records and disk, side by side."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import click

from syncd.cli import common
from syncd.config.load import Settings
from syncd.core.paths import printable
from syncd.state.lock import StateLock
from syncd.transfer import audit
from syncd.transfer.engine import MOST_READERS

_PAUSES_SECONDS = (0.5, 2.0)
"""Beside a running daemon: the time in which it records what it has just sent."""


@click.command()
@click.option(
    "--read", is_flag=True, help="Read and fingerprint every file, even one whose stat is unchanged."
)
@common.json_option
@common.options
def command(options: common.Options, read: bool, as_json: bool) -> None:
    """Compare the stores with what is recorded and with the disk.

    Every difference is reported; the exit code is 3 when one is serious.
    """
    rows: list[dict[str, Any]] = []
    counts = {"files": 0, "serious": 0, "notes": 0}
    for found in compare(options.load(), counts, read=read):
        row = {"source": found.ref.source, "path": printable(found.ref.path)}
        if as_json:
            rows.append({**row, "difference": found.what, "serious": found.serious})
        else:
            mark = "FAIL" if found.serious else "note"
            click.echo(f"{mark} {row['source']}:{row['path']}: {found.what}")
    if as_json:
        common.print_json({**counts, "differences": rows})
    else:
        total = f"{counts['serious']} serious differences, {counts['notes']} notes"
        click.echo(f"{counts['files']} files compared, {total}")
    sys.exit(common.EXIT_PARTLY if counts["serious"] else 0)


def compare(settings: Settings, counts: dict[str, int], *, read: bool) -> Iterator[audit.Difference]:
    """Compare every source with its store; yields each difference as it is found.

    Counts the ``files`` that were compared, and among the differences the ``serious`` ones and the ``notes``.
    """
    threads = settings.transfer.concurrency
    threads = min(threads, MOST_READERS) if read else threads
    pauses = _PAUSES_SECONDS if StateLock.holder(settings.state_dir) else ()
    with common.open_state(settings.state_dir) as state:
        for source in settings.sources:
            others = [other for other in settings.sources if other.store == source.store]
            with common.open_store(settings, source.store) as store:
                for of_one_file in audit.verify(
                    source, state, store, read=read, threads=threads, pauses_seconds=pauses
                ):
                    counts["files"] += 1
                    yield from _counted(of_one_file, counts)
                yield from _counted(audit.unknown(source, state, store, others), counts)
                yield from _counted(audit.unrecorded(source, state, store.store_id), counts)


def _counted(found: Iterable[audit.Difference], counts: dict[str, int]) -> Iterator[audit.Difference]:
    for difference in found:
        counts["serious" if difference.serious else "notes"] += 1
        yield difference
