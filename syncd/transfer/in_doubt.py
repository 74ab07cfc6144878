"""Finds records that may be wrong about their object, and asks the store about it.

An object changes a moment before its row does. A process that dies in between, or loses the answer, leaves
a row that describes the previous object. Usually the file differs from the row, too, and its next upload
repairs that. But the file may have been restored to what the row says (from a backup, say). Then row and file
agree, while the store still holds something else. So a row in doubt is compared with its object before the
file counts as unchanged. A row is in doubt if

- it has no ETag: the ETag is cleared before the object is removed, and when a put or a copy got no answer;
- it was overtaken: for a time, its key was where the file of another source goes;
- this process began to change its object, and has not written a new row;
- its checkpoint says that an upload was being completed;
- an earlier process wrote it, and the source has not been compared since a process ended without writing all.
  Processes are numbered, because a clock may be set back.

An object may be another machine's, too. If one is under the prefix of a source (see `syncd.core.plan`),
another machine works there, and it may have written under any key. So every deletion and every overwrite of
that source waits until the operator says that this machine takes over; then the ids that were found count as
ours. New keys are sent after a question whether anything is there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterator, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

from msgspec.structs import replace

from syncd.core import plan
from syncd.core.errors import (
    AccessRefused,
    StateError,
    Stopped,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    is_denied,
)
from syncd.core.model import OVERTAKEN, Checkpoint, FileRef, ObjectInfo, Receipt, Recorded, Source
from syncd.core.paths import name_of, printable
from syncd.core.plan import Verdict
from syncd.state.state import State
from syncd.storage.base import ObjectStore
from syncd.storage.proofs import Comparison
from syncd.transfer.upload.part_sender import Job

log = logging.getLogger("syncd.transfer")

OWN = "own-instances"
"""The state keeps the ids of this machine's sources under this name."""
TAKEN_OVER = "taken-over-instances"
"""The state keeps the ids of instances that this machine took over from under this name."""
_MACHINE = "machine"
"""The state keeps its machine's identity under this name, for no store."""
_FOUND = "foreign:"  # and the name of a source: ids of other instances, each with the first key found
_MOST_FOUND = 100
_NO_ROW = nullcontext()


class InDoubt:
    """The rows of one store that are in doubt. For any thread.

    `trouble` asks the store a neutral question, and returns the error or None.
    """

    def __init__(
        self,
        store: ObjectStore,
        state: State,
        now_ns: Callable[[], int],
        trouble: Callable[[], StoreError | None],
    ) -> None:
        self._store = store
        self._state = state
        self._now_ns = now_ns
        self._trouble = trouble
        self._changing: set[FileRef] = set()

    def about(
        self, ref: FileRef, recorded: Recorded, unfinished: Checkpoint | None, *, reconciling: bool
    ) -> bool:
        """Return whether the object may differ from `recorded`.

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

    def ask(self, key: str) -> ObjectInfo | None:
        """Return the object under this key, as far as the keys may know. Raises StoreError."""
        info, error = self.tell(key)
        if error is not None and not is_denied(error):
            raise error
        return info  # without the permission to list, a missing object is "forbidden", too

    def tell(self, key: str) -> tuple[ObjectInfo | None, StoreError | None]:
        """Return the object under this key, or the error if the store answers but refuses this one.

        Raises StoreError if the store does not answer, or refuses these keys as a whole: the object may be
        there. The caller holds a slot.
        """
        try:
            return self._store.head_object(key), None
        except (AccessRefused, StoreUnavailable) as error:
            trouble = error if _is_unanswered(error) else self._trouble()
            if trouble is not None and not is_denied(trouble):
                raise
        except StoreError as error:
            return None, error
        try:
            return self._store.head_object(key), None  # the store may have begun to answer in between
        except StoreError as error:
            if _is_unanswered(error):
                raise
            return None, error

    def look(self, key: str) -> ObjectInfo | None:
        """Return the object under this key before it is deleted. Raises StoreError, also if denied."""
        try:
            return self._store.head_object(key)
        except StoreRefused as refused:
            if not is_denied(refused):
                raise
            raise StoreRefused(
                f"its object is kept: these keys may not read it, so syncd cannot check it: {refused}",
                hint="give these keys the permission to read objects, or set `on_delete: keep`",
                status=refused.status,
                code=refused.code,
            ) from refused

    def changing(self, ref: FileRef, recorded: Recorded | None) -> AbstractContextManager[None]:
        """Return a context for a change of this row's object, which stays in doubt until `settled`."""
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
        """Note that the row is right."""
        self._changing.discard(ref)


# ---- other machines --------------------------------------------------------------------------------------


def heed_machine(state: State, machine_id: str) -> None:
    """Treat what another machine wrote as another's, if the state was copied from there: it may still work.

    An object that equals its record is ours in any case. Machines without an id that lasts look the same.
    Raises StateError.
    """
    now = plan.instance_id(machine_id, "", "")
    known = state.learned("", _MACHINE)
    if not machine_id or known == now:
        return
    if known is not None:
        log.warning("the state is that of another machine: what that wrote since counts as another machine's")
        state.unlearn(OWN)
        state.unlearn(TAKEN_OVER)
    state.learn("", _MACHINE, now)


class Foreigners:
    """Other instances at one store, by source. For any thread; every method raises StateError."""

    def __init__(self, store_id: str, state: State) -> None:
        self._store_id = store_id
        self._state = state
        self._lock = threading.Lock()
        self._own = {name: frozenset[str](self._load(name, [])) for name in (OWN, TAKEN_OVER)}
        self._found: dict[str, dict[str, str]] = {}
        self._taking_over: set[str] = set()
        self._adopted: set[str] = set()
        self._suspected: set[str] = set()

    def recall(self, source: str) -> None:
        """Learn from the state which other instances were found. Before that, none was."""
        with self._lock:
            self._found[source] = dict(self._load(_FOUND + source, {}))

    def begin(self, source: str, instance: str) -> None:
        """Begin to write for a source; its instance stays ours when the source is renamed or moved."""
        self.recall(source)
        with self._lock:
            self._add(OWN, {instance})

    def own(self, *instances: str) -> frozenset[str]:
        """Return the ids that count as ours, these included."""
        return self._own[OWN].union(self._own[TAKEN_OVER], instances)

    def waits(self, source: str) -> str:
        """Return why deletions and overwrites of the source wait, and the remedy; empty: they do not."""
        if not self._found.get(source):
            return ""
        with self._lock:
            key = next(iter(self._waiting(source).values()), None)
        if key is None:
            return ""
        what = f"another machine wrote {printable(key)}, and not what is recorded here"
        end = f"if this machine is to take over: syncd sync --take-over {source}"
        return f"{what}: deletions and overwrites wait; {end}"

    def check(self, source: str) -> None:
        """Raise StoreRefused if deletions and overwrites of the source wait."""
        why = self.waits(source)
        if why:
            raise StoreRefused(why)

    def found(self, source: str, info: ObjectInfo) -> None:
        """Make the source wait: another machine wrote an object that was to be deleted or replaced.

        Raises StoreRefused, unless the operator has said that this machine takes over.
        """
        self._note(source, str(info.instance), info.key)
        self.check(source)

    def adopt(self, job: Job, info: ObjectInfo | None) -> Receipt | None:
        """Return the object under the job's key if it is what is to be sent. One that is known to have lost
        its content proves nothing.

        Raises StoreRefused if it must not be replaced, because another machine wrote it.
        """
        own = self.own(job.instance)
        content, proven = job.digests.fingerprint, is_proven(job, info)
        verdict = plan.before_put(info, own, job.aimed, content, md5=_md5(job, info), proven=proven)
        if info is None or verdict is Verdict.GO:
            return None
        if verdict is Verdict.WAIT:
            self.found(job.ref.source, info)
            return None
        if self._state.audits.has_rotted(job.ref):
            return None
        if job.aimed is None and plan.is_others(info, own):
            self._say_once(job.ref.source, info.key)
        return Receipt(info.key, info.etag)

    def may_delete(
        self, whose: tuple[str, str], info: ObjectInfo, recorded: Recorded, *, in_doubt: bool
    ) -> bool:
        """Return whether the object is the recorded one or ours; False: another program's.

        `whose` are the source and its instance. Raises StoreRefused if another machine wrote it.
        """
        source, instance = whose
        replaced = in_doubt or info.instance in self._own[TAKEN_OVER]
        verdict = plan.before_delete(info, self.own(instance), recorded, replaced=replaced)
        if verdict is Verdict.WAIT:
            self.found(source, info)
        return verdict is not Verdict.KEEP

    def judge(self, job: Job, info: ObjectInfo | None) -> Receipt | None:
        """Judge an object that is not the one last seen under the job's key; return it if it is to be put.

        Any other is replaced, with a warning. Raises StoreRefused if another machine wrote it.
        """
        there = self.adopt(job, info)
        if there is None:
            what = "removed" if info is None else "replaced"
            log.warning("%s: its object was %s since it was last seen", name_of(job.ref), what)
            if info is not None:
                self.suspect((job.ref.source, job.instance), info, job.aimed)
        return there

    def suspect(self, whose: tuple[str, str], info: ObjectInfo, recorded: Recorded | None) -> None:
        """Doubt all rows of the source until their objects were compared, if this machine wrote an unrecorded
        object: the state was restored to an earlier time. `whose` are the source and its instance.
        """
        source, instance = whose
        if recorded is not None and plan.is_belied(info, recorded):
            return
        if info.instance is None or plan.is_others(info, self.own(instance)) or source in self._suspected:
            return
        self._suspected.add(source)
        self._state.overtake(source)
        why = "this machine wrote objects that are not recorded"
        log.warning("%s: %s: the next scan compares all of them", source, why)

    def take_over(self, source: str, *, ahead: bool = False) -> int:
        """Take over, because the operator says so; return how many other instances were found.

        With `ahead`, for a single pass, those that it will find count as ours, too.
        """
        self.recall(source)
        with self._lock:
            if ahead:
                self._taking_over.add(source)
            found = self._waiting(source).keys()
            self._add(TAKEN_OVER, found)
            return len(found)

    # ---- inside ------------------------------------------------------------------------------------------

    def _say_once(self, source: str, key: str) -> None:
        """Log, once for a source, that another machine's object replaces a transfer."""
        if source in self._adopted:
            return
        self._adopted.add(source)
        words = "%s: another machine wrote %s with the same content, so it is not sent; %s"
        advice = "if that machine still works there, give one of the two another prefix"
        log.warning(words, source, printable(key), advice)

    def _note(self, source: str, other: str, key: str) -> None:
        with self._lock:
            if source in self._taking_over:
                self._add(TAKEN_OVER, {other})
                return
            waiting = self._waiting(source)
            if other in waiting or len(waiting) >= _MOST_FOUND:
                return
            waiting[other] = key
            self._state.learn(self._store_id, _FOUND + source, json.dumps(waiting))
            self._found[source] = waiting
        log.warning("%s: %s", source, self.waits(source))

    def _waiting(self, source: str) -> dict[str, str]:
        own = self.own()
        return {other: key for other, key in self._found.get(source, {}).items() if other not in own}

    def _add(self, name: str, instances: Set[str]) -> None:
        if instances - self._own[name]:
            added = self._own[name] | instances
            self._state.learn(self._store_id, name, json.dumps(sorted(added)))
            self._own[name] = added

    def _load(self, name: str, default: Any) -> Any:
        text = self._state.learned(self._store_id, name)
        return json.loads(text) if text else default


def waits_for_others(source: Source, store_id: str, state: State) -> str:
    """See `Foreigners.waits`; as far as the state knows. Raises StateError."""
    others = Foreigners(store_id, state)
    others.recall(source.name)
    return others.waits(source.name)


def _is_unanswered(error: StoreError) -> bool:
    """Return whether the store did not answer the question, or put it off."""
    return isinstance(error, StoreUnavailable) and (error.status is None or not error.outcome_unknown)


def _md5(job: Job, info: ObjectInfo | None) -> bytes | None:
    """Return the MD5 of the content, if that is at hand and the object claims it and has an MD5."""
    if job.body is None or info is None or info.digest != job.digests.fingerprint.digest:
        return None
    return hashlib.md5(job.body, usedforsecurity=False).digest() if info.md5 is not None else None


def is_proven(job: Job, info: ObjectInfo | None) -> bool:
    """Return whether an object of another program has the content, by what that program left."""
    if info is None or not plan.is_to_prove(info, job.aimed, job.stat.size):
        return False
    if job.body is None:
        return bool(job.proven) and job.proven == info.etag
    comparison = Comparison(info, by_crc32=job.by_crc32)
    comparison.update(memoryview(job.body))
    return comparison.holds()
