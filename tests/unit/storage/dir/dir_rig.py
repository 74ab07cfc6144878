"""What the tests of the directory store share."""

from __future__ import annotations

import os
from pathlib import Path

import xxhash

from syncd.core.model import Fingerprint, ObjectMeta
from syncd.storage.dir.store import DirStore

MTIME_NS = 1_500_000_000_123_456_789


def meta_of(body: bytes, token: str = "token") -> ObjectMeta:
    content = Fingerprint(xxhash.xxh3_128_digest(body), len(body))
    return ObjectMeta(content, MTIME_NS, token, instance="writer")


def put(store: DirStore, key: str, body: bytes) -> str:
    return store.put_object(key, body, meta_of(body)).etag


def read(store: DirStore, key: str) -> bytes | None:
    """The object, after making sure that the store says the truth about it."""
    info = store.head_object(key)
    if info is None:
        return None
    body = store.get_object(key, 0, info.size).body if info.size else b""
    assert (info.size, info.digest) == (len(body), xxhash.xxh3_128_digest(body))
    return body


def visible(root: Path) -> list[str]:
    """Every name outside of ``.syncd``."""
    names = (str(path.relative_to(root)) for path in root.rglob("*"))
    return sorted(name for name in names if name.split("/")[0] != ".syncd")


def staged(root: Path) -> list[str]:
    return os.listdir(root / ".syncd" / "tmp")
