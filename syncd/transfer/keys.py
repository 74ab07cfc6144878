"""Which object a file has, and who may change it: what deletes, aborts or overwrites holds its key.

It removes objects whose files are gone, each only if it is the recorded one. One object is looked at by a
HEAD. If many go at once, one with its recorded ETag in the `Census` needs none. Any other does, and so does a
row in doubt.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress

from syncd.core import paths, plan
from syncd.core.errors import FileChanged, StateError, Stopped, StoreRefused
from syncd.core.model import (
    OVERTAKEN,
    Checkpoint,
    FileRef,
    FileStat,
    LinkStat,
    ObjectInfo,
    OnDelete,
    Recorded,
)
from syncd.core.paths import name_of, printable
from syncd.core.plan import Nothing, Outcome
from syncd.state.key_locks import Exclusive
from syncd.transfer.in_doubt import Foreigners, InDoubt
from syncd.transfer.local import EngineSource
from syncd.transfer.reuse import Listed
from syncd.transfer.upload.part_sender import Job
from syncd.transfer.upload.uploader import Uploader

log = logging.getLogger("syncd.transfer")


class Keys:
    """The keys of the sources that share one store. For any thread."""

    def __init__(
        self,
        sources: Mapping[str, EngineSource],
        uploader: Uploader,
        in_doubt: InDoubt,
        should_stop: Callable[[], bool],
    ) -> None:
        self._sources = sources
        self._uploader = uploader
        self._state = uploader.state
        self._store_id = uploader.store.store_id
        self._in_doubt = in_doubt
        self._should_stop = should_stop

    def of(self, ref: FileRef, seen: FileStat | None = None) -> str:
        """Return the object key of a file, or of a link if that was `seen`."""
        prefix = self._sources[ref.source].source.prefix
        return paths.key_for(prefix, ref.path, is_link=isinstance(seen, LinkStat))

    def aimed(self, recorded: Recorded | None, key: str) -> Recorded | None:
        """Return the record if it describes the object that the file is to have; another proves nothing."""
        if recorded is None or recorded.key != key or recorded.store_id != self._store_id:
            return None
        return recorded

    def is_in_doubt(self, ref: FileRef, recorded: Recorded, unfinished: Checkpoint | None) -> bool:
        """Return whether the object may be another than the record says. Raises StateError."""
        reconciling = self._sources[ref.source].reconciling
        return self._in_doubt.about(ref, recorded, unfinished, reconciling=reconciling)

    def exclusive(self, ref: FileRef, key: str, *, waits: bool = True) -> Exclusive:
        """Return a context for a change of a file's object. Take it before any slot, which others may wait
        for. A caller that has a slot or another key does not wait, but gets KeyBusy.
        """
        name = (self._store_id, key)
        waiting = self._waiting if waits else None
        return self._state.locks.exclusive(
            self._uploader, name, waiting=waiting, lost=lambda: self._overtaken(ref, key)
        )

    def others(self, ref: FileRef, key: str, size: int, *, is_new: bool) -> ObjectInfo | None:
        """Return another program's object that may have the content of a large file without a record.

        Asked before the file is read, so that one pass makes all digests; asked again before it counts.
        """
        if self._uploader.store.limits.describes_by_reading:
            return None
        with self._uploader.slots.hold(0):
            listed = self.listed(ref, key) if is_new else None
            if listed is not None and (listed.info is None or listed.info.size != size):
                return None
            decides = listed is not None and listed.info is not None and listed.info.md5 is not None
            info = listed.info if listed is not None and decides else self._in_doubt.tell(key)[0]
        return info if info is not None and plan.is_to_prove(info, None, size) else None

    def is_free(self, ref: FileRef, key: str) -> bool:
        """Return whether nothing lies under the key of a file without a record, as far as it matters."""
        if not self._sources[ref.source].reconciling:
            return True
        with self._uploader.slots.hold(0):
            listed = self.listed(ref, key)
        return listed is not None and listed.info is None

    def listed(self, ref: FileRef, key: str) -> Listed | None:
        """Return what the listing of the source says about the key of an unrecorded file; None: nothing."""
        known = self._sources[ref.source]
        if known.listing is None or self._state.unsettled.left_ns(self._store_id, key):
            return None
        return known.listing.find(key)

    def still_recorded(self, ref: FileRef, recorded: Recorded | None) -> None:
        """Raise FileChanged if another thread recorded the file before this one had the key."""
        if self._state.recorded(ref) != recorded:
            raise FileChanged("an earlier request has sent it already")

    def request_slot(self, job: Job) -> AbstractContextManager[None]:
        """Return a slot for one request: a small file has its slot already, with its content."""
        return nullcontext() if job.body is not None else self._uploader.slots.hold(0)

    def _waiting(self) -> None:
        if self._should_stop():
            raise Stopped

    def _overtaken(self, ref: FileRef, key: str) -> None:
        """Note that a request of this thread, which a reload left behind, may have ended after later ones."""
        store_id = self._store_id
        owner = plan.owner_of(key, store_id, self._state.destinations)
        with suppress(StateError):  # then this process ends soon, and not cleanly
            self._state.unsettled.add(store_id, key, creates=True)
            for each in {ref, owner or ref}:
                recorded = self._state.recorded(each)
                if recorded is not None:
                    self._in_doubt.keep(each, recorded)


class Remover:
    """Removes objects for the sources that share one store. For any thread."""

    def __init__(
        self,
        sources: Mapping[str, EngineSource],
        uploader: Uploader,
        keys: Keys,
        in_doubt: InDoubt,
        foreigners: Foreigners,
    ) -> None:
        self._sources = sources
        self._store = uploader.store
        self._state = uploader.state
        self._slots = uploader.slots
        self._keys = keys
        self._in_doubt = in_doubt
        self._foreigners = foreigners

    def delete(self, ref: FileRef, asked: Outcome) -> Outcome:
        """Remove the object of a file that is gone, and forget the file.

        Raises StoreError, also if deletions of the source wait because of another machine; StateError,
        FileChanged, KeyBusy, Stopped.
        """
        action, recorded = asked.action, self._state.recorded(ref)
        if recorded is None:
            return Outcome(action)
        store_id = self._store.store_id
        with self._keys.exclusive(ref, recorded.key):
            self._keys.still_recorded(ref, recorded)
            if self._is_anothers(ref, recorded):
                action = Nothing("deleted locally, but its key belongs to another file by now")
            elif not self._remove(ref, recorded, self._slots.hold(0)):
                action = Nothing("deleted locally, but another program replaced its object")
                log.warning("%s: the object is kept: another program replaced it", name_of(ref))
            if self._state.unsettled.may_appear(store_id, recorded.key):
                left_ns = self._state.unsettled.left_ns(store_id, recorded.key)
                return Outcome(action, doubt_seconds=left_ns / 1e9 + 1.0)  # the row causes the next look
            self._state.forget(ref)
            self._in_doubt.settled(ref)
        return Outcome(action)

    def _is_anothers(self, ref: FileRef, recorded: Recorded) -> bool:
        """Return whether the key is where the file of another source goes at present."""
        owner = plan.owner_of(recorded.key, self._store.store_id, self._state.destinations)
        return owner not in (None, ref)

    def _remove(self, ref: FileRef, recorded: Recorded, slot: AbstractContextManager[object]) -> bool:
        """Remove the object, or find none; False: another program replaced it, and it stays."""
        self._foreigners.check(ref.source)
        with slot:
            is_in_doubt = self._keys.is_in_doubt(ref, recorded, None)
            if is_in_doubt or not self._is_listed(ref, recorded):
                info = self._in_doubt.look(recorded.key)
                if info is None:
                    return True
                # No request of this source left what another source of this machine may have put there.
                in_doubt = is_in_doubt and recorded.life != OVERTAKEN
                whose = ref.source, self._sources[ref.source].instance
                if not self._foreigners.may_delete(whose, info, recorded, in_doubt=in_doubt):
                    if not is_in_doubt:
                        self._foreigners.suspect(whose, info, recorded)
                    return False
            self._in_doubt.keep(ref, recorded)  # in case the answer is lost, or this process dies
            if (listing := self._sources[ref.source].listing) is not None:
                listing.close()
            self._store.delete_object(recorded.key)
            return True

    def _is_listed(self, ref: FileRef, recorded: Recorded) -> bool:
        """Return whether a listing shows the recorded object. The caller holds a slot and the key."""
        census = self._sources[ref.source].census
        if census is None or self._state.unsettled.left_ns(self._store.store_id, recorded.key):
            return False
        return census.etag(recorded.key) == recorded.etag != ""

    def remove_other_kind(self, job: Job) -> None:
        """Remove the object of a file that a link replaced, or the other way round, before its row goes.

        It is removed if the source deletes, and only if it is the recorded one. What the store refuses is
        left, because the path has its object. Raises StoreError, KeyBusy: then nothing is recorded, and the
        next try finds the new object and the old one. The caller holds the key of the new one.
        """
        ref, recorded = job.ref, job.recorded
        deletes = self._sources[ref.source].source.on_delete is OnDelete.DELETE
        if not deletes or recorded is None or recorded.store_id != self._store.store_id:
            return
        if paths.is_link_key(recorded.key) == paths.is_link_key(job.key):
            return
        try:
            with self._keys.exclusive(ref, recorded.key, waits=False):
                if not self._is_anothers(ref, recorded):
                    self._remove(ref, recorded, self._keys.request_slot(job))
        except StoreRefused as error:
            log.warning("%s: its old object %s is left: %s", name_of(ref), printable(recorded.key), error)
