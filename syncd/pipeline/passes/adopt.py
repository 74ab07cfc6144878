"""Finds out which files of a source the store already has, before anything is sent.

A normal pass does the same to each file before it sends it. This pass says beforehand how much that saves,
and records it, unless it only looks.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from msgspec import Struct, field

from syncd.core.errors import AccessRefused, FileError, Stopped, StoreError, StoreUnavailable, os_words
from syncd.core.model import FileRef, FileStat, Recorded
from syncd.core.paths import name_of
from syncd.core.patterns import Rules
from syncd.pipeline.passes.restamp import MOST_AT_ONCE, MOST_NAMED, at_rest, end_of, unusable_by
from syncd.pipeline.source_runner import SourceRunner
from syncd.sources import places
from syncd.sources.scan import compare
from syncd.state.state import State
from syncd.transfer.reuse import Standing

_MOST_TROUBLES = 16
_NAMES = [each.name.lower() for each in Standing]


class Adopted(Struct):
    """The result: files and bytes by the names of `Standing`, in lower case."""

    files: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_NAMES, 0))
    bytes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_NAMES, 0))
    differing: list[str] = field(default_factory=list)
    """The first of those whose object differs, or cannot be shown to be the same."""
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    """The first of those that could not be compared, each with the reason."""
    ended: str = ""
    """Why not all were looked at; empty: all were."""
    unusable: str = ""
    """The kind of trouble if the store is the reason: see `restamp.unusable_by`."""


def adopt(
    runner: SourceRunner, state: State, *, dry_run: bool, goes_on: Callable[[], bool] = lambda: True
) -> Adopted:
    """Look at every file of one source without a record, until `goes_on` returns False. Raises StateError."""
    engine, source = runner.workers.engine, runner.source
    if silence := places.silence(source.root):
        return Adopted(ended=silence)
    if trouble := at_rest(runner, engine.trouble)():  # if the bucket is missing, a HEAD gets 404, too
        return Adopted(ended=f"its store cannot be used: {trouble}", unusable=unusable_by(trouble))
    done = Adopted()
    look_up = at_rest(runner, engine.look_up)

    def is_over() -> bool:
        done.ended = done.ended or end_of(runner, goes_on)
        return bool(done.ended)

    with ThreadPoolExecutor(min(MOST_AT_ONCE, engine.policy.concurrency)) as pool:
        sink = _Sink(done, lambda ref: pool.submit(look_up, ref, dry_run=dry_run), is_over)
        report = compare.scan(
            source,
            Rules.of(source),
            state,
            sink,
            should_stop=is_over,
            store_id=engine.store.store_id,
        )
        sink.collect(0)
    done.ended = done.ended or report.doubt or ""
    done.files["recorded"] = report.files - sink.new
    return done


class _Sink:
    """Looks at each file without a record, a few at once, nearly in the order of the scan."""

    def __init__(
        self,
        done: Adopted,
        look_up: Callable[[FileRef], Future[tuple[Standing, int]]],
        is_over: Callable[[], bool],
    ) -> None:
        self._done = done
        self._look_up = look_up
        self._is_over = is_over
        self._under_way: dict[Future[tuple[Standing, int]], FileRef] = {}
        self._troubles = 0
        self.new = 0

    def found(self, ref: FileRef, stat: FileStat, recorded: Recorded | None) -> None:
        if recorded is None and not self._is_over():
            self.new += 1
            self._under_way[self._look_up(ref)] = ref
            self.collect(2 * MOST_AT_ONCE)

    def collect(self, most: int) -> None:
        """Wait until at most so many are under way."""
        while len(self._under_way) > most:
            ended, _ = wait(self._under_way, return_when=FIRST_COMPLETED)
            for future in ended:
                self._note(self._under_way.pop(future), future)

    def _note(self, ref: FileRef, future: Future[tuple[Standing, int]]) -> None:
        try:
            standing, size = future.result()
        except Stopped:
            self._done.ended = self._done.ended or "it was interrupted"
            return
        except (StoreError, FileError) as error:
            self._done.failed += 1
            self._done.failures += [f"{name_of(ref)}: {error}"] if self._done.failed <= MOST_NAMED else []
            if isinstance(error, StoreUnavailable | AccessRefused):
                self._troubles += 1
                if self._troubles >= _MOST_TROUBLES:
                    self._done.ended = f"its store cannot be used: {error}"
                    self._done.unusable = unusable_by(error)
            return
        self._troubles = 0
        name = standing.name.lower()
        self._done.files[name] += 1
        self._done.bytes[name] += size
        if standing is Standing.DIFFERS and self._done.files[name] <= MOST_NAMED:
            self._done.differing.append(name_of(ref))

    def absent(self, ref: FileRef, recorded: Recorded) -> None:
        """Ignore it: it has a record."""

    def skipped(self, ref: FileRef, reason: str) -> None:
        """Ignore it: it is not sent either."""

    def unreadable(self, source: str, path: str, error: OSError) -> None:
        self._done.failed += 1
        self._done.failures.append(f"{name_of(FileRef(source, path))}: {os_words(error)}")

    def out_of_sight(self, source: str, path: str, reason: str) -> None:
        """Ignore it: its files have records."""
