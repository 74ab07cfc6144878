"""From an open file to the committed row: read, decide, act and commit, under the key of its object."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial

from msgspec.structs import replace

from syncd.core import plan
from syncd.core.errors import (
    AccessRefused,
    FileChanged,
    StoreError,
    is_denied,
)
from syncd.core.model import (
    OVERTAKEN,
    Adoption,
    FileRef,
    Irregular,
    LinkStat,
    Observed,
    Receipt,
    Recorded,
    TransferPolicy,
)
from syncd.core.parts import fits_one_request, part_size_for
from syncd.core.paths import name_of
from syncd.core.plan import Action, Adopt, Cause, Copy, Outcome, Upload
from syncd.sources import fingerprint
from syncd.sources.chunks import Cutter
from syncd.sources.files import OpenFile
from syncd.sources.fingerprint import Digests, Witness
from syncd.storage.proofs import Comparison
from syncd.transfer.in_doubt import Foreigners, InDoubt, is_proven
from syncd.transfer.keys import Keys, Remover
from syncd.transfer.local import EngineSource, Local
from syncd.transfer.pace.contents import Contents
from syncd.transfer.pace.slots import Bound, Slots
from syncd.transfer.reuse import Reuse, Withheld
from syncd.transfer.stamping import Stamper
from syncd.transfer.upload.ahead import Ahead
from syncd.transfer.upload.part_sender import CONDITIONS, COPY, COPY_PARTS, Job, Lookup
from syncd.transfer.upload.uploader import Carried, PartSizeRefused, Uploader

log = logging.getLogger("syncd.transfer")

TURN_READS = 128
"""Reads of a mebibyte after which a reader lets the next file go first."""
MOST_READERS = 8
"""Large files that are read at once: a disk whose head moves between more of them gets slow."""

MOST_LINKS = 1000
"""Records of one content in which other names of a file are searched; scans find the rest."""


class Carrier:
    """Carries the files of the sources that share one store. For any thread.

    It makes the parts that a step needs; the engine gets them from here.
    """

    def __init__(
        self,
        sources: Mapping[str, EngineSource],
        uploader: Uploader,
        policy: TransferPolicy,
        *,
        now_ns: Callable[[], int],
        should_stop: Callable[[], bool],
        readers: Bound | None,
    ) -> None:
        store, state = uploader.store, uploader.state
        self._sources = sources
        self._store = store
        self._state = state
        self._uploader = uploader
        self._slots = uploader.slots
        self._most_part_size = policy.part_size
        self._now_ns = now_ns
        self._should_stop = should_stop
        self.readers = Slots(min(policy.concurrency, MOST_READERS), 0, self._slots.heartbeat, readers)
        """Limits how many large files are read at once for their fingerprints."""
        self.in_doubt = InDoubt(store, state, now_ns, uploader.trouble_now)
        self.foreigners = Foreigners(store.store_id, state)
        self.keys = Keys(sources, uploader, self.in_doubt, should_stop)
        self.local = Local(
            sources, state, store.limits, self._slots, unfinished=uploader.unfinished, now_ns=now_ns
        )
        self.remover = Remover(sources, uploader, self.keys, self.in_doubt, self.foreigners)
        self.reuse = Reuse(store, state, uploader.limits, uploader)
        self.stamper = Stamper(uploader, self.keys, self.local, self.reuse, self.in_doubt, self.foreigners)
        self._witness = Witness(state.secret)
        self._contents = Contents(self._slots.heartbeat, should_stop)
        self._ahead = Ahead(uploader, self._contents, should_stop)

    def carry(
        self,
        ref: FileRef,
        key: str,
        file: OpenFile,
        recorded: Recorded | None,
        *,
        is_open: bool | None,
        failed_before: bool = False,
        lookup: Lookup = Lookup.NONE,
    ) -> Outcome:
        """Read the open file, decide, act and commit. Raises Withheld if that would send a `lookup`."""
        stat, aimed, known = file.opened, self.keys.aimed(recorded, key), self._sources[ref.source]
        found, left_out = self.local.attributes(ref, file)
        job = Job(
            ref, key, file, stat, fingerprint.unread(stat.size), 0, None, recorded, aimed, is_open=is_open,
            instance=known.instance, failed_before=failed_before, is_wanted=lambda: self._wants(ref),
            properties=known.properties(ref.path), attributes=found, left_out=left_out,
            by_crc32=known.source.adopt_by_crc32, lookup=lookup,
        )  # fmt: skip
        fits = fits_one_request(stat.size, self._most_part_size, self._uploader.limits())
        if not fits and not isinstance(stat, LinkStat):
            return self._carry_parts(job)
        # The slot is held with the content until that is sent.
        with self.keys.exclusive(ref, key), self._slots.hold(stat.size):
            with self.local.reading(ref):
                body = file.whole()
                looked_ns = self._unchanged(file)
            digests = Digests(fingerprint.of_bytes(body), self._witness.of(body), ())
            return self._act(replace(job, digests=digests, body=body), looked_ns)

    def _carry_parts(self, job: Job) -> Outcome:
        """Do the same for a file that does not fit one request."""
        ref, key, size, aimed = job.ref, job.key, job.stat.size, job.aimed
        is_new = aimed is None and not job.failed_before
        reconciling, is_lookup = self._sources[ref.source].reconciling, job.lookup is not Lookup.NONE
        asks = reconciling or job.failed_before or is_lookup if aimed is None else aimed.in_doubt
        found = self.keys.others(ref, key, size, is_new=is_new) if asks else None
        may_go_ahead = is_new and job.recorded is None and not is_lookup
        may_go_ahead = may_go_ahead and not self.foreigners.waits(ref.source)
        for attempt in (1, 2):
            job = replace(job, part_size=self.part_size(size))
            try:
                if may_go_ahead and self._ahead.may_send(job) and self.keys.is_free(ref, key):
                    with self.keys.exclusive(ref, key):
                        outcome = self._ahead.send(job, self._act_on_parts)
                        if outcome is not None:
                            return outcome
                compared = Comparison(found, by_crc32=job.by_crc32) if found is not None else None
                digests = self.digests(ref, job.file, size, job.part_size, compared)
                proven = compared.etag if compared is not None and compared.holds() else ""
                known = replace(job, digests=digests, proven=proven)
                is_to_send = partial(self._may_be_copied_later, known)
                with self._contents.in_turn(digests, is_to_send), self.keys.exclusive(ref, key):
                    return self._act_on_parts(known)
            except PartSizeRefused:
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")

    def _may_be_copied_later(self, job: Job) -> bool:
        """Return whether a large file is to be sent now, but could be copied once the store has its content.

        Raises FilePaused, and FileChanged if a pattern now excludes it: it may have waited for long.
        """
        verb = COPY if job.stat.size <= self._store.limits.max_put_size else COPY_PARTS
        if job.lookup is not Lookup.NONE or not self._uploader.shortcuts.works(verb):
            return False
        self._uploader.check_wanted(job)
        observed = Observed(job.stat, job.digests.fingerprint, job.digests.witness)
        return isinstance(self.decide(job.ref, job.key, observed, job.recorded), Upload)

    # ---- reading ----------------------------------------------------------------------------------------

    def digests(
        self, ref: FileRef, file: OpenFile, size: int, part_size: int, also: Comparison | Cutter | None = None
    ) -> Digests:
        """Read the file as one of a few readers, in turns: a file of terabytes blocks no other."""
        held, reads = self.readers.hold(0), 0

        def should_stop() -> bool:
            nonlocal reads
            reads += 1
            if reads % TURN_READS == 0:
                held.pass_on()
            return self._should_stop()

        with held, self.local.reading(ref):
            update = also.update if also is not None else lambda view: None
            return fingerprint.compute(file, size, part_size, should_stop, self._witness, update)

    def part_size(self, size: int) -> int:
        """Return the size in bytes of the parts of a file of `size` bytes."""
        return part_size_for(size, self._most_part_size, self._uploader.limits())

    def _unchanged(self, file: OpenFile) -> int:
        """Raise FileChanged unless the file is unchanged since it was opened; return the time of the look."""
        looked_ns = self._now_ns()
        if file.stat() != file.opened:
            raise FileChanged("the file changed while it was read")
        if not file.is_cut and plan.may_hide_a_change(file.opened, looked_ns):
            quiet_seconds = plan.RACY_WINDOW_NS / 1e9
            raise FileChanged("it changed within a second, and its times are whole seconds", quiet_seconds)
        return looked_ns

    # ---- deciding and acting ----------------------------------------------------------------------------

    def decide(
        self, ref: FileRef, key: str, observed: Observed | Irregular | None, recorded: Recorded | None
    ) -> Action:
        """Return what is to be done about the file; see `plan.decide`. Raises StateError."""
        twin = self.reuse.twin(key, observed) if isinstance(observed, Observed) else None
        return plan.decide(
            observed,
            recorded,
            store_id=self._store.store_id,
            key=key,
            on_delete=self._sources[ref.source].source.on_delete,
            twin=twin,
        )

    def _act_on_parts(self, job: Job) -> Outcome:
        with self.local.reading(job.ref):
            looked_ns = self._unchanged(job.file)
        return self._act(job, looked_ns)

    def _act(self, job: Job, looked_ns: int) -> Outcome:
        """Decide, act and commit, for a file that was unchanged after it was read. The caller has the key."""
        self.keys.still_recorded(job.ref, job.recorded)
        observed = Observed(job.stat, job.digests.fingerprint, job.digests.witness)
        action, standing = self._confirmed(self.decide(job.ref, job.key, observed, job.recorded), job)
        racy = plan.is_racy(job.stat, looked_ns, plan.racy_window_ns(is_open=job.is_open))
        if isinstance(action, Upload | Copy):
            carried = self._perform(action, job)
            if job.left_out and Cause.ADOPT not in carried.saved:
                self.stamper.note_left_out(job)
        elif standing is not None:  # the object stays as it is
            touched = job.aimed is not None and job.stat.mtime_ns != job.aimed.stat.mtime_ns
            standing = self.stamper.dressed(action, job, standing)
            carried = Carried(standing, None, 0, {Cause.TOUCH: job.stat.size} if touched else {})
        else:
            raise AssertionError(f"{action} without a record")
        row = Recorded(
            job.stat, job.digests.fingerprint, self._store.store_id, job.key, carried.receipt.etag, looked_ns,
            racy=racy, witness=job.digests.witness,
        )  # fmt: skip
        # If the change lies in the future, the next scan is enough.
        soon = plan.is_racy(job.stat, looked_ns) and job.stat.ctime_ns <= looked_ns + plan.RACY_WINDOW_NS
        soon = soon or (job.file.is_cut and isinstance(action, Upload | Copy))
        again = plan.RACY_WINDOW_NS / 1e9 + 0.1 if soon else None
        unsettled_ns = self._state.unsettled.left_ns(self._store.store_id, job.key)
        doubt_ns = max(unsettled_ns, plan.doubt_left_ns(job.aimed, looked_ns))
        doubt_seconds = doubt_ns / 1e9 + 1.0 if doubt_ns else None
        if doubt_ns:  # what was just seen or made may still be replaced or removed
            since_ns = looked_ns + doubt_ns - plan.LATE_EFFECT_NS
            row = replace(row, etag="", recorded_ns=since_ns, racy=True)
        known = job.recorded
        is_new = known is None or known.life == OVERTAKEN or replace(known, recorded_ns=looked_ns) != row
        mends = isinstance(action, Upload | Copy) or (job.aimed is not None and job.aimed.in_doubt)
        if (is_new or mends) and job.lookup is not Lookup.DRY:
            self.remover.remove_other_kind(job)
            self._commit(row, carried, job, mends=mends)
        self.in_doubt.settled(job.ref)
        if Cause.ADOPT in carried.saved:
            action = Adopt(action.reason)
        return Outcome(
            action, carried.bytes_sent, carried.saved, again, racy and not soon, doubt_seconds,
            job.stat.size, links=self._stale_links(job) if isinstance(action, Upload | Copy) else (),
        )  # fmt: skip

    def _stale_links(self, job: Job) -> tuple[FileRef, ...]:
        """Return the other names of the file in its source under which its last content is still recorded.

        inotify reports only the name by which a file was opened.
        """
        if job.recorded is None or job.file.links() == 1:
            return ()
        self._state.flush()  # at most one unwritten record of a content is found
        same = self._state.find_content(self._store.store_id, job.recorded.fingerprint, MOST_LINKS)
        inode = job.stat.device, job.stat.inode
        return tuple(
            ref
            for ref, row in same
            if ref.source == job.ref.source and (row.stat.device, row.stat.inode) == inode and ref != job.ref
        )

    def _commit(self, row: Recorded, carried: Carried, job: Job, *, mends: bool) -> None:
        """Record the result. A small file's row may share a transaction: if lost, the store is asked."""
        stale = self._uploader.unfinished(job.ref) if carried.checkpoint_id is None else None
        if stale is not None and stale.store_id == self._store.store_id:
            self._uploader.abandon(stale)
        self._state.commit(
            job.ref,
            row,
            checkpoint_id=carried.checkpoint_id,
            part_digests=replace(job.grid, chunks=carried.chunks) if job.body is None else None,
            durable=carried.checkpoint_id is not None,
            mends=mends,
        )
        self._uploader.finished(job.ref)
        if carried.bytes_sent or carried.saved:
            self._state.add_totals(bytes_sent=carried.bytes_sent, saved=carried.saved)

    # ---- sending ----------------------------------------------------------------------------------------

    def _perform(self, action: Upload | Copy, job: Job) -> Carried:
        there, failure, job = self._there(action, replace(job, seen=self._last_seen(job)))
        if there is not None:
            receipt, cause = there
            stamps = self._sources[job.ref.source].source.adopt is Adoption.STAMP
            if cause is Cause.ADOPT and stamps and job.lookup is not Lookup.DRY:
                receipt = self.stamper.stamped(job, receipt)
            return Carried(receipt, None, 0, {cause: job.stat.size})
        if job.lookup is not Lookup.NONE:
            raise Withheld
        carried = self._send(action, job)
        if failure is not None:
            self._uploader.shortcuts.failed(COPY, failure)
        return carried

    def _send(self, action: Upload | Copy, job: Job) -> Carried:
        if job.body is not None:
            with self.in_doubt.changing(job.ref, job.aimed):
                receipt = self._uploader.put(job, job.body)
            return Carried(receipt, None, len(job.body), {})
        job, chunks = self._with_donor(action, job)
        carried = self._uploader.upload(job)._replace(chunks=chunks)
        if not self.appends(job.ref):
            return carried
        return carried._replace(saved=_by_appending(carried.saved))

    def _with_donor(self, action: Upload | Copy, job: Job) -> tuple[Job, bytes]:
        """Return the job with an object that has parts of it, and its chunks if blocks spare little.

        In that case it is read once more, and cut into parts of half the size, if the store takes them: fewer
        bytes lie in one part with a change. An upload that can go on keeps its part size.
        """
        donor = self.reuse.donor(action, job)
        begun = self._uploader.part_size_of(job)
        looks = self._uploader.shortcuts.works(COPY_PARTS) and self.reuse.may_have_moved(job, donor)
        if not looks and begun in (0, job.part_size):
            return replace(job, donor=donor), b""
        cutter = Cutter(self._witness, job.part_size) if looks else None
        part_size = begun or part_size_for(job.stat.size, job.part_size // 2, self._uploader.limits())
        digests = self.digests(job.ref, job.file, job.stat.size, part_size, cutter)
        if digests[:2] != job.digests[:2]:
            raise FileChanged("the file changed while it was read")
        again = replace(job, digests=digests, part_size=part_size)
        plain = replace(again, donor=self.reuse.donor(action, again)) if begun else replace(job, donor=donor)
        if cutter is None:
            return plain, b""
        chunks = cutter.ended()
        return max(plain, replace(again, donor=self.reuse.moved(again, chunks)), key=Job.spared), chunks

    # ---- what the store has -----------------------------------------------------------------------------

    def _confirmed(self, action: Action, job: Job) -> tuple[Action, Receipt | None]:
        """Return the action, and the object if it stays. Asks the store if the row is in doubt."""
        ref, recorded = job.ref, job.aimed
        if recorded is None:
            return action, None
        unfinished = self._uploader.unfinished(ref)
        is_in_doubt = self.keys.is_in_doubt(ref, recorded, unfinished)
        if unfinished is not None and unfinished.completing:
            self.in_doubt.keep(ref, recorded)  # the checkpoint may be dropped before the new row is written
        if isinstance(action, Upload | Copy):
            return action, None
        if not is_in_doubt:
            if job.stat.mtime_ns != recorded.stat.mtime_ns and self._is_lost(job):
                return Upload("its object is gone from the store"), None
            return action, Receipt(recorded.key, recorded.etag)
        if (
            unfinished is not None
            and unfinished.store_id == self._store.store_id
            and not plan.same_content(
                unfinished.fingerprint, unfinished.witness, job.digests.fingerprint, job.digests.witness
            )
        ):
            self._uploader.abandon(unfinished)  # first, or its content may appear after the question
        with self.keys.request_slot(job):
            there = self.foreigners.adopt(job, self.in_doubt.ask(recorded.key))
        return (Upload("its object is not what was recorded"), None) if there is None else (action, there)

    def _is_lost(self, job: Job) -> bool:
        """Return whether the store says that it has no object for a file that was touched.

        People touch a file to have it checked. An existing object stays, whatever `verify` says about it.
        """
        try:
            with self.keys.request_slot(job):
                return self._store.head_object(job.key) is None
        except StoreError as error:
            if not is_denied(error):
                raise
            return False  # without the permission to list, a missing object is "forbidden", too

    def _last_seen(self, job: Job) -> str | None:
        """Return the ETag of the recorded object; None: a request of ours may have replaced it."""
        aimed = job.aimed
        if aimed is None or self.keys.is_in_doubt(job.ref, aimed, self._uploader.unfinished(job.ref)):
            return None
        return None if self._state.unsettled.left_ns(self._store.store_id, job.key) else aimed.etag

    def _there(
        self, action: Upload | Copy, job: Job
    ) -> tuple[tuple[Receipt, Cause] | None, StoreError | None, Job]:
        """Return the object, if the store already has it or can copy it; or else the error, if a copy failed;
        and the job with what was seen.

        These are shortcuts: if they fail, the content is sent.
        """
        found, job = self._asked(job)
        may_copy = found is None and job.lookup is Lookup.NONE
        works = self._uploader.shortcuts.works
        if isinstance(action, Copy) and may_copy and works(COPY) and self._is_as_seen(job):
            try:
                with self.keys.request_slot(job), self.in_doubt.changing(job.ref, job.aimed):
                    copy = self.reuse.copy(action.twin, job)
                return (None if copy is None else (copy, Cause.COPY)), None, job
            except StoreError as error:
                log.info("%s: sent, not copied: %s", name_of(job.ref), error)
                return None, error, replace(job, seen=None)  # the copy may have been made
        return (None if found is None else (found, Cause.ADOPT)), None, job

    def _is_as_seen(self, job: Job) -> bool:
        """Return whether a copy replaces only what was last seen under the key, if a put has that condition,
        because a copy has none. False: the content is sent.
        """
        works = self._store.limits.has_conditions and self._uploader.shortcuts.works(CONDITIONS)
        if job.seen is None or not works:
            return True
        try:
            with self.keys.request_slot(job):
                info = self._store.head_object(job.key)
        except StoreError:
            return False
        return job.seen == ("" if info is None else info.etag)

    def _asked(self, job: Job) -> tuple[Receipt | None, Job]:
        """Return the object, if the store already has the content under this key, and the job with what was
        seen. Asks only if that is possible.

        Raises StoreRefused if the key has another machine's object, or any that would be replaced while the
        source waits because of another machine.
        """
        source = job.ref.source
        waits = self.foreigners.waits(source)
        compares = waits or self._sources[source].reconciling or job.lookup is not Lookup.NONE
        if not (compares or job.failed_before):
            return None, job
        is_new = job.aimed is None and not waits and not job.failed_before
        with self.keys.request_slot(job):
            listed = self.keys.listed(job.ref, job.key) if is_new else None
            if listed is not None and listed.info is not None and is_proven(job, listed.info):
                return Receipt(job.key, listed.info.etag), job
            if listed is not None and listed.info is None and self._uploader.limits().has_conditions:
                return None, replace(job, seen="")
            info, error = self.in_doubt.tell(job.key)
        if error is not None:
            if waits:
                raise error  # something may be there
            # Sending reports a refusal of the keys, and a failure before was reported.
            told = isinstance(error, AccessRefused) or not compares
            level = logging.DEBUG if told else logging.INFO
            log.log(level, "%s: sent, for the store does not tell what it has: %s", name_of(job.ref), error)
            return None, job
        there = self.foreigners.adopt(job, info)
        if info is not None and there is None:
            self.foreigners.check(source)
        seen = info.etag if info is not None else ""
        return there, replace(job, seen=seen) if compares else job

    def _wants(self, ref: FileRef) -> bool:
        """Return whether the present configuration wants the file sent."""
        known = self._sources.get(ref.source)
        return known is not None and known.wants(ref.path)

    def appends(self, ref: FileRef) -> bool:
        """Return whether the file only grows."""
        return self._sources[ref.source].appends(ref.path)


def _by_appending(saved: Mapping[Cause, int]) -> dict[Cause, int]:
    """Count copied parts of a growing file as spared by its growth."""
    return {Cause.APPEND if cause is Cause.DELTA else cause: size for cause, size in saved.items()}
