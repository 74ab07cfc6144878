"""Finds content that the store already holds, so that it need not be sent, or not all of it.

A record alone is no proof. A copy inside the store checks both objects before and after, since some servers
ignore the condition of the request; parts copied from a donor are proven by their ETags.
"""

from __future__ import annotations

from syncd.core import plan
from syncd.core.model import (
    Copy,
    Observed,
    Receipt,
    Recorded,
    Upload,
)
from syncd.state.state import State
from syncd.storage.base import ObjectStore
from syncd.transfer.part_sender import Donor, Job


class Reuse:
    """Looks for content in one store, in the records and in the store itself."""

    def __init__(self, store: ObjectStore, state: State, owner: object) -> None:
        self._store = store
        self._state = state
        self._owner = owner

    def twin(self, key: str, observed: Observed) -> Recorded | None:
        """A record of the same content under another key."""
        content = observed.fingerprint
        if content.size == 0:  # an empty put is as cheap as a copy
            return None
        for _, row in self._state.find_content(self._store.store_id, content):
            same = plan.same_content(content, observed.witness, row.fingerprint, row.witness)
            if row.key != key and same:
                return row
        return None

    def copy(self, twin: Recorded, job: Job) -> Receipt | None:
        """Let the store copy an object that it has; None when the copy is not proven. Raises StoreError.

        Makes no copy while another worker writes the source object. The caller holds the job's key.
        """
        key, content = job.key, job.digests.fingerprint
        if content.size > self._store.limits.max_put_size:
            return None
        with self._state.locks.shared(self._owner, (self._store.store_id, twin.key)) as free:
            if not free:
                return None
            info = self._store.head_object(twin.key)
            if info is None or info.etag != twin.etag or info.size != content.size:
                return None
            if info.digest is not None and info.digest != content.digest:
                return None
            self._store.copy_object(twin.key, key, job.meta(), twin.etag)
            copy = self._store.head_object(key)
            after = self._store.head_object(twin.key)
        if copy is None or copy.size != content.size or after is None or after.etag != twin.etag:
            return None
        return Receipt(key, copy.etag)

    def donor(self, action: Upload | Copy, job: Job) -> Donor | None:
        """An object that has parts of a large file: a twin too large to copy whole, or its last version."""
        if isinstance(action, Copy):
            twin = action.twin
            return Donor(twin.key, twin.etag, twin.fingerprint.size, job.grid.digests)
        recorded = job.recorded
        if recorded is None or recorded.store_id != self._store.store_id or recorded.in_doubt:
            return None
        last = self._state.part_digests(job.ref)
        if last is None or last.part_size != job.part_size:
            return None
        return Donor(recorded.key, recorded.etag, recorded.fingerprint.size, last.digests)
