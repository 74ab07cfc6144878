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


def orphans(name: str, store: ObjectStore, sources: Sequence[Source], state: State) -> Iterator[Orphan]:
    """Uploads under the sources' prefixes that no checkpoint knows. Raises StoreError.

    The server is asked before the state: what a running daemon begins in between is not mistaken. An upload
    whose id a daemon is just about to record is spared because its key has a checkpoint.
    """
    seen: set[tuple[str, str]] = set()
    for source in sources:
        listed = list(store.list_multipart_uploads(source.prefix))
        checkpoints = state.checkpoints()
        known = {checkpoint.upload_id for checkpoint in checkpoints}
        beginning = {checkpoint.key for checkpoint in checkpoints if checkpoint.upload_id is None}
        for upload in listed:
            if upload.upload_id in known or upload.key in beginning:
                continue
            if (upload.key, upload.upload_id) not in seen:
                seen.add((upload.key, upload.upload_id))
                yield Orphan(name, upload)


def ours(state: State) -> list[Checkpoint]:
    """The uploads that the next start, or the running daemon, goes on with."""
    return state.checkpoints()
