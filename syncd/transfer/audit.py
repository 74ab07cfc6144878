"""Compare the store with what is recorded, and what is recorded with the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

from syncd.core import paths
from syncd.core.errors import AccessRefused, FileError, StoreRefused
from syncd.core.model import FileRef, FileStat, Recorded, Source
from syncd.sources import files, fingerprint
from syncd.state.state import State
from syncd.storage.base import ObjectStore

_PAGE = 1000
_READ_SIZE = 8 << 20


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs from its record. `serious`: the store does not hold what we claim it holds."""

    ref: FileRef
    what: str
    serious: bool


def verify(
    source: Source, state: State, store: ObjectStore, *, read: bool, threads: int
) -> Iterator[list[Difference]]:
    """Yield the differences of each recorded file of one source: an empty list where there are none.

    Asks the store for each recorded object. With `read` every file is read and fingerprinted again; without,
    a file whose stat matches its record counts as unchanged. If the root cannot be opened, only the store is
    compared. Raises StoreError when the store cannot be used.
    """
    root_fd: int | None = None
    try:
        root_fd = files.open_root(source.root)
    except FileError as error:
        what = f"the source's directory cannot be opened: {error}"
        yield [Difference(FileRef(source.name, ""), what, serious=False)]
    pool = ThreadPoolExecutor(threads, thread_name_prefix="verify")
    try:
        rows = _rows(source, state)
        while batch := list(islice(rows, _PAGE)):
            work = [pool.submit(_verify_one, root_fd, ref, row, store, read) for ref, row in batch]
            for future in work:
                yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)  # do not ask a store that is down for the remaining objects
        if root_fd is not None:
            os.close(root_fd)


def unknown(
    source: Source, state: State, store: ObjectStore, others: Sequence[Source]
) -> Iterator[Difference]:
    """Objects under the source's prefix without a record: left from earlier files, or written by others.

    `others` are the other sources of the same store; objects under their own prefixes belong to them. Raises
    StoreError.
    """
    theirs = tuple(
        other.prefix
        for other in others
        if other.prefix != source.prefix and other.prefix.startswith(source.prefix)
    )
    for info in store.list_objects(source.prefix):
        if theirs and info.key.startswith(theirs):
            continue
        path = paths.path_for(source.prefix, info.key)
        row = state.recorded(FileRef(source.name, path)) if path is not None else None
        if row is None or (row.store_id, row.key) != (store.store_id, info.key):
            shown = FileRef(source.name, path if path is not None else info.key)
            yield Difference(shown, "the store has an object without a record", serious=False)


def _rows(source: Source, state: State) -> Iterator[tuple[FileRef, Recorded]]:
    after: bytes | None = None
    while page := state.recorded_page(source.name, after, _PAGE):
        for path, row in page:
            yield FileRef(source.name, os.fsdecode(path)), row
        after = page[-1][0]


def _verify_one(
    root_fd: int | None, ref: FileRef, row: Recorded, store: ObjectStore, read: bool
) -> list[Difference]:
    if row.store_id != store.store_id:
        found = [Difference(ref, f"its object is in another store: {row.store_id}", serious=False)]
    else:
        found = _of_store(ref, row, store)
    return found + _of_disk(root_fd, ref, row, read) if root_fd is not None else found


def _of_store(ref: FileRef, row: Recorded, store: ObjectStore) -> list[Difference]:
    try:
        info = store.head_object(row.key)
    except AccessRefused:
        raise
    except StoreRefused as refused:
        return [Difference(ref, f"the store refuses to describe the object: {refused}", serious=True)]
    if info is None:
        return [Difference(ref, "the object is missing", serious=True)]
    if info.size != row.fingerprint.size:
        what = f"the object has {info.size} bytes, its record says {row.fingerprint.size}"
        return [Difference(ref, what, serious=True)]
    if info.digest is not None and info.digest != row.fingerprint.digest:
        return [Difference(ref, "the object has a different fingerprint", serious=True)]
    if info.etag == row.etag:
        return []
    if info.digest is None:
        return [Difference(ref, "another program wrote the object", serious=True)]
    return [Difference(ref, "another program rewrote the object, with the same fingerprint", serious=False)]


def _of_disk(root_fd: int, ref: FileRef, row: Recorded, read: bool) -> list[Difference]:
    try:
        seen = files.look(root_fd, ref.path)
        if seen is None:
            return [Difference(ref, "the file is gone, its object is kept", serious=False)]
        if not isinstance(seen, FileStat):
            return [Difference(ref, f"the file is now a {seen.kind}", serious=False)]
        if not read:
            changed = seen != row.stat
            return [Difference(ref, "the file has changed since", serious=False)] if changed else []
        with closing(files.open_file(root_fd, ref.path)) as file:
            size = file.stat().size
            now = fingerprint.compute(file, size, _READ_SIZE, lambda: False).fingerprint
    except FileError as error:
        return [Difference(ref, f"the file cannot be read: {error}", serious=False)]
    if now == row.fingerprint:
        return []
    if seen == row.stat:
        return [Difference(ref, "the file's content changed, but not its stat", serious=True)]
    return [Difference(ref, "the file has changed since", serious=False)]


__all__ = ["Difference", "unknown", "verify"]
