"""Unfinished multipart uploads: ours, leftovers that are still to be aborted, and orphans of stores."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from syncd.core.backoff import Schedule, ceiling
from syncd.core.errors import KeyBusy, StoreError, UploadGone, is_denied
from syncd.core.model import Checkpoint, Leftover, Part, Source, UploadInfo
from syncd.core.paths import name_of
from syncd.core.plan import LATE_EFFECT_NS
from syncd.state.state import State
from syncd.storage.base import ObjectStore
from syncd.storage.checks import QUESTION_SIZE

log = logging.getLogger("syncd.transfer")

_SLACK_NS = 15 * 60 * 10**9  # stores accept signatures from clocks that differ by so much
_SCHEDULE = Schedule(base_seconds=3600.0, cap_seconds=86400.0)


class Orphan(Struct, frozen=True):
    """An upload on the server without a checkpoint here."""

    store: str
    upload: UploadInfo
    spared: str
    """Why it is not aborted: it may be in use; empty: it can be aborted."""


def orphans(
    name: str,
    store: ObjectStore,
    sources: Sequence[Source],
    state: State,
    *,
    older_seconds: float,
    shared: Collection[str] = (),
) -> Iterator[Orphan]:
    """Return the uploads under the sources' prefixes that no checkpoint knows. Raises StoreError.

    An orphan is aborted only if, by the store's clock, it began and got its last part longer than
    `older_seconds` ago. The store is asked before the state, so that an upload that a running daemon begins
    in between does not look like an orphan. A checkpoint without an upload id protects every upload under its
    key: the daemon may be about to record the id. Nothing is aborted for the `shared` sources, where another
    machine was found.
    """
    found: dict[tuple[str, str], Orphan] = {}
    for source in sources:
        listed = list(store.list_multipart_uploads(source.prefix))
        before_ns = store.clock_ns()[0] - int(older_seconds * 1e9)
        checkpoints = state.checkpoints.all()
        known = {checkpoint.upload_id for checkpoint in checkpoints}
        beginning = {checkpoint.key for checkpoint in checkpoints if checkpoint.upload_id is None}
        foreign = state.root_identity(source.name) is None
        for upload in listed:
            if upload.upload_id in known or upload.key in beginning:
                continue
            spared = why_spared(upload, source.name, before_ns, foreign=foreign)
            if source.name in shared:
                spared = "it may be that of another machine, which wrote there"
            if not spared:
                spared = _why_at_work(store.list_parts(upload.key, upload.upload_id), before_ns)
            place = upload.key, upload.upload_id
            if place not in found or not found[place].spared:
                found[place] = Orphan(name, upload, spared)
    yield from found.values()


def why_spared(upload: UploadInfo, source: str, before_ns: int, *, foreign: bool) -> str:
    """Return why an upload without a checkpoint is not aborted; empty: it is.

    `foreign` says that this state has never seen the source, so another state knows the upload.
    """
    if foreign:
        return f"this state does not know the source {source}"
    if upload.initiated_ns is None:
        return "the store does not say when it began"
    if upload.initiated_ns > before_ns:
        return "it began too recently"
    return ""


def _why_at_work(parts: Iterable[Part], before_ns: int) -> str:
    """Return why an old upload is not aborted: another program may send a large file for days."""
    recent = any(part.stored_ns is not None and part.stored_ns > before_ns for part in parts)
    return "a part of it arrived lately" if recent else ""


def ours(state: State) -> list[Checkpoint]:
    """Return the uploads that the running daemon, or its next start, resumes."""
    return state.checkpoints.all()


class Leftovers:
    """Aborts uploads that will not be continued. What cannot be aborted now is remembered, and aborted later:
    the file does not wait for it. For any thread.
    """

    def __init__(self, store: ObjectStore, state: State, now_ns: Callable[[], int], *, owner: object) -> None:
        self._store = store
        self._state = state
        self._now_ns = now_ns
        self._owner = owner
        self._there_are_some = False
        self._sweeps = 0
        self._swept_ns = self._pause_ns = 0
        self._told = False
        self.look()

    def look(self) -> bool:
        """Find out whether there are any, and be due at once. Raises StateError."""
        self._there_are_some = bool(self._state.checkpoints.leftovers(self._store.store_id))
        self._pause_ns = 0
        return self._there_are_some

    def abandon(self, checkpoint: Checkpoint) -> None:
        """Abort the upload of a checkpoint, then forget the checkpoint: in this order, to leave no orphan."""
        leftover = self._of(checkpoint)
        if self._is_gone(leftover, checkpoint):
            self._state.checkpoints.drop(checkpoint.id)
        else:
            self._state.checkpoints.leave(leftover, checkpoint.id)

    def sweep(self, checkpoint: Checkpoint) -> None:
        """Abort what a create or a completion without an answer may have left. The checkpoint stays."""
        leftover = self._of(checkpoint)
        if not self._is_gone(leftover, checkpoint):
            self._state.checkpoints.leave(leftover)

    def clear_up(self) -> float | None:
        """Abort earlier leftovers if it is time; return in how many seconds to call again (only once)."""
        if not self._there_are_some:
            return None
        waited_ns = self._now_ns() - self._swept_ns
        if not 0 <= waited_ns < self._pause_ns:  # negative: the clock was set back
            waited_ns = 0
            self._put_off()  # first, so that other threads do not do the same
            left = [
                each
                for each in self._state.checkpoints.leftovers(self._store.store_id)
                if not self._cleared(each)
            ]
            self._there_are_some = bool(left)
        if self._told or not self._there_are_some:
            return None
        self._told = True
        return (self._pause_ns - waited_ns) / 1e9

    def _of(self, checkpoint: Checkpoint) -> Leftover:
        earliest_ns, latest_ns = self._store.clock_ns()
        return Leftover(
            checkpoint.ref,
            checkpoint.store_id,
            checkpoint.key,
            checkpoint.upload_id or "",
            min(checkpoint.created_ns, earliest_ns),
            latest_ns,
        )

    def _is_gone(self, leftover: Leftover, checkpoint: Checkpoint) -> bool:
        """Abort it; return False if a create may still take effect, so that it has to be found later."""
        try:
            if leftover.upload_id:
                self._store.abort_multipart_upload(leftover.key, leftover.upload_id)
                return True
            self._abort_unknown(leftover, checkpoint)
        except StoreError as error:
            log.warning(
                "%s: an unfinished upload stays in the store for now: %s", name_of(leftover.ref), error
            )
        self._there_are_some = True
        self._sweeps = 0
        self._put_off()
        return False

    def _cleared(self, leftover: Leftover) -> bool:
        try:
            with self._state.locks.exclusive(self._owner, (leftover.store_id, leftover.key)):
                if leftover.upload_id:
                    self._store.abort_multipart_upload(leftover.key, leftover.upload_id)
                elif not self._abort_unknown(leftover, None) or not self._is_over(leftover):
                    return False
        except KeyBusy:
            return False
        except StoreError as error:
            level = logging.INFO if is_denied(error) else logging.WARNING
            log.log(level, "%s: an unfinished upload stays in the store: %s", name_of(leftover.ref), error)
            return False
        self._state.checkpoints.drop_leftover(leftover)
        return True

    def _put_off(self) -> None:
        self._sweeps += 1
        self._swept_ns, self._pause_ns = self._now_ns(), int(ceiling(self._sweeps, _SCHEDULE) * 1e9)
        self._told = False

    def _abort_unknown(self, leftover: Leftover, own: Checkpoint | None) -> bool:
        """Abort uploads under the key that began when this one did, and have neither a checkpoint nor a part.

        No part of content is sent before the id of its upload is recorded, so one that has any is another
        program's. The parts of a question about digests are sent at once. `own` is its checkpoint, if it
        still has one. False: later, because an upload is being begun. The store is asked before the state, so
        that an upload whose id is recorded in between is known.
        """
        listed = [
            upload
            for upload in self._store.list_multipart_uploads(leftover.key)
            if upload.key == leftover.key and _may_be(upload, leftover, own)
        ]
        checkpoints = self._state.checkpoints.all()
        if own is None and any(each.upload_id is None and each.key == leftover.key for each in checkpoints):
            return False
        known = {each.upload_id for each in checkpoints}
        for upload in listed:
            if upload.upload_id not in known and not self._may_have_content(upload):
                log.info("%s: abort an upload whose id was lost", name_of(leftover.ref))
                self._store.abort_multipart_upload(upload.key, upload.upload_id)
        return True

    def _may_have_content(self, upload: UploadInfo) -> bool:
        try:
            parts = self._store.list_parts(upload.key, upload.upload_id)
            return any(part.size != QUESTION_SIZE for part in parts)
        except UploadGone:
            return True
        except StoreError as error:
            if not is_denied(error):
                raise
            return True

    def _is_over(self, leftover: Leftover) -> bool:
        """Return whether no upload can appear any more. One without a date, or with a wrong one, gets one."""
        earliest_ns, latest_ns = self._store.clock_ns()
        if not 0 < leftover.left_ns <= latest_ns:
            self._state.checkpoints.leave(replace(leftover, left_ns=0 if leftover.left_ns else latest_ns))
            return False
        return earliest_ns >= leftover.left_ns + LATE_EFFECT_NS


def _may_be(upload: UploadInfo, leftover: Leftover, own: Checkpoint | None) -> bool:
    """Return whether the upload may be the one whose id was lost, by its age on the store's clock."""
    if upload.initiated_ns is None:
        return own is not None  # later, it may be another program's
    after_begin = upload.initiated_ns >= leftover.begun_ns - _SLACK_NS
    is_open = own is not None or not leftover.left_ns
    return after_begin and (is_open or upload.initiated_ns <= leftover.left_ns + LATE_EFFECT_NS + _SLACK_NS)
