"""Restores many objects at once: decides about each, counts the results, and goes on after failures.

It gives up when going on is useless: the keys are refused, the store no longer answers, or the disk is full.
Finished files stay, and the next restore goes on from there.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

from msgspec import Struct, field

from syncd.core.errors import (
    AccessRefused,
    FileError,
    FileUnwritable,
    Stopped,
    StoreError,
    StoreUnavailable,
    SyncdError,
)
from syncd.core.model import ObjectInfo
from syncd.core.paths import LINK
from syncd.core.restoring import Overwrite, Place, Proof, Refused, may_be_same, proof_of, why_kept
from syncd.transfer.restore.download import Download, facts_of
from syncd.transfer.restore.wanted import LINK_OF_A_FOLDER, Wanted, has_below

LARGE_AT_ONCE = 4
"""Large objects at a time; the requests for all of them share one bound."""
_LARGE_WAITING = 128
"""So many large objects are found before the objects after them."""
MOST_OUTAGES = 8
"""After so many objects in a row without an answer, the store counts as away."""


class Entry(Struct, frozen=True):
    """An object to name in a report."""

    path: str
    key: str
    reason: str = ""
    size: int = 0


class Report(Struct):
    """The results. Several threads change it under ``lock``; read it at the end."""

    counts: Counter[str] = field(default_factory=Counter)
    """``restored``, ``already_there``, ``kept``, ``failed``, ``folders``."""
    bytes_restored: int = 0
    files_found: int = 0
    bytes_found: int = 0
    """The size of all objects found so far, whatever becomes of them."""
    bytes_finished: int = 0
    failures: list[Entry] = field(default_factory=list)
    kept: list[Entry] = field(default_factory=list)
    unchecked: list[Entry] = field(default_factory=list)
    """Restored objects whose right content neither syncd nor the store knows."""
    planned: list[Entry] = field(default_factory=list)
    """The objects that a dry run would restore."""
    gave_up: BaseException | None = None
    """The error that ended the work on a store, or on all of them."""
    store_error: StoreError | None = None
    """The last outage because of which an object failed."""
    interrupted: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class Restore:
    """Restores the objects of one store, or with ``dry_run`` only says what it would do."""

    def __init__(
        self,
        download: Download,
        report: Report,
        overwrite: Overwrite,
        *,
        dry_run: bool = False,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._download = download
        self._folder = download.folder
        self._report = report
        self._overwrite = overwrite
        self._dry_run = dry_run
        self._should_stop = should_stop
        self._outages = 0
        self._wanted: Iterator[Wanted] = iter(())
        self._finding = threading.Lock()
        self._large = ThreadPoolExecutor(LARGE_AT_ONCE, thread_name_prefix="restore-large")
        self._room = threading.Semaphore(_LARGE_WAITING)
        self._unlisted: SyncdError | None = None
        self.gave_up: BaseException | None = None
        """The error that ended the work on this store."""

    def run(self, wanted: Iterable[Wanted]) -> None:
        """Work off everything. Never raises an error of syncd: the report has it."""
        self._wanted = iter(wanted)
        workers: list[Future[None]] = []
        with ExitStack() as pools:
            pools.enter_context(self._large)
            pools.callback(self._folder.settle)  # small files wait for each other, not for large ones
            threads = self._download.concurrency
            small = pools.enter_context(ThreadPoolExecutor(threads, thread_name_prefix="restore"))
            while len(workers) < threads and (item := self._next()) is not None:
                workers.append(small.submit(self._work, item))
        for each in workers:
            each.result()
        if self._unlisted is not None:
            self._give_up(self._unlisted)
        if self._should_stop():
            self._report.interrupted = True
        self._folder.settle()
        try:
            self._folder.sync()
            self._folder.furnish()  # last, because syncd may lose access to folders
        except FileUnwritable as error:
            self._give_up(error)

    def _work(self, item: Wanted | None) -> None:
        while item is not None:
            self._one(item)
            item = self._next()

    def _next(self) -> Wanted | None:
        """Return the next small object; large ones go to other threads. None: no object is left."""
        with self._finding:
            try:
                for item in self._wanted:
                    with self._report.lock:
                        self._report.files_found += 1
                        self._report.bytes_found += item.info.size
                    if self._is_over():
                        break
                    if not self._download.is_large(item.info.size):
                        return item
                    self._room.acquire()
                    self._large.submit(self._one, item).add_done_callback(lambda _: self._room.release())
            except SyncdError as error:  # from the listing or the state: what was found so far is restored
                self._unlisted = error
        return None

    def _is_over(self) -> bool:
        return self.gave_up is not None or self._should_stop()

    def _give_up(self, error: BaseException) -> None:
        with self._report.lock:
            if isinstance(error, Stopped):
                self._report.interrupted = True
            elif self.gave_up is None:
                self.gave_up = error
                if self._report.gave_up is None or not isinstance(error, StoreError):
                    self._report.gave_up = error

    # ---- one object --------------------------------------------------------------------------------------

    def _one(self, item: Wanted) -> None:
        """Restore one object; every outcome goes into the report."""
        if self._is_over():
            return
        try:
            self._restore(item)
        except (Stopped, AccessRefused) as error:
            self._give_up(error)
        except (FileError, StoreError) as error:
            self._failed(item, error)
        except Exception as error:  # noqa: BLE001  a bug of ours: the command ends with its traceback
            self._give_up(error)
        finally:
            with self._report.lock:
                self._report.bytes_finished += item.info.size

    def _restore(self, item: Wanted) -> None:
        if isinstance(item.place, Refused):
            raise FileUnwritable(item.place.reason)
        if item.place.is_folder:
            self._make(item, item.place)
            return
        if item.place.rival and self._download.store.head_object(item.place.rival) is not None:
            raise FileUnwritable(
                f"another key has the same name: {item.place.rival}; restore one of the two to another folder"
            )
        info, path, described = item.info, item.path, item.described
        if item.place.is_link:
            info, described = info if described else self._download.describe(info.key), True
            if info.is_link or info.digest is None:
                self._restore_link(item, info, path)
                return
            path += LINK  # a file of such a name, from when syncd carried no links
        self._restore_file(item, info, path, described=described)

    def _restore_file(self, item: Wanted, info: ObjectInfo, path: str, *, described: bool) -> None:
        existing = self._folder.look(path)
        if existing is not None:
            if not described and (existing.size == info.size or self._overwrite is Overwrite.OLDER):
                info = self._download.describe(info.key)
            proof = proof_of(info)
            if (
                proof is not None
                and may_be_same(existing, info.size, info.mtime_ns)
                and self._folder.has(path, existing, proof)
            ):
                self._count("already_there")
                return
            mtime_ns = info.mtime_ns if info.mtime_ns is not None else info.stored_ns
            reason = why_kept(existing, mtime_ns, self._overwrite)
            if reason is not None:
                self._count("kept", self._report.kept, Entry(path, info.key, reason, info.size))
                return
        if self._dry_run:
            reason = "nothing is there" if existing is None else "it replaces the file that is there"
            self._count("restored", self._report.planned, Entry(path, info.key, reason, info.size), info.size)
            return

        def ended(found: ObjectInfo, proven: Proof | None, error: FileUnwritable | None) -> None:
            if error is not None:
                self._failed(item, error)
                return
            self._count("restored", size=found.size)
            if proven is None:
                self._count("unchecked", self._report.unchecked, Entry(path, found.key, size=found.size))

        self._download.fetch(info, path, existing, ended)
        self._outages = 0

    def _restore_link(self, item: Wanted, info: ObjectInfo, path: str) -> None:
        found, body = self._download.content(info)
        if b"\0" in bytes(body):  # no link leads there, so another program made this object
            self._restore_file(item, found, path + LINK, described=True)
            return
        if not item.described and has_below(self._download.store, item.info.key):
            raise FileUnwritable(LINK_OF_A_FOLDER)
        existing = self._folder.look_link(path)
        if existing is not None and existing.target == body:
            self._count("already_there")
            return
        mtime_ns, wanted = facts_of(found, info)
        if existing is not None and (reason := existing.why_kept(mtime_ns, self._overwrite)):
            self._count("kept", self._report.kept, Entry(path, info.key, reason, info.size))
            return
        if self._dry_run:
            entry = Entry(path, info.key, "a symbolic link", info.size)
            self._count("restored", self._report.planned, entry, info.size)
            return
        self._folder.link(path, bytes(body), existing, (mtime_ns, wanted))
        self._count("restored", size=info.size)

    def _make(self, item: Wanted, place: Place) -> None:
        if place.path and not self._dry_run:
            found = self._download.describe(item.info.key)
            self._folder.make(place.path, facts_of(found, item.info))
        is_new = self._dry_run and place.path and not self._folder.holds(place.path)
        entry = Entry(place.path, item.info.key, "a folder") if is_new else None
        self._count("folders", self._report.planned, entry)

    def _failed(self, item: Wanted, error: FileError | StoreError) -> None:
        self._count("failed", self._report.failures, Entry(item.path, item.info.key, str(error)))
        if isinstance(error, FileUnwritable) and error.every_file:
            self._give_up(error)
        if isinstance(error, StoreUnavailable):
            self._report.store_error = error
            self._outages += 1
            if self._outages >= MOST_OUTAGES:
                self._give_up(error)

    def _count(
        self, what: str, entries: list[Entry] | None = None, entry: Entry | None = None, size: int = 0
    ) -> None:
        with self._report.lock:
            self._report.counts[what] += 1
            self._report.bytes_restored += size
            if entries is not None and entry is not None:
                entries.append(entry)
