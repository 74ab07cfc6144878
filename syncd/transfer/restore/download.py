"""Fetches one object into a draft, proves it, and gives it its name.

A small object comes in one request. A large one comes in ranges, in several threads, and continues after a
death. Every range is requested with the ETag of the intended object, so that the file never becomes a mixture
of two. An object that was replaced in between is fetched as it is now.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import ExitStack
from functools import partial
from threading import Semaphore

import xxhash
from msgspec import Struct, field
from msgspec.structs import replace

from syncd.core import parts
from syncd.core.errors import (
    AccessRefused,
    FileUnwritable,
    PartCorrupt,
    PreconditionFailed,
    Stopped,
    StoreRefused,
)
from syncd.core.model import Attributes, FileRef, ObjectInfo
from syncd.core.restoring import Existing, Proof, proof_of
from syncd.sources.buffers import Buffers
from syncd.storage.base import Body, ObjectStore
from syncd.transfer.pace.progress import Progress
from syncd.transfer.pace.slots import Slots
from syncd.transfer.restore.attributes import Facts
from syncd.transfer.restore.digest import digest_of_body
from syncd.transfer.restore.draft import Draft, name_of_draft
from syncd.transfer.restore.folder import Folder

Ended = Callable[[ObjectInfo, Proof | None, FileUnwritable | None], None]
"""Called with the object's description, its proof (None: there is none), and why it has no name (None: it has
one).
"""
_TRIES = 3
"""An object that is replaced so often while it is fetched is left for the next restore."""


class Download(Struct, frozen=True):
    """What all downloads from one store share. ``fetchers`` are the threads that request ranges."""

    store: ObjectStore
    folder: Folder
    fetchers: Executor
    slots: Slots
    progress: Progress
    part_size: int
    concurrency: int
    should_stop: Callable[[], bool]
    await_line: Callable[[], object] = lambda: None
    """Called before content is requested: waits out a pause. Raises Stopped."""
    buffers: Buffers = field(default_factory=Buffers)
    spare: Semaphore = field(default_factory=lambda: Semaphore(0))
    """How many parts may stay in memory until the digest of their file reaches them: fewer than fit into
    memory, or the part that it waits for could not come.
    """

    def is_large(self, size: int) -> bool:
        """Return whether an object comes in ranges."""
        return size > self.part_size

    def describe(self, key: str) -> ObjectInfo:
        """Return what the store says about the object. Raises StoreError, StoreRefused if there is none."""
        info = self.store.head_object(key)
        if info is None:
            raise StoreRefused(
                "the store has no such object", hint="look for an older version with the store's tools"
            )
        return info

    def _large_now(self, known: ObjectInfo) -> ObjectInfo:
        """Return what the store says about a large object. For a recorded one, the answer with its first byte
        is enough: loading requests for a HEAD takes half of the time of a start.
        """
        if known.digest is not None and (if_match := condition(known, again=False)):
            found = self.store.get_object(known.key, 0, 0, if_match).info
            if found.digest is not None:
                return found
        return self.describe(known.key)

    def fetch(self, info: ObjectInfo, path: str, existing: Existing | None, ended: Ended) -> None:
        """Restore the object to `path`, in the place of `existing`. `info` is what is known of it.

        Raises StoreError, FileUnwritable, Stopped, unless `ended` is called, now or by `Folder.settle`.
        """
        asked = False
        for attempt in range(_TRIES):
            try:
                if self.is_large(info.size):
                    info = info if asked else as_known(self._large_now(info), info)
                if self.is_large(info.size):
                    proof = self._large(info, path, existing, again=attempt > 0)
                    return ended(info, proof, None)
                return self._small(info, path, existing, ended, asked=asked)
            except (PreconditionFailed, PartCorrupt):
                if attempt == _TRIES - 1:
                    raise
                info, asked = as_known(self.describe(info.key), info), True
        raise AssertionError("the last attempt returns or raises")

    def content(self, info: ObjectInfo) -> tuple[ObjectInfo, Body]:
        """Return a small object whole and proven, with its description. Raises StoreError, Stopped."""
        with self.slots.hold(info.size):
            found, body = self._get(info, again=True)
        proof = proof_of(found) or proof_of(info)
        if proof is not None and digest_of_body(body, proof.kind) != proof.value:
            raise damaged(proof)
        return found, body

    # ---- in one request ----------------------------------------------------------------------------------

    def _small(
        self, info: ObjectInfo, path: str, existing: Existing | None, ended: Ended, *, asked: bool
    ) -> None:
        if info.size == 0 and not asked:
            info, asked = as_known(self.describe(info.key), info), True
            if info.size:
                raise PreconditionFailed("the object was replaced since syncd looked at it")
        with self.slots.hold(info.size):
            found, body = self._get(info, again=asked)
            proof = proof_of(found) or proof_of(info)
            if proof is None and not asked:
                proof = proof_of(self.describe(info.key))
            if proof is not None and digest_of_body(body, proof.kind) != proof.value:
                raise damaged(proof)
            name, facts = name_of_draft(self.store.store_id, info.key), facts_of(found, info)
            self.folder.write_soon(path, name, body, existing, facts, partial(ended, info, proof))

    def _get(self, info: ObjectInfo, *, again: bool) -> tuple[ObjectInfo, Body]:
        """Return the whole object and its description. It asks by ETag, so the answer must be the store's."""
        if info.size == 0:
            return info, b""
        self.await_line()
        found, body = self.store.get_object(info.key, 0, info.size - 1, condition(info, again=again))
        if found.size != info.size or len(body) != info.size:
            raise PreconditionFailed("the object's size changed since syncd looked at it")
        return found, body

    # ---- in ranges ---------------------------------------------------------------------------------------

    def _large(self, info: ObjectInfo, path: str, existing: Existing | None, *, again: bool) -> Proof | None:
        proof = proof_of(info)
        ref = FileRef("", path)
        with self.folder.draft(path, name_of_draft(self.store.store_id, info.key)) as draft:
            if proof is None or not draft.is_cut_to(info.size) or not draft.proves(proof, info.size):
                try:
                    draft.prepare(info.size, self.part_size, self._identity(info))
                except OSError:
                    draft.discard()  # it is empty
                    raise
                if proof is not None:
                    draft.expect(proof.kind, self.spare)
                self.progress.began(ref, info.size, 0)
                try:
                    with self.buffers.in_use():
                        self._fill(draft, info, ref, condition(info, again=again))
                except (PreconditionFailed, StoreRefused) as error:
                    if not isinstance(error, AccessRefused):
                        draft.discard()  # nothing will continue it
                    raise
                finally:
                    self.progress.ended(ref)
                if proof is not None and not draft.proves(proof, info.size):
                    draft.discard()
                    raise damaged(proof)
            self.folder.place(draft, path, existing, info.size, facts_of(info, info))
        return proof

    def _identity(self, info: ObjectInfo) -> bytes:
        """Return an id that differs for another object, or for the same one in other parts."""
        facts = (self.store.store_id, info.key, info.etag, info.size, info.digest, self.part_size)
        return xxhash.xxh3_128_digest(repr(facts).encode())

    def _fill(self, draft: Draft, info: ObjectInfo, ref: FileRef, if_match: str) -> None:
        """Fetch every part into the draft. Raises the first error when no thread works on the draft."""
        pending: set[Future[None]] = set()
        try:
            for span in parts.cut(info.size, self.part_size):
                pending.add(self.fetchers.submit(self._part, draft, info.key, ref, span, if_match))
                if len(pending) >= 2 * self.concurrency:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    for future in done:
                        future.result()
            for future in pending:
                future.result()
        finally:
            for future in pending:
                future.cancel()
            wait(pending)

    def _part(self, draft: Draft, key: str, ref: FileRef, span: parts.Span, if_match: str) -> None:
        if self.should_stop():
            raise Stopped("stopped before a part")
        with ExitStack() as held:
            held.enter_context(self.slots.hold(span.size))
            body: Body | None = None
            if not draft.has(span):
                self.await_line()
                room = held.enter_context(self.buffers.lend(span.size))
                last = span.offset + span.size - 1
                with self.progress.sending(ref, span.size):
                    body = self.store.get_object(key, span.offset, last, if_match, room).body
                if len(body) != span.size:
                    raise PreconditionFailed("the object's size changed since syncd looked at it")
                draft.keep(span, body)
            draft.follow(span, body, held)
        self.progress.carried(ref, span.size)


def condition(info: ObjectInfo, *, again: bool) -> str:
    """Return the ETag to request. If a store had to read the object to know it, the digest must do: it shows
    a mixture at the end.
    """
    return "" if info.foreign or (again and info.digest is not None) else info.etag


def as_known(found: ObjectInfo, known: ObjectInfo) -> ObjectInfo:
    """Return the store's description with the recorded mtime of this content: a touched file was not sent
    again.
    """
    is_other = found.digest is not None and found.digest != known.digest
    return found if is_other or known.mtime_ns is None else replace(found, mtime_ns=known.mtime_ns)


def facts_of(found: ObjectInfo, known: ObjectInfo) -> Facts:
    """Return mtime and attributes, as far as either has them."""
    mtime_ns = as_known(found, known).mtime_ns
    mtime_ns = found.stored_ns if mtime_ns is None else mtime_ns
    attributes = found.attributes or known.attributes or Attributes()
    if attributes.mode is None:
        attributes = replace(attributes, mode=found.mode if found.mode is not None else known.mode)
    return mtime_ns, attributes


def damaged(proof: Proof) -> PartCorrupt:
    """Return the error for content that is not what the store claims."""
    return PartCorrupt(
        f"the content does not have the {proof.kind} that its object has to have: it is damaged, in the "
        "store or on the way"
    )
