"""Rows that may be wrong about their object, and what the store says about it.

An object changes a moment before its row does. Whoever dies in between, or loses the answer, has a row that
describes what was there before. Mostly the file differs from the row, too, and all is made good by carrying
it. But if the file has meanwhile become what the row says (put back from a backup, a disk plugged in again),
row and file agree, and neither is what the store has. So before an unchanged content is believed to be there,
a row in doubt is compared with its object:

- the row has no ETag any more: that is written before its object is removed, and when a put or a copy ended
  without an answer;
- its object was being changed in this process, and no new row came of it;
- its upload was being completed: the checkpoint says so;
- the process before this one died, and the row is one of its.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace

from syncd.core.errors import StateError, Stopped, StoreRefused, StoreUnavailable, is_denied
from syncd.core.model import Checkpoint, FileRef, Receipt, Recorded
from syncd.state.state import State
from syncd.storage.base import ObjectStore

_NO_ROW = nullcontext()


class InDoubt:
    """The doubts about the rows of one store. For any thread."""

    def __init__(self, store: ObjectStore, state: State, now_ns: Callable[[], int]) -> None:
        self._store = store
        self._state = state
        self._now_ns = now_ns
        self._born_ns = now_ns()
        self._changing: set[FileRef] = set()

    def about(
        self, ref: FileRef, recorded: Recorded, unfinished: Checkpoint | None, *, reconciling: bool
    ) -> bool:
        """Whether the object may be another one than `recorded` says.

        `reconciling` says that records of the source may be older than their objects.
        """
        return (
            recorded.in_doubt
            or ref in self._changing
            or (unfinished is not None and unfinished.completing)
            or (reconciling and recorded.recorded_ns < self._born_ns)
        )

    def keep(self, ref: FileRef, recorded: Recorded) -> None:
        """Write the doubt down, to outlive this process, with the moment since which there is one.

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
            return None  # whoever may not list is told this also about what is not there
        if info is None or info.size != recorded.fingerprint.size:
            return None
        same = info.digest == recorded.fingerprint.digest or (bool(info.etag) and info.etag == recorded.etag)
        return Receipt(info.key, info.etag) if same else None

    def changing(self, ref: FileRef, recorded: Recorded | None) -> AbstractContextManager[None]:
        """Around a change of the object whose row this is; ends for good with `settled`."""
        return _NO_ROW if recorded is None else self._being_changed(ref, recorded)

    @contextmanager
    def _being_changed(self, ref: FileRef, recorded: Recorded) -> Iterator[None]:
        self._changing.add(ref)
        try:
            yield
        except (StoreUnavailable, Stopped) as error:
            if isinstance(error, Stopped) or error.outcome_unknown:
                with suppress(StateError):  # then this process remembers, as long as it lives
                    self.keep(ref, recorded)
            raise

    def settled(self, ref: FileRef) -> None:
        """The row is right."""
        self._changing.discard(ref)
