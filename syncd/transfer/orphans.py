"""Unfinished multipart uploads: ours, and orphans that the stores list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from syncd.core.model import Checkpoint, Source, UploadInfo
from syncd.state.state import State
from syncd.storage.base import ObjectStore


@dataclass(frozen=True, slots=True)
class Orphan:
    """An upload on the server without a checkpoint here."""

    store: str
    upload: UploadInfo
    spared: str
    """Why it is not aborted: it may be at work; empty if it can be."""


def orphans(
    name: str, store: ObjectStore, sources: Sequence[Source], state: State, *, before_ns: int
) -> Iterator[Orphan]:
    """Uploads under the sources' prefixes that no checkpoint knows. Raises StoreError.

    An orphan is aborted only if it began before `before_ns` (wall clock). The server is asked before the
    state, so that an upload that a running daemon begins in between does not look like an orphan. A
    checkpoint without an upload id protects every upload under its key: the daemon may be about to record
    the id.
    """
    found: dict[tuple[str, str], Orphan] = {}
    for source in sources:
        listed = list(store.list_multipart_uploads(source.prefix))
        checkpoints = state.checkpoints()
        known = {checkpoint.upload_id for checkpoint in checkpoints}
        beginning = {checkpoint.key for checkpoint in checkpoints if checkpoint.upload_id is None}
        foreign = state.root_identity(source.name) is None
        for upload in listed:
            if upload.upload_id in known or upload.key in beginning:
                continue
            spared = why_spared(upload, source.name, before_ns, foreign=foreign)
            place = upload.key, upload.upload_id
            if place not in found or not found[place].spared:
                found[place] = Orphan(name, upload, spared)
    yield from found.values()


def why_spared(upload: UploadInfo, source: str, before_ns: int, *, foreign: bool) -> str:
    """Why an upload without a checkpoint is not aborted; empty: it is.

    `foreign` says that the state has never seen the source: then the state that knows the upload is another.
    """
    if foreign:
        return f"this state does not know the source {source}"
    if upload.initiated_ns is None:
        return "the store does not say when it began"
    if upload.initiated_ns > before_ns:
        return "it began too recently"
    return ""


def ours(state: State) -> list[Checkpoint]:
    """The uploads that the running daemon, or its next start, resumes."""
    return state.checkpoints()
