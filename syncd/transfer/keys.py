"""Which object a file has, and who may change it: what deletes, aborts or overwrites holds its key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress

from syncd.core import paths, plan
from syncd.core.errors import (
    FileChanged,
    StateError,
    Stopped,
)
from syncd.core.model import (
    Checkpoint,
    FileRef,
    FileStat,
    LinkStat,
    Recorded,
)
from syncd.state.key_locks import Exclusive
from syncd.transfer.in_doubt import InDoubt
from syncd.transfer.local import EngineSource
from syncd.transfer.part_sender import Job
from syncd.transfer.uploader import Uploader


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
        """The object key of a file, or of a link where that was `seen`."""
        prefix = self._sources[ref.source].source.prefix
        return paths.key_for(prefix, ref.path, is_link=isinstance(seen, LinkStat))

    def aimed(self, recorded: Recorded | None, key: str) -> Recorded | None:
        """The record, if it describes the object that this file should have; any other proves nothing."""
        if recorded is None or recorded.key != key or recorded.store_id != self._store_id:
            return None
        return recorded

    def is_in_doubt(self, ref: FileRef, recorded: Recorded, unfinished: Checkpoint | None) -> bool:
        """Whether the object may be another one than the record says. Raises StateError."""
        reconciling = self._sources[ref.source].reconciling
        return self._in_doubt.about(ref, recorded, unfinished, reconciling=reconciling)

    def exclusive(self, ref: FileRef, key: str) -> Exclusive:
        """Surrounds what changes the object of a file. Taken before any slot, which others may wait for."""
        name = (self._store_id, key)
        return self._state.locks.exclusive(
            self._uploader, name, waiting=self._waiting, lost=lambda: self._overtaken(ref, key)
        )

    def still_recorded(self, ref: FileRef, recorded: Recorded | None) -> None:
        """Raises FileChanged if another thread recorded the file before this one had the key."""
        if self._state.recorded(ref) != recorded:
            raise FileChanged("it was recorded by an earlier request")

    def request_slot(self, job: Job) -> AbstractContextManager[None]:
        """A small file holds its slot already, with its content; a large one takes one for the request."""
        return nullcontext() if job.body is not None else self._uploader.slots.hold(0)

    def _waiting(self) -> None:
        if self._should_stop():
            raise Stopped

    def _overtaken(self, ref: FileRef, key: str) -> None:
        """A reload went on without this thread, whose request may have ended after those that followed."""
        store_id = self._store_id
        owner = plan.owner_of(key, store_id, self._state.destinations)
        with suppress(StateError):  # then this process is about to end, and not cleanly
            self._state.unsettled.add(store_id, key, creates=True)
            for each in {ref, owner or ref}:
                recorded = self._state.recorded(each)
                if recorded is not None:
                    self._in_doubt.keep(each, recorded)
