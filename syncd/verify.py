"""Compare the store with what is recorded, and what is recorded with the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

from syncd import fingerprint
from syncd.errors import FileError, StoreError
from syncd.model import FileRef, FileStat, Recorded, Source
from syncd.state import State
from syncd.storage.base import ObjectStore

_PAGE = 1000
_READ_SIZE = 8 << 20


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as recorded. `serious`: the store does not hold what we said it holds."""

    ref: FileRef
    what: str
    serious: bool


def verify(
    source: Source, state: State, store: ObjectStore, *, read: bool, threads: int
) -> Iterator[Difference | None]:
    """Every difference of one source, and None for each file that is as recorded.

    Asks the store for each recorded object. With `read` every file is read and fingerprinted again; without,
    a file whose stat is as recorded is believed. Raises StoreError when the store cannot be used.
    """
    root_fd = fingerprint.open_root(source.root)
    try:
        with ThreadPoolExecutor(threads, thread_name_prefix="verify") as pool:
            rows = _rows(source, state)
            while batch := list(islice(rows, _PAGE)):
                work = [pool.submit(_verify_one, root_fd, ref, row, store, read) for ref, row in batch]
                for future in work:
                    yield from future.result()
    finally:
        os.close(root_fd)


def _rows(source: Source, state: State) -> Iterator[tuple[FileRef, Recorded]]:
    after: bytes | None = None
    while page := state.recorded_page(source.name, after, _PAGE):
        for path, row in page:
            yield FileRef(source.name, os.fsdecode(path)), row
        after = page[-1][0]


def _verify_one(
    root_fd: int, ref: FileRef, row: Recorded, store: ObjectStore, read: bool
) -> list[Difference | None]:
    found: list[Difference | None] = []
    if row.store_id != store.store_id:
        found.append(Difference(ref, f"its object is in another store: {row.store_id}", serious=False))
    else:
        found += _of_store(ref, row, store)
    found += _of_disk(root_fd, ref, row, read)
    return found or [None]


def _of_store(ref: FileRef, row: Recorded, store: ObjectStore) -> list[Difference]:
    info = store.head_object(row.key)
    if info is None:
        return [Difference(ref, "the object is missing", serious=True)]
    if info.size != row.fingerprint.size:
        what = f"the object has {info.size} bytes, recorded are {row.fingerprint.size}"
        return [Difference(ref, what, serious=True)]
    if info.digest is not None and info.digest != row.fingerprint.digest:
        return [Difference(ref, "the object has another fingerprint", serious=True)]
    if info.etag != row.etag:
        return [Difference(ref, "the object was written by somebody else", serious=True)]
    return []


def _of_disk(root_fd: int, ref: FileRef, row: Recorded, read: bool) -> list[Difference]:
    try:
        seen = fingerprint.look(root_fd, ref.path)
        if seen is None:
            return [Difference(ref, "the file is gone, its object is kept", serious=False)]
        if not isinstance(seen, FileStat):
            return [Difference(ref, f"the file is now a {seen.kind}", serious=False)]
        if not read:
            changed = seen != row.stat
            return [Difference(ref, "the file has changed since", serious=False)] if changed else []
        with closing(fingerprint.open_file(root_fd, ref.path)) as file:
            size = file.stat().size
            now = fingerprint.compute(file, size, _READ_SIZE, lambda: False).fingerprint
    except FileError as error:
        return [Difference(ref, f"the file cannot be read: {error}", serious=False)]
    if now == row.fingerprint:
        return []
    if seen == row.stat:
        return [Difference(ref, "the file's content changed, but not its stat", serious=True)]
    return [Difference(ref, "the file has changed since", serious=False)]


__all__ = ["Difference", "StoreError", "verify"]
