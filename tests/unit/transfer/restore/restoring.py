"""A restore from a store into a folder, with everything that the command would join."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Event

import xxhash

from syncd.core.model import Fingerprint, ObjectMeta
from syncd.core.restoring import Overwrite
from syncd.storage.base import ObjectStore
from syncd.transfer.pace.progress import Line, Progress
from syncd.transfer.pace.slots import Slots
from syncd.transfer.restore.closed import Closed
from syncd.transfer.restore.download import Download
from syncd.transfer.restore.folder import Folder
from syncd.transfer.restore.restore import Report, Restore
from syncd.transfer.restore.wanted import Wanted, listed

PART = 8192
MTIME_NS = 1_234_567_890_123_456_789


def restore(
    store: ObjectStore,
    to: Path,
    items: Iterable[Wanted] | None = None,
    *,
    overwrite: Overwrite = Overwrite.NEVER,
    closed: Mapping[str, Closed] | None = None,
    concurrency: int = 3,
    dry_run: bool = False,
    stopping: Event | None = None,
) -> Report:
    """Restore `items`, by default everything that the store lists."""
    stop = stopping or Event()
    report = Report()
    folder = Folder(os.path.realpath(to), closed or {}, create=not dry_run)
    with closing(folder), ThreadPoolExecutor(concurrency) as fetchers:
        progress = Progress(Line(), sleep=time.sleep)
        slots = Slots(concurrency, 1 << 20)
        download = Download(store, folder, fetchers, slots, progress, PART, concurrency, stop.is_set)
        work = Restore(download, report, overwrite, dry_run=dry_run, should_stop=stop.is_set)
        work.run(listed(store, "", "", "") if items is None else items)
    assert progress.in_flight() == []
    return report


def content(size: int, seed: int = 0) -> bytes:
    """Bytes that repeat nowhere."""
    return random.Random(f"{size}-{seed}").randbytes(size)


def put(store: ObjectStore, key: str, body: bytes, mtime_ns: int = MTIME_NS, mode: int = 0o640) -> str:
    """An object as syncd writes it; returns its ETag."""
    fingerprint = Fingerprint(xxhash.xxh3_128_digest(body), len(body))
    return store.put_object(key, body, ObjectMeta(fingerprint, mtime_ns, mode=mode)).etag


def tree(folder: Path) -> dict[str, bytes | None]:
    """What is below a folder: the bytes of each file, None for each folder."""
    found: dict[str, bytes | None] = {}
    for path in sorted(folder.rglob("*")):
        found[str(path.relative_to(folder))] = path.read_bytes() if path.is_file() else None
    return found


def reasons(report: Report) -> dict[str, str]:
    """Why each failure failed, by path."""
    return {entry.path: entry.reason for entry in report.failures}
