"""One step for one file: observe, plan, act, commit. No loop, no thread, no clock of its own.

Many threads may call ``sync(ref)`` for different files of one store, never twice at once for one file. After
any exception, calling it again does the right thing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress

from syncd.core import paths, plan
from syncd.core.errors import (
    RENAME,
    FileChanged,
    FileWaits,
    StoreError,
    StoreRefused,
    TooYoung,
)
from syncd.core.model import (
    FileRef,
    FileStat,
    Irregular,
    Observed,
    Recorded,
    TransferPolicy,
)
from syncd.core.paths import name_of
from syncd.core.plan import Action, Delete, Nothing, Outcome
from syncd.transfer.carrier import Carrier
from syncd.transfer.local import EngineSource
from syncd.transfer.pace import affinity
from syncd.transfer.pace.slots import Bound
from syncd.transfer.reuse import Heirs, Standing, Withheld
from syncd.transfer.upload.part_sender import COPY, Lookup
from syncd.transfer.upload.uploader import Uploader

log = logging.getLogger("syncd.transfer")


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
        readers: Bound | None = None,
    ) -> None:
        self.sources = sources
        self.store = uploader.store
        self.state = uploader.state
        self.policy = policy
        self._uploader = uploader
        self._now_ns = now_ns
        carrier = Carrier(sources, uploader, policy, now_ns=now_ns, should_stop=should_stop, readers=readers)
        self._carrier = carrier
        self._local = carrier.local
        self._in_doubt = carrier.in_doubt
        self._remover = carrier.remover
        self.keys = carrier.keys
        self.readers = carrier.readers
        self.stamper = carrier.stamper
        self.foreigners = carrier.foreigners
        uploader.judge = self.foreigners.judge
        self.heirs = Heirs(self.state, carrier.appends, self._local.reading)
        self.gate: Callable[[FileRef, FileStat], None] = lambda ref, seen: None
        """Called before a file is read; raises PutsWait if its content must not be sent now."""
        self.spare: Callable[[int, FileRef, Recorded], None] = lambda root_fd, ref, recorded: None
        """Called with the open root before an object is removed; raises PutsWait if it must stay for now."""

    # ---- the step ---------------------------------------------------------------------------------------

    def sync(
        self,
        ref: FileRef,
        *,
        event: bool,
        settle_seconds: float = 0.0,
        delete_allowed: bool = False,
        failed_before: bool = False,
        overdue: bool = False,
    ) -> Outcome:
        """Bring the object of one path in line with the file.

        `event` says that something marked the path since it was recorded. A file that settles is not read
        (FileChanged, see `plan.settling`), but a growing one that is `overdue` is carried up to its last
        line. The object of a missing file is removed only if `delete_allowed`. The store may have the content
        of a file that `failed_before`, so it is asked. Raises FileError, StoreError, StateError, PutsWait,
        Stopped.
        """
        known = self.sources[ref.source]
        if not known.wants(ref.path):
            return self._unwanted(ref, "excluded")
        recorded = self.state.recorded(ref)
        with self._local.root(known) as root:
            seen, left_out = self._local.look(root, ref, recorded)
            if left_out is not None:
                return self._unwanted(ref, str(left_out))
            if seen is None or isinstance(seen, Irregular):
                self.heirs.forget(ref)
                outcome = self._absent(ref, seen, recorded, root.fd)
                if recorded is None or not (outcome.wants_delete and delete_allowed):
                    return outcome
                self.spare(root.fd, ref, recorded)
                return self._remover.delete(ref, outcome)
            key = self.keys.of(ref, seen)
            aimed = self.keys.aimed(recorded, key)
            if plan.needs_fingerprint(seen, aimed, event=event) is None:
                return Outcome(Nothing("unchanged"), size=seen.size)
            if left_ns := self._local.too_young_ns(ref, seen):
                raise TooYoung("it is younger than `min_age`", left_ns / 1e9)
            self.gate(ref, seen)
            if problem := paths.key_problem(key, self.store.limits.max_key_bytes):
                raise StoreRefused(problem, hint=RENAME)
            self._let_heirs_go_first(root.fd, ref, seen, aimed)
            file, is_open = self._local.open_quiet(root.fd, ref, aimed, settle_seconds, overdue=overdue)
            with file, affinity.room_for(file.opened.size):
                try:
                    outcome = self._carrier.carry(
                        ref, key, file, recorded, is_open=is_open, failed_before=failed_before
                    )
                except StoreError as error:
                    error.seen = file.opened
                    raise
            with self._local.reading(ref):
                seen = self._local.seen(root.fd, ref)
            if not file.is_at(seen):
                raise FileChanged("another file took its place after it was read")
            return outcome

    def plan(self, ref: FileRef, *, event: bool = False) -> tuple[Action, int]:
        """Return what `sync` would do, and the file's size in bytes. Reads the file, sends nothing."""
        known = self.sources[ref.source]
        recorded = self.state.recorded(ref)
        with self._local.root(known) as root:
            seen, left_out = self._local.look(root, ref, recorded)
            if left_out is not None:
                return Nothing(str(left_out)), 0
            if seen is None or isinstance(seen, Irregular):
                return self._carrier.decide(ref, self.keys.of(ref), seen, recorded), 0
            key = self.keys.of(ref, seen)
            if plan.needs_fingerprint(seen, self.keys.aimed(recorded, key), event=event) is None:
                return Nothing("unchanged"), seen.size
            if self._local.too_young_ns(ref, seen):
                return Nothing("younger than `min_age`"), seen.size
            with self._local.open(root.fd, ref) as file:
                stat = file.stat()
                digests = self._carrier.digests(ref, file, stat.size, self._carrier.part_size(stat.size))
            observed = Observed(stat, digests.fingerprint, digests.witness)
            return self._carrier.decide(ref, key, observed, recorded), stat.size

    def look_up(self, ref: FileRef, *, dry_run: bool) -> tuple[Standing, int]:
        """Return what the store has of a file without a record, and its size in bytes. Sends nothing.

        Reads the file only if its object has the same size, and records it if that has the content, unless
        this is a `dry_run`. Raises FileError, StoreError, StateError, Stopped.
        """
        with self._local.root(self.sources[ref.source]) as root:
            seen, left_out = self._local.look(root, ref, None)
            if left_out is not None or not isinstance(seen, FileStat) or self.state.recorded(ref) is not None:
                return Standing.RECORDED, 0
            key = self.keys.of(ref, seen)
            if paths.key_problem(key, self.store.limits.max_key_bytes) is not None:
                return Standing.ABSENT, seen.size
            with self._uploader.slots.hold(0):
                listed = self.keys.listed(ref, key)
                info = listed.info if listed is not None else self.store.head_object(key)
            if info is None or info.size != seen.size:
                return Standing.ABSENT if info is None else Standing.DIFFERS, seen.size
            file, is_open = self._local.open_quiet(root.fd, ref, None, 0, overdue=False)
            with file, affinity.room_for(seen.size), suppress(Withheld):
                lookup = Lookup.DRY if dry_run else Lookup.RECORD
                self._carrier.carry(ref, key, file, None, is_open=is_open, lookup=lookup)
                return Standing.KNOWN, seen.size
            return Standing.DIFFERS, seen.size

    def trouble(self) -> StoreError | None:
        """See `Uploader.trouble`."""
        return self._uploader.trouble()

    def clear_up(self) -> float | None:
        """See `Leftovers.clear_up`."""
        return self._uploader.leftovers.clear_up()

    def _unwanted(self, ref: FileRef, why: str) -> Outcome:
        """Drop the upload of a file that a rule now leaves out. Its object stays."""
        checkpoint = self._uploader.unfinished(ref)
        if checkpoint is not None and checkpoint.store_id == self.store.store_id:
            log.info("%s: abort the upload: the file is left out by now: %s", name_of(ref), why)
            self._uploader.abandon(checkpoint)
        self.state.failures.drop(ref)
        return Outcome(Nothing(why))

    # ---- observing --------------------------------------------------------------------------------------

    def _let_heirs_go_first(self, root_fd: int, ref: FileRef, seen: FileStat, aimed: Recorded | None) -> None:
        """Raise FileWaits while the object is to be copied under the new name of its file."""
        seconds = self.heirs.wait_seconds(root_fd, ref, seen, aimed, self._now_ns())
        if seconds and self._uploader.shortcuts.works(COPY):
            raise FileWaits("the file that had its name before was renamed, and is copied first", seconds)

    def _absent(
        self, ref: FileRef, seen: Irregular | None, recorded: Recorded | None, root_fd: int
    ) -> Outcome:
        """Abandon the upload of a missing file, and decide whether its object is deleted."""
        checkpoint = self._uploader.unfinished(ref)
        if checkpoint is not None and checkpoint.store_id != self.store.store_id:
            checkpoint = None
        known = checkpoint or recorded
        if known is not None and (
            why := self._local.hidden(root_fd, ref, known.stat, found=seen is not None)
        ):
            return Outcome(Nothing(f"out of sight: {why}"))
        if checkpoint is not None:
            if checkpoint.completing and recorded is not None and recorded.store_id == self.store.store_id:
                self._in_doubt.keep(ref, recorded)  # the object may come from that upload
            log.info("%s: abort the upload: the file is gone", name_of(ref))
            self._uploader.abandon(checkpoint)
        self.state.failures.drop(ref)
        action = self._carrier.decide(ref, self.keys.of(ref), seen, recorded)
        if action == plan.KEPT and recorded is not None and not recorded.kept:
            self.state.keep(ref, recorded)
        if not isinstance(action, Delete) or recorded is None:
            return Outcome(action)
        if recorded.store_id != self.store.store_id:
            return Outcome(Nothing("deleted locally, but its object is in another store"))
        return Outcome(action, wants_delete=True)
