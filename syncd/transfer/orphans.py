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

    `before_ns` is the wall clock before which an upload has to have begun to be aborted. The server is asked
    before the state: what a running daemon begins in between is not mistaken. An upload whose id a daemon is
    just about to record is left out because its key has a checkpoint.
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
    """The uploads that the next start, or the running daemon, goes on with."""
    return state.checkpoints()
