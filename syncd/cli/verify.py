"""`syncd verify`: compares store, records and disk."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import click
from msgspec import Struct, field

from syncd.cli import asking, common
from syncd.config import units
from syncd.config.load import Settings
from syncd.core.errors import StateError, StoreError, StoreUnavailable
from syncd.core.model import FileRef, Source
from syncd.core.paths import printable
from syncd.core.words import counted
from syncd.state.lock import StateLock
from syncd.state.state import State
from syncd.transfer import audit
from syncd.transfer.carrier import MOST_READERS

_BATCH = 500
"""Files in one request to the daemon."""
_PAUSES_SECONDS = (0.5, 2.0)
"""Beside a running daemon: time for it to record what it just sent."""


@click.command()
@click.option(
    "--read", is_flag=True, help="Read and fingerprint every file, even one whose stat is unchanged."
)
@click.option(
    "--deep",
    metavar="[SHARE]",
    is_flag=False,
    flag_value="100%",
    default="0%",
    type=common.Written("share", units.parse_share),
    help="Download every object, or a share of them such as 5%, and compare the content.",
)
@click.option("--repair", is_flag=True, help="Send files again if their objects are damaged.")
@click.option(
    "--overwrite", is_flag=True, help="With --repair: also replace objects that another program wrote."
)
@click.option(
    "--max-repair",
    metavar="NUMBER|SHARE",
    type=common.Written("bound", units.parse_bound),
    help="Repair nothing if more files than this are damaged. Default: max_repair of the configuration.",
)
@common.json_option
@common.options
def command(  # its options
    options: common.Options,
    read: bool,
    deep: float,
    repair: bool,
    overwrite: bool,
    max_repair: tuple[int, float] | None,
    as_json: bool,
) -> None:
    """Compare the stores with the records and the disk.

    Reports every difference; the exit code is 3 if one is serious. If a store cannot be used, its sources
    are named, the others are compared, and the exit code is 69 or 77.
    """
    rows: list[dict[str, Any]] = []
    all_found = _Found()
    counts = {"files": 0, "serious": 0, "notes": 0}
    settings = options.load()
    errors: dict[str, StoreError] = {}
    for found in compare(settings, counts, errors, read=read, deep=deep):
        all_found.take(found, overwrite=overwrite)
        row = {"source": found.ref.source, "path": printable(found.ref.path)}
        if as_json:
            rows.append({**row, "difference": found.what, "serious": found.serious})
        else:
            mark = "FAIL" if found.serious else "note"
            click.echo(f"{mark} {row['source']}:{row['path']}: {found.what}")
    _print(counts, errors, rows if as_json else None)
    foreign = 0 if overwrite else sum(each.foreign for each in all_found.standing)
    for line in _advice(0 if repair else len(all_found.damaged), foreign):
        common.say(line)
    _remember(settings, [each for each in settings.sources if each.name not in errors], all_found.standing)
    if repair:
        damaged = [ref for ref in all_found.damaged if ref not in all_found.spoilt]
        common.say(_repaired(settings, damaged, counts["files"], max_repair or settings.max_repair))
        if later := all_found.later():
            common.say(
                f"{counted(later, 'more object', 'has')} lost content: repeat this once these are sent"
            )
    partly = common.EXIT_PARTLY if counts["serious"] else 0
    sys.exit(next(map(common.exit_code, errors.values()), partly))


class _Found(Struct):
    """Differences, by what can be done about them."""

    standing: list[audit.Difference] = field(default_factory=list)
    """The serious ones."""
    damaged: list[FileRef] = field(default_factory=list)
    """To send again."""
    spoilt: set[FileRef] = field(default_factory=set)
    """The disk has them wrong: their content may be worse than the object."""
    rotten: Counter[str] = field(default_factory=Counter)
    """The number of objects of each source that lost their content."""

    def take(self, found: audit.Difference, *, overwrite: bool) -> None:
        """Add a difference. Only so many lost ETags of a source are kept; others wait for a later run."""
        self.rotten[found.ref.source] += bool(found.rotten)
        is_for_later = found.rotten and self.rotten[found.ref.source] > audit.MOST_NAMED
        if not is_for_later and (found.damaged or (found.foreign and overwrite)):
            self.damaged.append(found.ref)
        elif not is_for_later and found.serious and not found.foreign:
            self.spoilt.add(found.ref)
        if found.serious:
            self.standing.append(found)

    def later(self) -> int:
        """Return how many are left for later runs."""
        return sum(max(0, number - audit.MOST_NAMED) for number in self.rotten.values())


def _advice(damaged: int, foreign: int) -> Iterator[str]:
    """Yield how to repair so many damaged objects, or objects that another program wrote."""
    if damaged:
        yield f"syncd verify --repair sends {counted(damaged, 'file')} again whose object is damaged"
    if foreign:
        what = counted(foreign, "object")
        yield f"syncd verify --repair --overwrite replaces what another program wrote: {what}"


def _print(counts: dict[str, int], errors: dict[str, StoreError], rows: list[dict[str, Any]] | None) -> None:
    """Print the results; with `rows` as JSON that includes them."""
    if rows is not None:
        told = {name: str(error) for name, error in errors.items()}
        common.print_json({**counts, "differences": rows, "errors": told})
    else:
        total = f"{counted(counts['serious'], 'serious difference')}, {counted(counts['notes'], 'note')}"
        click.echo(f"{counted(counts['files'], 'file')} compared, {total}")
    for name, error in errors.items():
        common.say(f"{name}: not all was compared: {error}")


def _repaired(settings: Settings, damaged: list[FileRef], files: int, bound: tuple[int, float]) -> str:
    """Put the records of damaged objects in doubt to have their files sent again; return the result.

    The next look at such a file checks its object, and sends what is missing.
    """
    why_not = audit.allowed(len(damaged), files, bound)
    if why_not:
        return f"{why_not}; repeat with a larger --max-repair"
    if not damaged:
        return "there is nothing to repair"
    files_of = [[ref.source, os.fsencode(ref.path).hex()] for ref in damaged]
    when, again = "now", 0
    for index in range(0, len(damaged), _BATCH):
        request = {"command": "repair", "files": files_of[index : index + _BATCH]}
        answer = asking.settings_daemon(settings, request)
        if answer is None:
            when = "by the next sync, or when the daemon starts"
            again += _put_in_doubt(settings, damaged[index:])
            break
        again += answer["files"]
    told = f"{counted(again, 'file', 'is')} sent again {when}"
    forgotten = len(damaged) - again
    return f"{told}; {counted(forgotten, 'deleted file', 'is')} forgotten" if forgotten else told


def _put_in_doubt(settings: Settings, damaged: list[FileRef]) -> int:
    with _own_state(settings) as state:
        return sum(audit.repair(ref, state) for ref in damaged)


def _remember(settings: Settings, compared: list[Source], standing: list[audit.Difference]) -> None:
    """Have `status` and `sync` name open differences until they are repaired. Write only new ones."""
    for source in compared:
        mine = [each for each in standing if each.ref.source == source.name]
        found, unnamed = audit.named(sorted(mine, key=lambda each: not each.rotten), audit.MOST_NAMED)
        with common.open_state(settings.state_dir) as state:
            known = state.audits.standing(source.name, audit.MOST_NAMED)
        words = sorted(((each.ref, each.what) for each in found), key=_by_path)
        if known == (len(found) + unnamed, words):
            continue
        files = [[os.fsencode(ref.path).hex(), *more] for ref, *more in found]
        request = {"command": "audited", "source": source.name, "files": files, "unnamed": unnamed}
        try:
            if asking.settings_daemon(settings, request) is None:
                with _own_state(settings) as state:
                    state.audits.keep(source.name, found, unnamed)
        except StateError as error:
            common.say(f"{source.name}: `syncd status` will not name these differences: {error}")


def _by_path(named: tuple[FileRef, str]) -> bytes:
    return os.fsencode(named[0].path)


@contextmanager
def _own_state(settings: Settings) -> Iterator[State]:
    """Open the state to write: no daemon runs. Raises StateError."""
    lock = StateLock.acquire(settings.state_dir)
    try:
        with closing(State.open(settings.state_dir, now_ns=time.time_ns)) as state:
            yield state
    finally:
        lock.release()


def compare(
    settings: Settings,
    counts: dict[str, int],
    errors: dict[str, StoreError],
    *,
    read: bool,
    deep: float = 0.0,
) -> Iterator[audit.Difference]:
    """Compare every source with its store; yield each difference as it is found.

    Counts the ``files`` compared, and the ``serious`` differences and the ``notes``. `errors` gets the error
    of each unusable store, by source; a store that does not answer is not asked again for the next source.
    """
    threads = settings.transfer.concurrency
    threads = min(threads, MOST_READERS) if read or deep else threads
    runs = StateLock.holder(settings.state_dir)
    pauses = [partial(time.sleep, seconds) for seconds in _PAUSES_SECONDS] if runs else []
    with common.open_state(settings.state_dir) as state:
        silent: dict[str, StoreUnavailable] = {}
        for source in settings.sources:
            try:
                if source.store in silent:
                    raise silent[source.store]
                with common.open_store(settings, source.store) as store:
                    for of_one_file in audit.verify(
                        source, state, store, read=read, deep=deep, threads=threads, pauses=pauses
                    ):
                        counts["files"] += 1
                        yield from _counted(of_one_file, counts)
                    others = [other for other in settings.sources if other.store == source.store]
                    yield from _counted(audit.unknown(source, state, store, others), counts)
                    yield from _counted(audit.unrecorded(source, state, store.store_id), counts)
            except StoreError as error:
                errors[source.name] = error
                if isinstance(error, StoreUnavailable):
                    silent[source.store] = error


def _counted(found: Iterable[audit.Difference], counts: dict[str, int]) -> Iterator[audit.Difference]:
    for difference in found:
        counts["serious" if difference.serious else "notes"] += 1
        yield difference
