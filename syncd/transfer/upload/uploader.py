"""Performs an upload: one put, or a multipart upload, checkpoint by checkpoint.

The order of effects of a multipart upload, each step durable before the next relies on it::

    begin            the intent is in the state, without an upload id
    create           the store makes an upload      (died before the id was kept: swept by key, begun again)
    set_upload_id    the id is in the state
    part, add_part   for each part, in parallel     (died between: known by its MD5, or sent again)
    look             the file is still what was fingerprinted, or nothing is completed
    set_completing   from here on the object may exist, and what it holds is known (see `ahead.Ahead`)
    complete         (answer lost: the store is asked for the object, and its token shows whether it is ours)
    commit           the engine records the object and drops the checkpoint in one transaction

`part_sender` sends the parts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from typing import NamedTuple

from msgspec.structs import replace

from syncd.core import parts
from syncd.core.backoff import Schedule, ceiling
from syncd.core.errors import (
    TRY_ALL,
    AccessRefused,
    FileChanged,
    ObjectSpoiled,
    PartsRefused,
    PreconditionFailed,
    StoreError,
    StoreFailed,
    StoreRefused,
    StoreUnavailable,
    UploadGone,
    is_denied,
    may_be_the_uploads,
)
from syncd.core.model import Checkpoint, FileRef, ObjectInfo, ObjectMeta, Part, Receipt
from syncd.core.parts import Span
from syncd.core.paths import name_of
from syncd.core.plan import Cause
from syncd.core.words import counted
from syncd.state.state import State
from syncd.storage import base
from syncd.storage.base import Body, ObjectStore, StoreLimits
from syncd.transfer.pace.slots import Slots
from syncd.transfer.upload.orphans import Leftovers
from syncd.transfer.upload.part_sender import CONDITIONS, Job, Meter, PartSender, Read, Sent, Shortcuts, call

log = logging.getLogger("syncd.transfer")

MIN_PART_SIZE = "min_part_size"
"""The state keeps the smallest part size learned from a store's refusals under this name."""

_RESTARTS = Schedule(base_seconds=6 * 3600.0, cap_seconds=7 * 86400.0)
"""How old an upload has to be before another one replaces it, after the first restart."""
_NEUTRAL_KEY = "syncd-question"
_DISK_FULL = ("ENOSPC", "EDQUOT")


class PartSizeRefused(StoreUnavailable):
    """The store wants larger parts. The state keeps the new size, and the next attempt uses it."""


class Carried(NamedTuple):
    """An acknowledged upload. `checkpoint_id` is None for a single put."""

    receipt: Receipt
    checkpoint_id: int | None
    bytes_sent: int
    saved: Mapping[Cause, int]
    chunks: bytes = b""
    """The chunks of the content, if it was cut: see `syncd.core.parts.PartDigests`."""


class Uploader:
    """Uploads to one store, for any thread. The threads of `senders` are not the callers'."""

    def __init__(
        self,
        store: ObjectStore,
        state: State,
        senders: Executor,
        slots: Slots,
        meter: Meter,
        *,
        now_ns: Callable[[], int],
        new_token: Callable[[], str],
    ) -> None:
        self.store = store
        self.state = state
        self.leftovers = Leftovers(store, state, now_ns, owner=self)
        self.shortcuts = Shortcuts(store, state, now_ns)
        self._parts = PartSender(store, state, senders, slots, meter, self.shortcuts)
        self.check_wanted = self._parts.check_wanted
        self.slots = slots
        self._meter = meter
        self._new_token = new_token
        self._limits: StoreLimits | None = None
        self.judge: Callable[[Job, ObjectInfo | None], Receipt | None] = lambda job, info: None
        """Judges an object that is not the one last seen; returns it if it is what is to be put."""
        self._maybe_unfinished = {checkpoint.ref for checkpoint in state.checkpoints.all()}

    def limits(self) -> StoreLimits:
        """Return the store's limits, corrected by what was learned about the store."""
        if self._limits is None:
            self._limits = learned_limits(self.store, self.state)
        return self._limits

    def look_up(self) -> None:
        """Read the limits again, because something was learned about the store."""
        self._limits = None

    def unfinished(self, ref: FileRef) -> Checkpoint | None:
        """Return the unfinished upload of a file. Asks the state only where there may be one."""
        return self.state.checkpoints.find(ref) if ref in self._maybe_unfinished else None

    def part_size_of(self, job: Job) -> int:
        """Return the part size of an unfinished upload that can go on; 0: a new one begins."""
        found = self.unfinished(job.ref)
        return found.part_size if found is not None and self._misfit(found, job) is None else 0

    def put(self, job: Job, body: Body) -> Receipt:
        """Send the whole content in one request. The caller holds a slot as long as it holds `body`."""
        self._meter.began(job.ref, len(body), 0)
        try:
            with self._meter.sending(job.ref, len(body)):
                receipt = self._make(job, job.meta(), lambda meta: self.store.put_object(job.key, body, meta))
            self._meter.carried(job.ref, len(body))
            return receipt
        finally:
            self._meter.ended(job.ref)

    def upload(self, job: Job) -> Carried:
        """Send a file in parts; resume an unfinished upload that fits.

        If the store refuses the upload itself, it is begun once more, without a donor. Raises FileChanged,
        FileUnreadable, PartSizeRefused and what the store raises.
        """
        try:
            while True:
                checkpoint, upload_id, fresh = self._begun(job)
                try:
                    without = replace(job, donor=None) if checkpoint.restarts else job
                    return self._carry(without, checkpoint, upload_id, fresh)
                except UploadGone as gone:
                    receipt = self._own_object(job, checkpoint)
                    if receipt is not None:
                        return Carried(receipt, checkpoint.id, 0, {Cause.RESUME: job.stat.size})
                    self._begin_again(job, checkpoint, gone)
                except PartsRefused as refused:
                    if refused.too_small:
                        self._learn(job)
                        self.abandon(checkpoint)
                        raise PartSizeRefused(str(refused)) from refused
                    self._judge(job, checkpoint, refused)
                except StoreError as refused:
                    self._judge(job, checkpoint, refused)
        finally:
            self._meter.ended(job.ref)

    def send_ahead(self, job: Job, spans: Iterable[Span], read: Read) -> dict[str, dict[int, Part]]:
        """Begin the upload of a file whose content is not known yet, and send these of its parts.

        Returns the parts by the id of the upload. `upload` completes it, or continues it in a later step.
        Raises what `spans`, `read` and the store raise.
        """
        checkpoint, upload_id, _ = self._begun(job)
        self._meter.began(job.ref, job.stat.size, 0)
        try:
            return {upload_id: self._parts.send(job, checkpoint, upload_id, spans, read).parts}
        except StoreError as refused:
            if not isinstance(refused, UploadGone):
                self._judge(job, checkpoint, refused)
            raise
        finally:
            self._meter.ended(job.ref)

    def give_way(self, own: Checkpoint) -> None:
        """Give up the upload that holds most of the store's disk: it is full, as the upload `own` was told.

        When that one begins again, the store refuses it if it cannot fit.
        """
        held = {
            checkpoint.id: (sum(part.size for part in checkpoint.parts.values()), checkpoint)
            for checkpoint in self.state.checkpoints.all()
            if checkpoint.store_id == self.store.store_id
            and (checkpoint.id == own.id or not checkpoint.completing)
        }
        size, largest = max(held.values(), key=lambda each: each[0], default=(0, None))
        if largest is not None and size:
            log.warning(
                "%s: its upload gives way: the store is full, and it holds %d bytes",
                name_of(largest.ref),
                size,
            )
            self.abandon(largest)

    def _judge(self, job: Job, checkpoint: Checkpoint, error: StoreError) -> None:
        """End the upload if the error is about itself; otherwise raise the error.

        It is if a call of the same kind met the same answer in the last try, while the store answers a
        neutral question. A single failure ends no upload. If the store only says that it failed, neither do
        two with an accepted part in between.
        """
        if error.code in _DISK_FULL and error.call in ("part", "complete"):
            self.give_way(checkpoint)
        if not isinstance(error, ObjectSpoiled):
            if not error.call or not may_be_the_uploads(error):
                raise error
            now = self.state.checkpoints.find(job.ref) or checkpoint
            met = f"{error.call}: {error.status or ''} {error.code or type(error).__name__}"
            if isinstance(error, StoreFailed):
                met += f", {len(now.parts)} parts"
            if met != checkpoint.refused:
                self.state.checkpoints.set_refused(checkpoint.id, met)
                raise error
            if self.trouble() is not None:
                raise error
        self._begin_again(job, checkpoint, error)

    def _begin_again(self, job: Job, checkpoint: Checkpoint, why: StoreError) -> None:
        """Replace an upload by a new one: once, and then ever more rarely. Raises StoreRefused."""
        age_seconds = (self.store.clock_ns()[0] - checkpoint.created_ns) / 1e9
        if checkpoint.restarts and age_seconds < ceiling(checkpoint.restarts, _RESTARTS):
            raise StoreRefused(
                f"the store refused its upload, and the one that was begun instead: {why.args[0]}",
                status=why.status,
                code=why.code,
                request_id=why.request_id,
                hint=why.hint or TRY_ALL,
            ) from why
        log.warning("%s: restart: %s", name_of(job.ref), why)
        self.abandon(checkpoint)
        self._begin(job, restarts=checkpoint.restarts + 1)

    def trouble(self) -> StoreError | None:
        """Ask the store a harmless question; return the error that it meets, or None."""
        with self.slots.hold(0):
            return self.trouble_now()

    def trouble_now(self) -> StoreError | None:
        """Do the same as `trouble`, for a caller that holds a slot."""
        try:
            self.store.get_object(_NEUTRAL_KEY, 0, 0)
        except AccessRefused as refused:
            return refused
        except StoreRefused:  # there is no such object, or these keys may not read
            return None
        except StoreError as error:
            return error
        return None

    def abandon(self, checkpoint: Checkpoint) -> None:
        """Abort an upload that will not be continued, now or later, and forget it.

        Raises KeyBusy while another thread works on its key: the caller may hold a key, and does not wait.
        """
        with self.state.locks.exclusive(self, (checkpoint.store_id, checkpoint.key)):
            self.leftovers.abandon(checkpoint)

    def finished(self, ref: FileRef) -> None:
        """Note that the file has no unfinished upload any more."""
        self._maybe_unfinished.discard(ref)

    # ---- steps ------------------------------------------------------------------------------------------

    def _checkpoint(self, job: Job) -> tuple[Checkpoint, bool]:
        """Return the checkpoint to continue, and whether it is new. One that does not fit is abandoned."""
        found = self.unfinished(job.ref)
        if found is not None:
            why = self._misfit(found, job)
            if why is None:
                return found, False
            log.info("%s: restart: %s", name_of(job.ref), why)
            if found.store_id == self.store.store_id:
                self.abandon(found)  # `begin` leaves another store's to that store
        return self._begin(job), True

    def _misfit(self, found: Checkpoint, job: Job) -> str | None:
        return parts.misfit(
            found,
            store_id=self.store.store_id,
            key=job.key,
            fingerprint=job.digests.fingerprint,
            witness=job.digests.witness,
            limits=self.limits(),
        )

    def _begin(self, job: Job, restarts: int = 0) -> Checkpoint:
        self._maybe_unfinished.add(job.ref)
        return self.state.checkpoints.begin(
            Checkpoint(
                id=0,
                ref=job.ref,
                store_id=self.store.store_id,
                key=job.key,
                fingerprint=job.digests.fingerprint,
                witness=job.digests.witness,
                stat=job.stat,
                part_size=job.part_size,
                token=self._new_token(),
                created_ns=self.store.clock_ns()[0],
                restarts=restarts,
            )
        )

    def _begun(self, job: Job) -> tuple[Checkpoint, str, bool]:
        """Return a checkpoint, the id of its upload, and whether the upload is new and so has no parts."""
        checkpoint, fresh = self._checkpoint(job)
        if checkpoint.upload_id is not None:
            return checkpoint, checkpoint.upload_id, False
        if not fresh:
            self.leftovers.sweep(checkpoint)
        with self.slots.hold(0):
            upload_id = self._create(job, checkpoint)
        self.state.checkpoints.set_upload_id(checkpoint.id, upload_id)
        return replace(checkpoint, upload_id=upload_id), upload_id, True

    def _create(self, job: Job, checkpoint: Checkpoint) -> str:
        """Create an upload; if the answer is lost, abort what the request may have left and retry once."""
        meta = job.meta(checkpoint.token)
        try:
            return self.store.create_multipart_upload(job.key, meta)
        except StoreUnavailable as unavailable:
            if not unavailable.outcome_unknown:
                raise
        self.leftovers.sweep(checkpoint)
        return self.store.create_multipart_upload(job.key, meta)

    def _carry(self, job: Job, checkpoint: Checkpoint, upload_id: str, fresh: bool) -> Carried:
        ahead = job.ahead.get(upload_id)
        done = dict(ahead or {}) if fresh or ahead else self._parts.kept(job, checkpoint, upload_id)
        there = sum(part.size for part in done.values())
        resumed = 0 if ahead else there
        if resumed:
            log.info(
                "%s: resume: %s, %d of %d bytes are there",
                name_of(job.ref),
                counted(len(done), "part"),
                resumed,
                job.stat.size,
            )
        self._meter.began(job.ref, job.stat.size, there)
        missing = [span for span in parts.cut(job.stat.size, job.part_size) if span.number not in done]
        sent = self._parts.send(job, checkpoint, upload_id, missing)
        done.update(sent.parts)
        self._still(job)
        self.state.checkpoints.set_completing(checkpoint.id, job.digests.fingerprint, job.digests.witness)
        try:
            receipt = self._complete(job, checkpoint, upload_id, done)
        except StoreError as refused:
            is_over = isinstance(refused, UploadGone | ObjectSpoiled)
            if not sent.copied or is_over or not may_be_the_uploads(refused):
                raise
            log.warning("%s: the parts that were copied are sent: %s", name_of(job.ref), refused)
            again = [span for span in missing if span.number in sent.copied]
            plain = self._parts.send(replace(job, donor=None), checkpoint, upload_id, again)
            done.update(plain.parts)
            sent = Sent(done, frozenset())
            receipt = self._complete(job, checkpoint, upload_id, done)
        copied = sum(done[number].size for number in sent.copied)
        saved = {cause: size for cause, size in ((Cause.RESUME, resumed), (Cause.DELTA, copied)) if size}
        return Carried(receipt, checkpoint.id, job.stat.size - resumed - copied, saved)

    def _still(self, job: Job) -> None:
        """Raise FileChanged unless the file is as it was before its first byte was read."""
        with self._meter.heartbeat.reading(job.ref.source):
            now = job.file.stat()
        if now != job.stat:
            raise FileChanged("the file changed while it was sent")

    def _complete(
        self, job: Job, checkpoint: Checkpoint, upload_id: str, done: Mapping[int, Part]
    ) -> Receipt:
        ordered = [done[number] for number in sorted(done)]
        made: list[Receipt] = []

        def complete(meta: ObjectMeta) -> Receipt:
            with call("complete"):
                made.append(self.store.complete_multipart_upload(job.key, upload_id, ordered, meta))
            return made[0]

        try:
            with self.slots.hold(0):
                receipt = self._make(job, job.meta(checkpoint.token), complete)
        except StoreUnavailable as unavailable:
            if not unavailable.outcome_unknown:
                raise
            own = self._own_object(job, checkpoint)
            if own is None:
                raise
            receipt = own
        if not made:  # a copy or another machine may have made the object
            self.leftovers.sweep(checkpoint)
        self._check_whole(job.key, ordered)
        return receipt

    def _check_whole(self, key: str, ordered: list[Part]) -> None:
        """Raise ObjectSpoiled if the store computes the object's CRC-32 and it is not that of the parts."""
        crcs = [(part.crc32, part.size) for part in ordered if part.crc32 is not None]
        if not self.store.limits.computes_crc32 or len(crcs) < len(ordered):
            return
        with self.slots.hold(0):
            info = self.store.head_object(key)
        meant = parts.combine_crc32(crcs)
        if info is not None and info.crc32 is not None and info.crc32 != meant:
            raise ObjectSpoiled(f"the store made an object with CRC-32 {info.crc32}, not {meant}")

    def _own_object(self, job: Job, checkpoint: Checkpoint) -> Receipt | None:
        """Return the object under our key, if this upload made it.

        Without the permission to list, a store answers "forbidden" for a missing object: that is no proof.
        """
        try:
            info = self.store.head_object(job.key)
        except StoreRefused as refused:
            if not is_denied(refused):
                raise
            return None
        if info is None or info.size != job.stat.size:
            return None
        if info.token is not None:
            ours = info.token == checkpoint.token
        elif info.digest is not None:
            ours = info.digest == job.digests.fingerprint.digest
        else:  # some stores drop metadata; the object's parts are the next best evidence
            made_of = self.state.checkpoints.find(job.ref) or checkpoint
            meant = parts.etag_of([part.etag for _, part in sorted(made_of.parts.items())])
            ours = meant is not None and info.etag.lower() == meant
        return Receipt(info.key, info.etag) if ours else None

    def _make(self, job: Job, meta: ObjectMeta, send: Callable[[ObjectMeta], Receipt]) -> Receipt:
        """`send` the object to replace only what was last seen there, if the store has conditions.

        Another object is also replaced, but only after `judge` was asked about it.
        """
        if job.seen is None or not self.limits().has_conditions or not self.shortcuts.works(CONDITIONS):
            return send(meta)
        try:
            return send(replace(meta, replaces=job.seen))
        except PreconditionFailed:
            info = self.store.head_object(job.key)
        except StoreRefused as refused:  # conditions may need their own permission
            if refused.status not in (400, 403, 501):
                raise
            receipt = send(meta)
            self.shortcuts.failed(CONDITIONS, refused)
            return receipt
        etag = "" if info is None else info.etag
        if etag == job.seen:
            self.shortcuts.failed(CONDITIONS, None)
            return send(meta)
        return self.judge(job, info) or send(replace(meta, replaces=etag))

    def _learn(self, job: Job) -> None:
        larger = parts.part_sizes_after_refusal(job.part_size, self.limits())
        self.state.learn(self.store.store_id, MIN_PART_SIZE, str(larger))
        self.look_up()


def learned_limits(store: ObjectStore, state: State) -> StoreLimits:
    """Return the store's limits, with the smallest part size learned from its refusals, and what `syncd
    check` learned about conditions.
    """
    limits = store.limits
    least = int(state.learned(store.store_id, MIN_PART_SIZE) or 0)
    conditions = state.learned(store.store_id, base.CONDITIONS)
    return replace(
        limits,
        min_part_size=max(least, limits.min_part_size),
        has_conditions=conditions == base.HONOURED if conditions else limits.has_conditions,
    )


__all__ = ["Carried", "PartSizeRefused", "Uploader", "learned_limits"]
