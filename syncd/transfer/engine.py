"""One step for one file: observe, plan, carry out, commit. No loop, no thread, no clock of its own.

``sync(ref)`` may be called by many threads for different files of one store, never twice at once for one
file. Whatever it raises left the state such that calling it again does the right thing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import NamedTuple

from syncd.core import paths, plan
from syncd.core.errors import FileChanged, FileUnreadable, FileVanished, StoreRefused
from syncd.core.model import (
    Action,
    Copy,
    Delete,
    FileRef,
    FileStat,
    Irregular,
    Nothing,
    ObjectMeta,
    Observed,
    PartDigests,
    Receipt,
    Recorded,
    RootIdentity,
    Source,
    TransferPolicy,
    Upload,
)
from syncd.core.outcome import Outcome, RootChanged
from syncd.core.parts import fits_one_request, part_size_for
from syncd.sources import files, fingerprint
from syncd.sources.files import Body, OpenFile
from syncd.sources.fingerprint import Digests
from syncd.sources.scan import walk
from syncd.transfer import affinity as processors
from syncd.transfer.in_doubt import InDoubt
from syncd.transfer.part_sender import Job, content_type_of
from syncd.transfer.reuse import Reuse
from syncd.transfer.slots import KeyLocks, Slots
from syncd.transfer.uploader import Carried, PartSizeRefused, Uploader

log = logging.getLogger("syncd.transfer")

RACY_WINDOW_NS = 2_000_000_000
"""A stat younger than this proves nothing (clocks are coarse): such a file is looked at once more."""


MOST_READERS = 8
"""Large files that are read at once: a disk that has to move its head between more of them gets slow."""


class _Seen(NamedTuple):
    """A file read or fingerprinted; `body` is the content where it fits one request."""

    stat: FileStat
    digests: Digests
    part_size: int
    body: Body | None

    @property
    def grid(self) -> PartDigests:
        """The digests of the parts; without any where the file fits one request."""
        return PartDigests(self.part_size, self.digests.parts)


@dataclass(frozen=True, slots=True)
class EngineSource:
    """What a step has to know about a source. The source's runner owns it, and replaces it whole."""

    source: Source
    root_identity: RootIdentity | None = None
    """Which directory the root is known to be; None: that is not checked."""
    reconciling: bool = False
    """Its records may be lost: the store is asked for an object before a new file is sent."""


class Engine:
    """Steps for the files of the sources that share one store."""

    def __init__(
        self,
        sources: dict[str, EngineSource],
        uploader: Uploader,
        policy: TransferPolicy,
        *,
        now_ns: Callable[[], int],
        should_stop: Callable[[], bool],
    ) -> None:
        self.sources = sources
        self.store = uploader.store
        self.state = uploader.state
        self._uploader = uploader
        self._bounds = uploader.bounds
        self.policy = policy
        self.readers = Slots(min(policy.concurrency, MOST_READERS), 0, self._bounds.beats)
        """Who reads a large file for its fingerprint."""
        self._now_ns = now_ns
        self._should_stop = should_stop
        self._keys = KeyLocks(self._bounds.beats)
        self._reuse = Reuse(self.store, self.state, self._keys)
        self._doubts = InDoubt(self.store, self.state, now_ns)

    # ---- the step ---------------------------------------------------------------------------------------

    def sync(
        self, ref: FileRef, *, event: bool, rest_seconds: float = 0.0, delete_allowed: bool = False
    ) -> Outcome:
        """Look at one path and do what is to be done.

        `event` says that something marked the path since it was recorded. A file whose own stat is younger
        than `rest_seconds` is not read: FileChanged. The object of a file that is gone is removed only if
        `delete_allowed`. Raises FileError, StoreError, StateError, Stopped.
        """
        known = self.sources[ref.source]
        recorded = self.state.recorded(ref)
        with _root(known) as root_fd:
            seen = files.look(root_fd, ref.path)
            if seen is None or isinstance(seen, Irregular):
                outcome = self._absent(known.source, ref, seen, recorded, root_fd)
                if recorded is None or not (outcome.wants_delete and delete_allowed):
                    return outcome
                return self._delete(ref, recorded, outcome.action)
            key = self.key(ref)
            if plan.needs_fingerprint(seen, self._aimed(recorded, key), event=event) is None:
                return Outcome(Nothing("unchanged"), size=seen.size)
            problem = paths.key_problem(key, self.store.limits.max_key_bytes)
            if problem is not None:
                raise StoreRefused(problem, hint="rename the file, or exclude it")
            with files.open_file(root_fd, ref.path) as file, processors.room_for(file.opened.size):
                if plan.is_restless(file.opened, self._now_ns(), int(rest_seconds * 1e9)):
                    raise FileChanged("the file was changed a moment ago")
                step = self._carry(ref, key, file, recorded)
            if files.look(root_fd, ref.path) != step.stat:
                raise FileChanged("the path leads to another file than the one that was read")
            return step.outcome

    def plan(self, ref: FileRef, *, event: bool = False) -> tuple[Action, int]:
        """What `sync` would do, and the file's size in bytes. Reads the file, sends nothing."""
        known = self.sources[ref.source]
        recorded = self.state.recorded(ref)
        with _root(known) as root_fd:
            seen = files.look(root_fd, ref.path)
            if seen is None or isinstance(seen, Irregular):
                return self._decide(known.source, ref, seen, recorded), 0
            key = self.key(ref)
            if plan.needs_fingerprint(seen, self._aimed(recorded, key), event=event) is None:
                return Nothing("unchanged"), seen.size
            with files.open_file(root_fd, ref.path) as file:
                stat = file.stat()
                digests = fingerprint.compute(file, stat.size, self._part_size(stat.size), self._should_stop)
            observed = Observed(stat, digests.fingerprint)
            return self._decide(known.source, ref, observed, recorded), stat.size

    def key(self, ref: FileRef) -> str:
        """The object key of a file."""
        return paths.key_for(self.sources[ref.source].source.prefix, ref.path)

    # ---- observing --------------------------------------------------------------------------------------

    def _aimed(self, recorded: Recorded | None, key: str) -> Recorded | None:
        """The record, if it is about the object that this file should have; another one proves nothing."""
        if recorded is None or recorded.key != key or recorded.store_id != self.store.store_id:
            return None
        return recorded

    def _absent(
        self, source: Source, ref: FileRef, seen: Irregular | None, recorded: Recorded | None, root_fd: int
    ) -> Outcome:
        """Nothing to read here: its unfinished upload is given up, and its object may have to go."""
        checkpoint = self._uploader.unfinished(ref)
        if checkpoint is not None and checkpoint.store_id != self.store.store_id:
            checkpoint = None
        known = checkpoint or recorded
        if known is not None and _is_elsewhere(root_fd, ref, known.stat):
            return Outcome(Nothing("gone with the device that it was on, which may be unmounted"))
        if checkpoint is not None:
            log.info("%s: abort the upload: the file is gone", _name(ref))
            self._uploader.abandon(checkpoint)
        self.state.clear_failure(ref)
        action = self._decide(source, ref, seen, recorded)
        if not isinstance(action, Delete) or recorded is None:
            return Outcome(action)
        if recorded.store_id != self.store.store_id:
            return Outcome(Nothing("deleted locally, but its object is in another store"))
        return Outcome(action, wants_delete=True)

    def _delete(self, ref: FileRef, recorded: Recorded, action: Action) -> Outcome:
        if self._is_anothers(recorded.key, ref):
            action = Nothing("deleted locally, but its key belongs to another file by now")
        else:
            with self._keys.writing(recorded.key), self._bounds.hold(0):
                self._doubts.keep(ref, recorded)  # whatever becomes of the answer, or of us
                self.store.delete_object(recorded.key)
        self.state.forget(ref)
        self._doubts.settled(ref)
        return Outcome(action)

    def _is_anothers(self, key: str, ref: FileRef) -> bool:
        """Whether the object under this key is another file's, as it may be after prefixes were changed."""
        for known in list(self.sources.values()):
            path = paths.path_for(known.source.prefix, key)
            other = FileRef(known.source.name, path) if path is not None else ref
            row = self.state.recorded(other) if other != ref else None
            if row is not None and (row.store_id, row.key) == (self.store.store_id, key):
                return True
        return False

    def _decide(
        self,
        source: Source,
        ref: FileRef,
        observed: Observed | Irregular | None,
        recorded: Recorded | None,
    ) -> Action:
        key = self.key(ref)
        twin = self._reuse.twin(key, observed.fingerprint) if isinstance(observed, Observed) else None
        return plan.decide(
            observed,
            recorded,
            store_id=self.store.store_id,
            key=key,
            on_delete=source.on_delete,
            twin=twin,
        )

    # ---- acting -----------------------------------------------------------------------------------------

    def _carry(self, ref: FileRef, key: str, file: OpenFile, recorded: Recorded | None) -> _Step:
        """Read, decide, act, commit: with the file open."""
        stat = file.opened
        if fits_one_request(stat.size, self.policy.part_size, self._uploader.limits()):
            with self._bounds.hold(stat.size):  # the content is in memory until it is sent
                body = file.read(0, stat.size)
                digests = Digests(fingerprint.of_bytes(body), ())
                seen = _Seen(stat, digests, 0, body)
                return self._act(ref, key, file, seen, recorded)
        for attempt in (1, 2):
            part_size = self._part_size(stat.size)
            with self.readers.hold(0):
                digests = fingerprint.compute(file, stat.size, part_size, self._should_stop)
            try:
                return self._act(ref, key, file, _Seen(stat, digests, part_size, None), recorded)
            except PartSizeRefused:
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")

    def _act(self, ref: FileRef, key: str, file: OpenFile, seen: _Seen, recorded: Recorded | None) -> _Step:
        looked_ns = self._now_ns()
        if file.stat() != seen.stat:
            raise FileChanged("the file changed while it was read")
        if plan.may_hide_a_change(seen.stat, looked_ns, RACY_WINDOW_NS):
            quiet_seconds = RACY_WINDOW_NS / 1e9
            raise FileChanged("it changed a moment ago, on a disk that counts in seconds", quiet_seconds)
        observed = Observed(seen.stat, seen.digests.fingerprint)
        action = self._decide(self.sources[ref.source].source, ref, observed, recorded)
        action, standing = self._confirmed(action, ref, key, seen, recorded)
        racy = plan.is_racy(seen.stat, looked_ns, RACY_WINDOW_NS)
        carried = self._perform(action, ref, key, file, seen, recorded)
        if carried is None and standing is not None:  # Nothing or Refresh: the object stands as it is
            carried = Carried(standing, None, 0, 0)
        if carried is None:
            raise AssertionError(f"{action} without a record")
        row = Recorded(
            stat=seen.stat,
            fingerprint=seen.digests.fingerprint,
            store_id=self.store.store_id,
            key=key,
            etag=carried.receipt.etag,
            recorded_ns=looked_ns,
            racy=racy,
        )
        soon = racy and seen.stat.ctime_ns <= looked_ns + RACY_WINDOW_NS  # else the next scan will do
        again = RACY_WINDOW_NS / 1e9 + 0.1 if soon else None
        doubt_ns = plan.doubt_left_ns(self._aimed(recorded, key), looked_ns)
        doubt_seconds = doubt_ns / 1e9 + 1.0 if doubt_ns else None
        if recorded is not None and doubt_ns:  # what was just seen or made may be removed yet
            row = replace(row, etag="", recorded_ns=recorded.recorded_ns, racy=True)
        if recorded is None or replace(recorded, recorded_ns=looked_ns) != row:
            self._commit(ref, row, carried, seen)
        self._doubts.settled(ref)
        return _Step(
            Outcome(action, carried.bytes_sent, carried.bytes_saved, again, doubt_seconds, seen.stat.size),
            seen.stat,
        )

    def _confirmed(
        self, action: Action, ref: FileRef, key: str, seen: _Seen, recorded: Recorded | None
    ) -> tuple[Action, Receipt | None]:
        """The action, and the object where it stays as it is. If its row is in doubt, the store is asked."""
        recorded = self._aimed(recorded, key)
        if recorded is None:
            return action, None
        unfinished = self._uploader.unfinished(ref)
        doubtful = self._doubts.about(
            ref, recorded, unfinished, reconciling=self.sources[ref.source].reconciling
        )
        if unfinished is not None and unfinished.completing:
            self._doubts.keep(ref, recorded)  # what says so until now may be dropped before there is a row
        if isinstance(action, Upload | Copy):
            return action, None
        if not doubtful:
            return action, Receipt(recorded.key, recorded.etag)
        if unfinished is not None and unfinished.store_id == self.store.store_id:
            self._uploader.abandon(unfinished)  # before the question, or it could be completed after that
        with self._request_slot(seen):
            there = self._doubts.ask(recorded)
        return (Upload("its object is not what was recorded"), None) if there is None else (action, there)

    def _commit(self, ref: FileRef, row: Recorded, carried: Carried, seen: _Seen) -> None:
        """A small file's row may join others in one transaction: lost, its object is found by asking."""
        stale = self._uploader.unfinished(ref) if carried.checkpoint_id is None else None
        if stale is not None and stale.store_id == self.store.store_id:
            self._uploader.abandon(stale)
        grid = seen.grid if seen.body is None else None
        self.state.commit(
            ref,
            row,
            checkpoint_id=carried.checkpoint_id,
            part_digests=grid,
            durable=carried.checkpoint_id is not None,
        )
        self._uploader.finished(ref)
        if carried.bytes_sent or carried.bytes_saved:
            self.state.add_totals(bytes_sent=carried.bytes_sent, bytes_saved=carried.bytes_saved)

    def _perform(
        self, action: Action, ref: FileRef, key: str, file: OpenFile, seen: _Seen, recorded: Recorded | None
    ) -> Carried | None:
        """Carry the action out; None where the object stands as it is."""
        if not isinstance(action, Upload | Copy):
            return None
        meta = self._meta(ref, seen)
        aimed = self._aimed(recorded, key)
        with self._request_slot(seen), self._doubts.changing(ref, aimed):
            there = self._there(action, ref, key, meta)
        if there is not None:
            return Carried(there, None, 0, seen.stat.size)
        with self._keys.writing(key):
            if seen.body is not None:
                with self._doubts.changing(ref, aimed):
                    receipt = self._uploader.put(ref, key, seen.body, meta)
                return Carried(receipt, None, len(seen.body), 0)
            donor = self._reuse.donor(action, ref, recorded, seen.grid)
            job = Job(ref, key, file, seen.stat, seen.digests, seen.part_size, meta.content_type, donor)
            return self._uploader.upload(job)

    def _there(self, action: Upload | Copy, ref: FileRef, key: str, meta: ObjectMeta) -> Receipt | None:
        """The object, if it can be had without sending the content."""
        if self.sources[ref.source].reconciling:
            there = self._reuse.adopt(key, meta.fingerprint)
            if there is not None:
                return there
        return self._reuse.copy(action.twin, key, meta) if isinstance(action, Copy) else None

    def _request_slot(self, seen: _Seen) -> AbstractContextManager[None]:
        """A small file holds its slot already, with its content; a large one takes one for the request."""
        return nullcontext() if seen.body is not None else self._bounds.hold(0)

    def _meta(self, ref: FileRef, seen: _Seen) -> ObjectMeta:
        content_type = content_type_of(ref.path)
        return ObjectMeta(seen.digests.fingerprint, seen.stat.mtime_ns, content_type=content_type)

    def _part_size(self, size: int) -> int:
        return part_size_for(size, self.policy.part_size, self._uploader.limits())


class _Step(NamedTuple):
    outcome: Outcome
    stat: FileStat
    """The stat that the path must still have."""


def _name(ref: FileRef) -> str:
    return f"{ref.source}:{paths.printable(ref.path)}"


__all__ = ["Engine", "EngineSource", "Outcome", "RootChanged"]


@contextmanager
def _root(known: EngineSource) -> Iterator[int]:
    """The root, opened for one step; raises RootChanged unless it is the one that we know."""
    try:
        root_fd = files.open_root(known.source.root)
    except (FileVanished, FileUnreadable) as error:
        raise RootChanged(f"the source's directory cannot be opened: {error}") from error
    try:
        try:
            found = files.identity_of(root_fd)
        except (FileVanished, FileUnreadable) as error:
            raise RootChanged(f"the source's directory cannot be looked at: {error}") from error
        if known.root_identity not in (None, found):
            raise RootChanged("the source's directory is not the one that it was")
        yield root_fd
    finally:
        os.close(root_fd)


def _is_elsewhere(root_fd: int, ref: FileRef, stat: FileStat) -> bool:
    """Whether the file's place is on another device than the file was: it may be out of sight, not gone."""
    try:
        return walk.device_above(root_fd, os.fsencode(ref.path)) != stat.device
    except OSError as error:
        raise FileUnreadable(error.strerror or str(error)) from error
