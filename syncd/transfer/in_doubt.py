"""Finds records that may be wrong about their object, and asks the store about it.

An object changes a moment before its row does. A process that dies in between, or loses the answer, leaves
a row that describes the previous object. Usually the file differs from the row, too, and its next upload
repairs that. But the file may have been restored to what the row says (from a backup, say). Then row and file
agree, while the store still holds something else. So a row in doubt is compared with its object before the
file counts as unchanged. A row is in doubt if

- it has no ETag: the ETag is cleared before the object is removed, and when a put or a copy got no answer;
- it was overtaken: its key was, for a time, where the file of another source goes;
- this process began to change its object, and has not written a new row;
- its checkpoint says that an upload was being completed;
- an earlier process wrote it, and the source has not been compared since a process ended without writing all.
  Processes are numbered, because a clock may be set back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace

from syncd.core import plan
from syncd.core.errors import StateError, Stopped, StoreRefused, StoreUnavailable, is_denied
from syncd.core.model import OVERTAKEN, Checkpoint, FileRef, Receipt, Recorded
from syncd.state.state import State
from syncd.storage.base import ObjectStore

_NO_ROW = nullcontext()


class InDoubt:
    """The rows of one store that are in doubt. For any thread."""

    def __init__(self, store: ObjectStore, state: State, now_ns: Callable[[], int]) -> None:
        self._store = store
        self._state = state
        self._now_ns = now_ns
        self._changing: set[FileRef] = set()

    def about(
        self, ref: FileRef, recorded: Recorded, unfinished: Checkpoint | None, *, reconciling: bool
    ) -> bool:
        """Whether the object may differ from `recorded`.

        `reconciling` says that records of the source may be older than their objects.
        """
        return (
            recorded.in_doubt
            or recorded.life == OVERTAKEN
            or ref in self._changing
            or (unfinished is not None and unfinished.completing)
            or (reconciling and recorded.life < self._state.life)
        )

    def keep(self, ref: FileRef, recorded: Recorded) -> None:
        """Record the doubt and its time in the state, so that it outlives this process.

        Raises StateError.
        """
        self._state.doubt(ref, replace(recorded, recorded_ns=self._now_ns()))

    def ask(self, recorded: Recorded) -> Receipt | None:
        """The object, if it has the recorded content. Raises StoreError."""
        try:
            info = self._store.head_object(recorded.key)
        except StoreRefused as refused:
            if not is_denied(refused):
                raise
            return None  # without the permission to list, a missing object is "forbidden", too
        if info is None or info.size != recorded.fingerprint.size:
            return None
        same = info.digest == recorded.fingerprint.digest or (bool(info.etag) and info.etag == recorded.etag)
        return Receipt(info.key, info.etag) if same else None

    def may_delete(self, recorded: Recorded, *, in_doubt: bool) -> bool | None:
        """Whether the object may be deleted as the recorded one; None: there is none. Raises StoreError."""
        try:
            info = self._store.head_object(recorded.key)
        except StoreRefused as refused:
            if not is_denied(refused):
                raise
            raise StoreRefused(
                f"its object is kept: these keys may not look at it before it is deleted: {refused}",
                hint="allow to read it, or set on_delete: keep",
                status=refused.status,
                code=refused.code,
            ) from refused
        return None if info is None else plan.may_delete(info, recorded, in_doubt=in_doubt)

    def changing(self, ref: FileRef, recorded: Recorded | None) -> AbstractContextManager[None]:
        """Surrounds a change of the object of this row, which stays in doubt until `settled`."""
        return _NO_ROW if recorded is None else self._being_changed(ref, recorded)

    @contextmanager
    def _being_changed(self, ref: FileRef, recorded: Recorded) -> Iterator[None]:
        self._changing.add(ref)
        try:
            yield
        except (StoreUnavailable, Stopped) as error:
            if isinstance(error, Stopped) or error.outcome_unknown:
                with suppress(StateError):  # then only this process remembers the doubt
                    self.keep(ref, recorded)
            raise

    def settled(self, ref: FileRef) -> None:
        """The row is right."""
        self._changing.discard(ref)
