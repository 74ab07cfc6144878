"""The vendor's Java SDK as a second judge, where it is at hand: it sends ``/v1/`` before every path.

``SYNCD_BOS_JAVA`` is a class path with the SDK and what it needs. `BosJudge` makes its calls.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.core.model import ObjectMeta
from syncd.sources.fingerprint import of_bytes
from syncd.storage.base import DOUBLED, Clock, Memory, ObjectStore
from syncd.storage.opening import StoreContext, open_store
from syncd.storage.settings import BosSettings, HttpSettings, KeySettings
from tests.support.bos_server import BosServer

CLASS_PATH = os.environ.get("SYNCD_BOS_JAVA", "")
pytestmark = pytest.mark.skipif(not CLASS_PATH, reason="SYNCD_BOS_JAVA names no class path with the Java SDK")

JUDGE = Path(__file__).with_name("BosJudge.java")
KEYS = ["V1/y", "a b/中文 +%?&=#'\"x~y.bin", "k", "v1/x"]
MIB = 1 << 20


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BosServer]:
    """With the bucket in the path."""
    with BosServer(tmp_path / "bos") as running:
        yield running


@pytest.fixture
def store(server: BosServer) -> Iterator[ObjectStore]:
    """Ours, to which it was proven how keys below v1/ are spelt."""
    settings = BosSettings(HttpSettings(server.url), "photos", keys=KeySettings("ak", "sk"))
    clock = Clock(time.time, lambda seconds: None, lambda: 0.5)
    opened = open_store(settings, StoreContext(clock, version_keys=Memory(lambda store_id: DOUBLED)))
    yield opened
    opened.close()


def judged(server: BosServer, *calls: tuple[str, ...]) -> list[str]:
    """What the SDK says to each of the calls."""
    command = ["java", "-Dfile.encoding=UTF-8", "-cp", CLASS_PATH, str(JUDGE), server.url]
    asked = "\n".join("\t".join(call) for call in calls)
    done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def meta(body: bytes) -> ObjectMeta:
    """As the daemon sends it."""
    return ObjectMeta(of_bytes(body), 1_600_000_000_500_000_000, "token")


def test_what_the_one_puts_the_other_reads(server: BosServer, store: ObjectStore) -> None:
    """Content, ETag, metadata and listings, also of keys below v1/; and both delete."""
    etag = hashlib.md5(b"theirs").hexdigest()
    assert judged(server, *(("put", key, "theirs", "1.5") for key in KEYS)) == [etag] * len(KEYS)
    for key in KEYS:
        found = store.head_object(key)
        assert found is not None
        assert (found.size, found.etag, found.mtime_ns) == (6, etag, 1_500_000_000)
        assert store.get_object(key, 0, 5).body == b"theirs"
        store.put_object(key, b"ours", meta(b"ours"))
    told = f"4 {hashlib.md5(b'ours').hexdigest()} 1600000000.5"
    assert judged(server, *(("head", key) for key in KEYS)) == [told] * len(KEYS)
    assert judged(server, ("list", "")) == ["|".join(info.key for info in store.list_objects(""))]
    copied, deleted, gone = judged(server, ("copy", "v1/x", "c"), ("delete", "v1/x"), ("delete", "v1/x"))
    assert (copied, deleted, gone) == (hashlib.md5(b"ours").hexdigest(), "deleted", "404 NoSuchKey")
    assert (store.head_object("v1/x"), store.get_object("c", 0, 3).body) == (None, b"ours")


def test_the_one_ends_the_upload_that_the_other_began(server: BosServer, store: ObjectStore) -> None:
    """Its parts are listed, and make one object."""
    body = b"x" * 5 * MIB
    for key in ("v1/x", "k"):
        upload_id = store.create_multipart_upload(key, meta(body + b"end"))
        store.upload_part(key, upload_id, 1, body)
        part, completed = judged(server, ("part", key, upload_id, "2", "end"), ("complete", key, upload_id))
        assert (part, completed) == (hashlib.md5(b"end").hexdigest(), "completed of 2")
        assert store.get_object(key, len(body), len(body) + 2).body == b"end"
        (theirs,) = judged(server, ("begin", key))
        assert judged(server, ("part", key, theirs, "1", "all")) == [hashlib.md5(b"all").hexdigest()]
        store.complete_multipart_upload(key, theirs, store.list_parts(key, theirs), meta(b"all"))
        assert judged(server, ("get", key), ("abort", key, theirs)) == ["all", "404 NoSuchUpload"]
