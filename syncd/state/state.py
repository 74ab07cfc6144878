"""What syncd remembers: recorded files, checkpoints with their parts, failures.

Invariants, kept at every moment:

1. A recorded row *must* describe an object the store has acknowledged.
2. A part row *must* hold an ETag the store returned.
3. A checkpoint *must* exist before its multipart upload does.
4. The bytes of a completed object *must* be those of one fingerprint.
5. syncd *must never* write, rename or delete in a source.
6. Every multipart upload on the server *should* have a checkpoint (else: orphan, swept at start).

The order of effects follows from them. Intent is recorded before the server hears of it (`begin`, then
create; `set_completing`, then complete). An acknowledgement is recorded before anything relies on it
(`set_upload_id` before the first part, `add_part` before a part counts as done). The recorded row goes in
and the checkpoint out in one transaction (`commit`). So for every pair of lines between which the process
can die, the next start ends in the same place.

What is not here: the queue. After a restart the scan finds again what was dirty.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cached_property, partial
from types import MappingProxyType

from msgspec.structs import replace

from syncd.core.errors import MISTAKE, StateError
from syncd.core.model import (
    OVERTAKEN,
    Destination,
    FileRef,
    Fingerprint,
    LastScan,
    Leftover,
    Recorded,
    RootIdentity,
    Summary,
)
from syncd.core.parts import PartDigests
from syncd.core.paths import name_of
from syncd.core.plan import Cause
from syncd.state import checkpoints, queries, schema
from syncd.state.audits import Audits
from syncd.state.checkpoints import Checkpoints
from syncd.state.history import Failures, History, drop_failure
from syncd.state.key_locks import KeyLocks
from syncd.state.sqlite import Reader, give_back_memory
from syncd.state.unsettled import UNDER_WAY, UnderWay, Unsettled, boot_id
from syncd.state.unwritten import Novelty, Totals, Unwritten
from syncd.state.writer import GroupWriter, Operation, T

log = logging.getLogger("syncd.state")

_PAGE = 1000


class State:
    """The state database. Every method may be called from any thread; all raise StateError.

    Writes are on the disk when the method returns, unless its docstring says otherwise.
    """

    life = 0
    """The number of this process among those that wrote here; 0 when it only reads."""
    interrupted = False
    """The process before this one did not end cleanly: the records of its last objects may be missing."""
    put_back = False
    """The database was put back from a copy: what was uploaded since the copy was made is not in it."""
    _unclean_life = 0
    destinations: tuple[Destination, ...] = ()
    """Where the files of the sources go, since `serve`."""

    def __init__(
        self,
        path: str,
        instance_id: str,
        rebuilt: str | None,
        writer: GroupWriter | None,
        now_ns: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.instance_id = instance_id
        self.rebuilt = rebuilt
        """Why a new database had to be built (nothing may be deleted until all is seen again), or None."""
        self._path = path
        self._now_ns = now_ns
        self._writer = writer
        self._reader = Reader(path)
        self._unwritten = Unwritten()
        empty = not self._read(queries.has_files)
        self._novelty = Novelty(empty=empty and writer is not None)  # a reader's may be filled by the daemon
        leave = self._join if writer is None else writer.join
        self._flush_if_due: Callable[[], None] = writer.flush_if_due if writer else lambda: None
        self._totals = Totals(leave, dict(self._all("SELECT name, value FROM totals")))
        self._pauses = {
            (kind, name): until_ns
            for kind, name, until_ns in self._all("SELECT kind, name, until_ns FROM pauses")
        }
        self.unsettled = Unsettled(monotonic, self._write, self._join, boot_id())
        """Objects that a request without an answer may yet change."""
        self.under_way: UnderWay | None = None
        """Requests that are sent now; None where this only reads."""
        self.checkpoints = Checkpoints(self._write, self._reader.run)
        """Unfinished uploads."""
        self.failures = Failures(self._join, self._reader.run, self._catch_up)
        """Why files could not be carried."""
        self.audits = Audits(self._write, self._reader.run, self.flush)
        """What audits found."""
        self.history = History(leave, self._reader.run)
        """The last actions. What is not written yet is missing in it: call `flush` before."""
        self.locks = KeyLocks()
        """Objects that a thread of this process changes now."""
        self._secret = b""
        self._learned: dict[tuple[str, str], str | None] = {}
        """What was read or written of it: asked for each request, and written by no other process."""

    # ---- opening and closing ----------------------------------------------------------------------------

    @classmethod
    def open(
        cls, directory: str, *, now_ns: Callable[[], int], monotonic: Callable[[], float] = time.monotonic
    ) -> State:
        """Open, check and where necessary build the database in `directory` (made with mode 0700).

        The caller holds the `StateLock`. A damaged or foreign database is moved aside and `rebuilt` says
        why. `now_ns` is the wall clock, `monotonic` the clock of joined writes. Raises StateError, also
        when the database was written by a newer syncd: then it stays untouched.
        """
        new_id = secrets.token_hex(16)
        path, instance_id, rebuilt = schema.prepare(directory, instance_id=new_id, now_ns=now_ns())
        if rebuilt:
            log.warning("the state starts empty: %s; objects are compared before anything is sent", rebuilt)
        writer = GroupWriter(path, monotonic)
        with ExitStack() as failed:
            failed.callback(writer.close)
            state = cls(path, instance_id, rebuilt, writer, now_ns, monotonic)
            failed.callback(state._reader.close)
            seen = os.stat(path)
            state.life, state._unclean_life, ended, state.put_back = writer.run(
                lambda connection: queries.begin_life(connection, seen.st_ino, seen.st_ctime_ns)
            )
            state.interrupted = not ended
            if not state.secret:
                writer.run(lambda connection: queries.keep_secret(connection, secrets.token_bytes(32)))
            state.unsettled.load(state._read(queries.all_unsettled))
            state.under_way = UnderWay(os.path.join(directory, UNDER_WAY))
            failed.callback(state.under_way.close)
            for store_id, key, creates in state.under_way.left():
                state.unsettled.add(store_id, key, creates=creates)
            state.under_way.clear()
            failed.pop_all()
        if state.put_back:
            log.warning(
                "the state was restored from a copy: syncd compares all objects before it relies on them"
            )
        if state.interrupted:
            log.info("the last run did not end cleanly: objects are compared before anything is sent")
        return state

    @classmethod
    def open_read_only(cls, directory: str) -> State:
        """Open for `status`, beside a running daemon or without one. Raises StateError if there is none."""
        path = os.path.join(directory, schema.DATABASE_NAME)
        if not os.path.exists(path):
            raise StateError(
                f"there is no state database in {directory}; `syncd run` or `syncd sync` makes one"
            )
        return cls(path, schema.identity_of(path), None, None)

    @property
    def secret(self) -> bytes:
        """What makes witnesses: known to all who may read this state. Empty before anything was written."""
        if not self._secret:
            row = self._row("SELECT seed FROM secret")
            self._secret = row[0] if row else b""
        return self._secret

    @property
    def unclean_life(self) -> int:
        """The last life that did not end cleanly; what was compared in a later one is right."""
        return self.life - 1 if self.interrupted else self._unclean_life

    @property
    def commits(self) -> int:
        """Transactions committed since the start."""
        return self._writer.commits if self._writer else 0

    def flush(self) -> None:
        """Write what was joined. The caller has no more work."""
        if self._writer is not None:
            self._writer.flush()

    def give_back_memory(self) -> None:
        """Free cached pages of the database, and what only a first pass needs. Raises StateError."""
        self._novelty = Novelty(empty=False)
        self._reader.give_back_memory()
        if self._writer is not None:
            self._writer.run(give_back_memory)

    def lost(self) -> str | None:
        """Return why the database (removed, replaced, damaged) needs another `open`; None: it does not."""
        return self._reader.damage or (self._writer.lost() if self._writer is not None else None)

    def close(self, *, clean: bool = True) -> None:
        """Flush and close, also when it raises. Sets aside a damaged database, which a check may miss.

        This life ends cleanly if nothing failed to be written in it. The caller passes ``clean=False`` while
        a thread may still change an object.
        """
        self._novelty = Novelty(empty=False)  # every question from now on reaches the closed reader
        with ExitStack() as last:
            if self._writer is not None:
                if self._reader.damage or self._writer.is_damaged:
                    last.callback(schema.set_aside, self._path, time.time_ns())
                last.callback(self._writer.close)
            if self.under_way is not None:
                last.callback(self.under_way.close)
            last.callback(self._reader.close)
            self.flush()
            if clean and self._writer is not None and not self._writer.has_failed:
                with suppress(StateError):  # nothing is lost: the next life compares more than it has to
                    self._writer.run(
                        lambda connection: queries.end_life(connection, self.life, self._now_ns())
                    )

    # ---- recorded files ---------------------------------------------------------------------------------

    def recorded(self, ref: FileRef) -> Recorded | None:
        """Return what was last committed for a file, written or not; None: nothing."""
        self._flush_if_due()
        if self._novelty.is_new(ref):
            return None
        with self._unwritten.lock:
            if ref in self._unwritten.files:
                return self._unwritten.files[ref]
        return self._reader.run_one(lambda connection: queries.find_file(connection, ref))

    def recorded_page(
        self, source: str, after: bytes | None, limit: int, below: bytes = b"", *, kept: bool = False
    ) -> list[tuple[bytes, Recorded]]:
        """Return at most `limit` recorded files behind `after`, in the order of their path bytes.

        `below` is a directory without trailing slash: only paths under it. With `kept` also those that were
        deleted and whose objects are kept.
        """
        self.flush()
        start = b"" if after is None else after + b"\0"
        return self._read(queries.file_page, source, start, below, limit, kept)

    def all_recorded(self, source: str, below: str = "") -> Iterator[tuple[FileRef, Recorded]]:
        """Yield all recorded files of `source`, or of its directory `below`, with those that are kept."""
        after: bytes | None = None
        while page := self.recorded_page(source, after, _PAGE, os.fsencode(below), kept=True):
            for path, row in page:
                yield FileRef(source, os.fsdecode(path)), row
            after = page[-1][0]

    def outline_page(
        self,
        source: str,
        aim: tuple[str, bytes],
        start: bytes,
        below: bytes,
        limit: int,
        *,
        kept: bool = False,
    ) -> list[queries.Row]:
        """Return what a scan compares, from path `start` on, as plain tuples; see `queries.outline_page`."""
        self.flush()
        return self._read(queries.outline_page, source, aim, start, below, limit, kept)

    @cached_property
    def _has_folders(self) -> bool:
        """Whether there may be one to find: a first pass does not write earlier in order to look."""
        return bool(self._all("SELECT 1 FROM folders LIMIT 1"))

    def folder(self, source: str, prefix: bytes) -> queries.Folder | None:
        """The first folder from `prefix` on that is known as a whole; see `queries.find_folder`."""
        if not self._has_folders:
            return None
        self.flush()
        return self._reader.run_one(lambda connection: queries.find_folder(connection, source, prefix))

    def keep_folders(
        self, source: str, prefixes: Sequence[bytes], aim: tuple[str, bytes], terms: bytes, *, kept: bool
    ) -> None:
        """All files of these were found as recorded: know each as a whole. Joined with later writes."""

        def operation(connection: sqlite3.Connection) -> None:
            for prefix in prefixes:
                queries.keep_folder(connection, source, prefix, aim, terms, kept=kept)

        self._join(operation)
        self._has_folders = True

    def find_content(
        self, store_id: str, fingerprint: Fingerprint, limit: int = 4
    ) -> Iterator[tuple[FileRef, Recorded]]:
        """Recorded files of this very content in this store, at most `limit`: first one that is not written.

        Only where the caller reads on is the database asked, of whose pages each commit empties the memory.
        """
        if self._novelty.is_new(fingerprint):
            return
        with self._unwritten.lock:
            twins, overtaken = self._unwritten.twins(store_id, fingerprint), set(self._unwritten.files)
        yield from twins
        yield from self._reader.run_one(
            lambda c: queries.find_content(c, store_id, fingerprint, limit - len(twins), overtaken)
        )

    def recorded_totals(self, source: str) -> tuple[int, int]:
        """Return the number of recorded files of `source`, and the sum of their sizes in bytes."""
        self.flush()
        row = self._row("SELECT files, bytes FROM sources WHERE name = ?", source)
        return (row[0], row[1]) if row else (0, 0)

    def commit(
        self,
        ref: FileRef,
        recorded: Recorded,
        *,
        checkpoint_id: int | None = None,
        part_digests: PartDigests | None = None,
        durable: bool = True,
        mends: bool = False,
    ) -> None:
        """Record an object that is there; drop the checkpoint with its parts, and the failure.

        An object that was made or proven now `mends` what an audit found. `part_digests` of a large file are
        kept until its content changes. With ``durable=False`` (and no checkpoint) the commit may wait: the
        next call after about 100 ms, `flush` or `close` writes it, and no more than 256 wait. `recorded` and
        `find_content` see it at once.
        """

        overtaken = recorded.life == OVERTAKEN or not self._is_at_home(
            ref.source, recorded.store_id, recorded.key
        )
        row = replace(recorded, life=OVERTAKEN if overtaken else self.life)

        def operation(connection: sqlite3.Connection) -> None:
            queries.put_file(connection, ref, row)
            if self.failures.may_stand:
                drop_failure(connection, ref)
            if mends:
                self.audits.drop(connection, ref)
            if part_digests is not None:
                queries.put_part_digests(connection, ref, part_digests)
            if checkpoint_id is not None:
                checkpoints.drop(connection, checkpoint_id)

        self._put(ref, row, operation, durable=durable or checkpoint_id is not None)

    def keep(self, ref: FileRef, recorded: Recorded) -> None:
        """Mark the row of a file that was deleted and whose object stays; only `kept` pages show it then.

        Does nothing if the row is no longer `recorded`. Joined with later writes.
        """
        if not recorded.kept:
            self._join(lambda connection: queries.keep_file(connection, ref, recorded))

    def serve(self, destinations: Sequence[Destination]) -> None:
        """Set where the files of the sources go; there are no other sources.

        Rows of other files under these keys stay, but count as overtaken: the store is asked for their
        objects before they are trusted again. Uploads that lead elsewhere become leftovers. A source that is
        no longer configured is forgotten; if it comes back, its objects are compared.
        """
        self.destinations = tuple(destinations)
        self._write(lambda connection: queries.serve(connection, self.destinations))
        if not destinations:  # a configuration for other commands
            return
        for each in self.checkpoints.all():
            if not self._is_at_home(each.ref.source, each.store_id, each.key):
                log.info("%s: its upload ends: its source or store was changed", name_of(each.ref))
                self.checkpoints.leave(
                    Leftover(each.ref, each.store_id, each.key, each.upload_id or "", each.created_ns),
                    each.id,
                )
        configured = {source for source, _, _ in self.destinations}
        for (name,) in self._all("SELECT name FROM sources"):
            if name not in configured:
                log.info("%s: the source is not configured any more: its records are forgotten", name)
                self._write(partial(queries.forget_facts, source=name))  # first: half of it compares all
                self._learned.clear()
                self._pauses.pop(("source", name), None)
                while self._write(partial(queries.forget_files, source=name)):
                    """In steps, because it may be a million."""
                self._write(partial(queries.forget_source, source=name))

    def overtake(self, source: str) -> None:
        """Mark all rows of a source as overtaken, because another program changed its objects."""
        self._write(lambda connection: queries.overtake(connection, source))

    def _is_at_home(self, source: str, store_id: str, key: str) -> bool:
        """Whether the key is the source's own at present, so that no other source can have written there."""
        for each in self.destinations:
            if each.source == source and each.store_id == store_id and key.startswith(each.prefix):
                return True
        return not self.destinations

    def doubt(self, ref: FileRef, recorded: Recorded) -> None:
        """The object may no longer be what `recorded` says: its row stays, without an ETag, and not firm."""
        self.commit(ref, replace(recorded, etag="", racy=True))

    def part_digests(self, ref: FileRef) -> PartDigests | None:
        """Return the part digests of the recorded content of a file; None: it did not go in parts."""
        return self._read(queries.find_part_digests, ref)

    def chunks(self, ref: FileRef) -> bytes:
        """Return the chunks of the recorded content of a file; empty: not known."""
        return self._read(queries.find_chunks, ref)

    def find_blocks(self, grid: PartDigests, limit: int = 4) -> list[FileRef]:
        """Return at most `limit` recorded files that have blocks of this grid at the same places."""
        return self._read(queries.find_blocks, grid, limit)

    def has_size(self, store_id: str, size: int) -> bool:
        """Return whether content of this size (bytes) is recorded in a store."""
        self.flush()
        return self._read(queries.has_size, store_id, size)

    def forget(self, ref: FileRef, *, durable: bool = True) -> None:
        """Drop all rows about a file whose object is gone or not ours any more. `durable` as in `commit`."""

        def operation(connection: sqlite3.Connection) -> None:
            queries.drop_file(connection, ref)
            drop_failure(connection, ref)
            self.audits.drop(connection, ref)

        self._put(ref, None, operation, durable=durable)

    # ---- totals, what was learned -----------------------------------------------------------------------

    def add_totals(
        self,
        *,
        bytes_sent: int = 0,
        saved: Mapping[Cause, int] = MappingProxyType({}),
        requests: int = 0,
        xattrs_left_out: int = 0,
    ) -> None:
        """Add to the counters of all time. Joined with later writes.

        `bytes_sent` of a file also count for the cause that `saved` most of it.
        """
        counted = {"bytes_sent": bytes_sent, "requests": requests, "xattrs_left_out": xattrs_left_out}
        if saved:
            counted["bytes_saved"] = sum(saved.values())
            counted |= {f"bytes_saved:{cause.value}": size for cause, size in saved.items()}
            counted[f"bytes_sent:{max(saved, key=saved.__getitem__).value}"] = bytes_sent
        self._totals.add(counted)

    def totals(self) -> dict[str, int]:
        """Return the counters of all time that are not 0: ``bytes_sent``, ``bytes_saved``, ``requests``,
        ``xattrs_left_out``, and the first two by cause, such as ``bytes_sent:delta``.
        """
        return self._totals.all()

    def learned(self, store_id: str, name: str) -> str | None:
        """Return what was learned about a store under this name, such as its smallest part; None: nothing."""
        try:
            return self._learned[store_id, name]
        except KeyError:
            row = self._row("SELECT value FROM learned WHERE store_id = ? AND name = ?", store_id, name)
            return self._learned.setdefault((store_id, name), str(row[0]) if row else None)

    def learn(self, store_id: str, name: str, value: str) -> None:
        """Remember what was learned about a store. If this raises StateError, only this process remembers."""
        values = (store_id, name, value)
        self._learned[store_id, name] = value
        self._write(lambda c: c.execute("INSERT OR REPLACE INTO learned VALUES (?, ?, ?)", values))

    def unlearn(self, name: str) -> None:
        """Forget what was learned about every store under this name."""
        self._write(lambda c: c.execute("DELETE FROM learned WHERE name = ?", (name,)))
        self._learned.clear()

    # ---- what the operator paused -----------------------------------------------------------------------

    def pauses(self) -> dict[tuple[str, str], int]:
        """Return until when each is paused, by kind (``source``, ``store``, ``all``) and name; 0: no end."""
        now_ns = self._now_ns()
        return {
            what: until_ns for what, until_ns in sorted(self._pauses.items()) if not 0 < until_ns <= now_ns
        }

    def pause(self, kind: str, name: str, until_ns: int) -> None:
        """Remember or replace a pause."""
        values = (kind, name, until_ns)
        self._write(lambda c: c.execute("INSERT OR REPLACE INTO pauses VALUES (?, ?, ?)", values))
        self._pauses[kind, name] = until_ns

    def resume(self, names: Sequence[tuple[str, str]]) -> None:
        """Forget these pauses. Harmless if there are none."""
        self._write(lambda c: c.executemany("DELETE FROM pauses WHERE kind = ? AND name = ?", names))
        for what in names:
            self._pauses.pop(what, None)

    # ---- sources ----------------------------------------------------------------------------------------

    def root_identity(self, source: str) -> RootIdentity | None:
        """Return which directory the root of `source` was when a scan last saw it whole; None: unknown."""
        row = self._row("SELECT root_device, root_inode, root_volume FROM sources WHERE name = ?", source)
        if row is None or row[0] is None:
            return None
        return RootIdentity(queries.unfold(row[0]), queries.unfold(row[1]), row[2])

    def set_root_identity(self, source: str, identity: RootIdentity) -> None:
        """Record which directory the root of `source` is, after a scan saw it whole."""
        values = (queries.fold(identity.device), queries.fold(identity.inode), identity.volume, source)
        sql = "UPDATE sources SET root_device = ?, root_inode = ?, root_volume = ? WHERE name = ?"
        self._change_source(source, sql, values)

    def renumber_device(self, source: str, old: int, new: int) -> None:
        """Follow a file system of `source` to another device number (a disk plugged in again, a reboot).

        What was recorded or begun on device `old` counts as of `new`: inodes and times stay as they were, so
        nothing is believed that the file itself does not show again.
        """
        self._write(lambda c: queries.renumber_device(c, source, old, new))

    def note_scan(
        self,
        source: str,
        finished_ns: int,
        drift: int,
        unseen: str = "",
        skipped: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Record that a scan of the whole source ended, with `drift` changes that no event had announced.

        `unseen` says what it could not see, `skipped` how many of each kind it left out.
        """
        sql = "UPDATE sources SET last_scan_ns = ?, drift = drift + ?, unseen = ?, skipped = ? WHERE name = ?"
        told = json.dumps(dict(skipped))
        self._change_source(source, sql, (queries.fold(finished_ns), drift, unseen, told, source))

    def summaries(self, *, exact: bool = True) -> dict[str, Summary]:
        """Return what is known of each source, by its name, all of one moment."""
        self._catch_up(exact)
        return {
            name: Summary(files, size, LastScan(ended_ns, drift, unseen, json.loads(skipped)), *more)
            for name, files, size, ended_ns, drift, unseen, skipped, *more in self._reader.run_one(
                queries.summaries
            )
        }

    def last_scan(self, source: str) -> LastScan:
        """Return what is known of the last scan of the whole source, and of all drift."""
        row = self._row("SELECT last_scan_ns, drift, unseen, skipped FROM sources WHERE name = ?", source)
        return LastScan(row[0], row[1], row[2], json.loads(row[3])) if row else LastScan()

    # ---- how --------------------------------------------------------------------------------------------

    def _read(self, verb: Callable[..., T], *values: object) -> T:
        return self._reader.run(lambda connection: verb(connection, *values))

    def _all(self, sql: str, *values: object) -> list[queries.Row]:
        return self._reader.run(lambda connection: connection.execute(sql, values).fetchall())

    def _row(self, sql: str, *values: object) -> queries.Row | None:
        found = self._all(sql, *values)
        return found[0] if found else None

    def _write(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        return self._writing().run(operation)

    def _join(self, operation: Operation) -> None:
        self._writing().join(operation)
        self._flush_if_due()

    def _writing(self) -> GroupWriter:
        if self._writer is None:
            raise StateError(f"the state database {self._path} was opened for reading only; {MISTAKE}")
        return self._writer

    def _catch_up(self, exact: bool) -> None:
        """Before a read that has to see everything. One that is not `exact` may lack the last third of a
        second: then it does not stand in line with all threads that wait for the disk, nor fail with it.
        """
        if exact:
            self.flush()
        elif self._writer is not None:
            self._writer.flush_if_left()

    def _put(self, ref: FileRef, recorded: Recorded | None, operation: Operation, *, durable: bool) -> None:
        if recorded is not None:
            self._novelty.add(ref, recorded.fingerprint)
        if durable:
            self._write(operation)
            return
        with self._unwritten.lock:
            self._writing().join(operation, partial(self._unwritten.settled, ref, recorded))
            self._unwritten.add(ref, recorded)
        self._flush_if_due()

    def _change_source(self, source: str, sql: str, values: tuple[object, ...]) -> None:
        def operation(connection: sqlite3.Connection) -> None:
            queries.ensure_source(connection, source)
            connection.execute(sql, values)

        self._write(operation)
