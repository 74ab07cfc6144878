"""The stores that the conformance suite examines, and what each of them is known to do differently.

A `Subject` opens clients on one empty place (a bucket, a directory, a memory) and says what a test has to
know about it. `QUIRKS` is the one place where a deviation is declared, each with its reason; a test that
meets one asserts what the store does instead, so that a quirk that goes away is noticed.
"""

from __future__ import annotations

import errno
import itertools
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.core.backoff import Schedule
from syncd.core.errors import StoreError
from syncd.storage.base import Clock, Memory, ObjectStore
from syncd.storage.bos.dialect import BosDialect
from syncd.storage.http.credentials import credentials_source
from syncd.storage.http.messages import Dialect, Request, Response
from syncd.storage.http.store import HttpStore
from syncd.storage.http.transport import Transport
from syncd.storage.opening import StoreContext, open_store
from syncd.storage.retry import Retries
from syncd.storage.s3.dialect import S3Dialect
from syncd.storage.settings import BosSettings, DirSettings, HttpSettings, KeySettings, S3Settings
from tests.support.bos_server import BosServer
from tests.support.servers import S3Server, SwiftServer
from tests.support.store import SMALL_LIMITS, FakeStore
from tests.unit.storage.http.transports import requests_transport

BUCKET = "conformance"
MISSING_BUCKET = "no-such-bucket-here"
WRONG_SECRET = "a-secret-that-is-not-the-right-one-at-all"

_NO_FILE_NAME = {
    "refuses two slashes": "an empty component is not a file name",
    "refuses trailing slash": "an empty component is not a file name",
    "refuses dot segment": "the component . is not a file name",
    "refuses dot dot segment": "the component .. leads out of where the object belongs",
}
"""What `syncd.core.paths` never makes, and a directory cannot hold."""
_FOLDERS = {"refuses trailing slash": "only an empty object has such a key: it is a folder"}

QUIRKS: Mapping[str, Mapping[str, str]] = {
    "fake": {},
    "dir": _NO_FILE_NAME | _FOLDERS,
    "dir-sidecars": _NO_FILE_NAME | _FOLDERS,
    "ceph": {
        "completes again": "it remembers that the upload was completed, and answers as it did then",
        "cannot say gone at complete": "it answers 500 because it cannot lock an upload that does not exist",
        "ignores conditions of copies": "x-amz-copy-source-if-match has no effect in this release",
        "ignores conditions of part copies": "x-amz-copy-source-if-match has no effect in this release",
        "loses tags of complete": "this release honours x-amz-tagging only in a PutObject",
        "loses tags of copy": "this release honours x-amz-tagging only in a PutObject",
        "has no conditions": "this release knows no ETag in quotes, and ignores the condition of a complete",
    },
    "swift": {
        "has no tags": "it refuses the header",
        "has no conditions": "it refuses them with 501",
        "no uploads of escape": "it answers 500, perhaps for the same XML",
        "completes again": "it remembers that the upload was completed, and answers as it did then",
        "knows joined objects by another ETag": "a condition is compared with the ETag of the manifest",
    },
    "rclone": {
        "has no tags": "objects are files of a file system",
        "has no conditions": "they are not implemented",
        "refuses two slashes": "an empty component is not a file name",
        "refuses dot segment": "the component . is not a file name",
        "refuses dot dot segment": "the component .. is not a file name here",
        "hides uploads of escape": "its list of uploads is XML, which cannot hold that character",
        "hides uploads of trailing slash": "its list of uploads drops the slash",
        "does not copy from trailing slash": "an empty component is not a file name",
        "lists objects without their trailing slash": "objects are files of a file system",
        "no object beside a directory": "objects are files of a file system",
        "begins uploads of longer keys": "it checks the key's length only at complete",
        "takes small parts": "a file needs no smallest part",
        "refuses a part that is sent again": "parts are streamed to the backend as they come",
        "refuses gaps": "parts are streamed to the backend in the order of their numbers",
        "forgets an upload whose complete it refused": "the stream to the backend has been closed",
        "changes the ETag of joined objects": "the ETag of a file is the MD5 of its bytes, known only later",
        "ignores conditions of copies": "conditions are not implemented",
        "does not copy parts": "it neither implements nor refuses UploadPartCopy",
        "does not check bodies": "the signed SHA-256 of the payload is not compared",
    },
    "moto": {
        "does not check bodies": "it checks no signatures, and so no payload hashes",
        "accepts any secret": "it checks no signatures",
        "has no conditions": "it ignores those of a complete",
        "refuses newline": "its router knows no path with a line break",
        "refuses carriage return": "its router knows no path with a line break",
        "takes longer keys": "it has no limit",
        "cannot say gone to a part": "it answers 500",
        "cannot say gone at complete": "it answers 500",
        "completes again": "it remembers that the upload was completed, and answers as it did then",
        "ignores conditions of copies": "conditions are not implemented",
        "ignores conditions of part copies": "conditions are not implemented",
    },
    "nanio": {
        **_NO_FILE_NAME,
        "refuses percent-encoded": "it decodes the path twice before it signs",
        "refuses newline": "it signs another path",
        "refuses carriage return": "it signs another path",
        "refuses tab": "it signs another path",
        "refuses escape": "it accepts no control characters",
        "begins uploads of what it refuses": "it checks the name only at complete",
        "no object beside a directory": "objects are files of a file system",
        "begins uploads of longer keys": "it checks the key's length only at complete",
        "takes small parts": "a file needs no smallest part",
        "refuses ranges beyond the end": "ranges have to end within the object",
        "has no tags": "a request for them is answered 500",
        "has no conditions": "they are not implemented",
        "copies metadata along": "it ignores the directive",
        "ignores conditions of copies": "conditions are not implemented",
        "does not copy parts": "it neither implements nor refuses UploadPartCopy",
        "does not check bodies": "the signed SHA-256 of the payload is not compared",
    },
    "localbucket": {
        **_NO_FILE_NAME,
        "no object beside a directory": "objects are files of a file system; it hangs up",
        "takes longer keys": "it has no limit",
        "keeps no metadata": "objects are plain files",
        "has no conditions": "they are not implemented",
        "has no list of parts": "it is not implemented",
        "has no list of uploads": "it is not implemented",
        "accepts any secret": "it checks no signatures",
        "does not check bodies": "it checks no signatures, and so no payload hashes",
    },
    "s3rver": {
        "refuses two slashes": "its router knows no such path",
        "lists carriage return under another key": "its list is XML, which reads that as a line break",
        "lists dot segment under another key": "it stores the object where the path leads to",
        "lists dot dot segment under another key": "it stores the object where the path leads to",
        "takes longer keys": "it has no limit",
        "takes small parts": "a file needs no smallest part",
        "mistakes a range that ends at the first byte": "it reads the 0 as no end",
        "cannot say gone at complete": "it answers 500",
        "has no abort": "it is not implemented",
        "has no conditions": "they are not implemented",
        "dies of a part that is not there": "it does not catch the error",
        **{
            f"does not copy from {kind}": "it does not decode the name of the source"
            for kind in ("plus", "hash", "question mark", "ampersand", "brackets", "star and pipe", "equals")
        },
        "ignores conditions of copies": "conditions are not implemented",
        "does not check bodies": "the signed SHA-256 of the payload is not compared",
        "accepts any secret": "it checks only the signatures of requests without a body",
        "has no tags": "it accepts them, but stores none",
        "has no list of parts": "it is not implemented",
        "has no list of uploads": "it is not implemented",
        "does not copy parts": "it is not implemented",
    },
    "fauxqs": {
        "lists carriage return under another key": "its list is XML, which reads that as a line break",
        "forgets headers": "it keeps only the Content-Type",
        "has no conditions": "they are not implemented",
        "has no list of parts": "it neither implements nor refuses it, and gives another answer",
        "has no list of uploads": "it neither implements nor refuses it, and answers with a list of objects",
        "has no tags": "it accepts them, but stores none",
        "takes longer keys": "it has no limit",
        "does not copy parts": "it neither implements nor refuses it",
        "ignores conditions of copies": "conditions are not implemented",
        "accepts any secret": "it checks no signatures",
        "does not check bodies": "it checks no signatures, and so no payload hashes",
    },
    "localstack": {
        "skips keys behind another": "it compares one with the percent-encoded form of the other",
        "hides uploads of plus": "its list of uploads claims to encode keys, and does not",
        "hides uploads of percent-encoded": "the same",
        "hides uploads of carriage return": "its list of uploads is XML, which reads that as a line break",
        "begins uploads of longer keys": "it checks the key's length only in a PutObject",
        "accepts any secret": "it checks no signatures",
        "does not check bodies": "it checks no signatures, and so no payload hashes",
    },
    "bos": {
        "refuses dot segment": "BOS takes no . between slashes",
        "refuses dot dot segment": "BOS takes no .. between slashes",
    },
}

LACKING = {
    "list_parts": "has no list of parts",
    "list_multipart_uploads": "has no list of uploads",
    "abort_multipart_upload": "has no abort",
}
"""The quirk of a server that has not got a verb. A test ends where it needs the verb."""

_names = itertools.count(1)


class Subject(ABC):
    """One kind of store, on a place of its own for each test."""

    name: str
    many_parts = 1001
    """How many tiny parts make more than one page of a listing; servers' pages are 1,000 unless told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.prefix = f"test{next(_names)}"
        self._opened: list[ObjectStore] = []

    def quirk(self, name: str) -> str | None:
        """The reason why this store deviates, where it does; see `QUIRKS`."""
        return QUIRKS[self.name].get(name)

    def key(self, name: str) -> str:
        """A key of this test alone."""
        return f"{self.prefix}/{name}"

    def open(self) -> ObjectStore:
        """A new client, as `open_store` makes it; closed by the fixture."""
        return self.keep(self._open())

    def keep(self, store: ObjectStore) -> ObjectStore:
        """Have `store` closed when the test is over."""
        self._opened.append(store)
        for verb, quirk in LACKING.items():
            if reason := self.quirk(quirk):
                setattr(store, verb, _lacking(getattr(store, verb), f"{self.name} {quirk}: {reason}"))
        return store

    @abstractmethod
    def _open(self) -> ObjectStore: ...

    @property
    def part_size(self) -> int:
        """The smallest part that this store takes in the middle."""
        return self._opened[0].limits.min_part_size

    def fetch(self, key: str) -> bytes | None:
        """An object's bytes by other means than ours; None where there are no other means."""
        return None

    def headers(self, key: str) -> dict[str, str] | None:
        """What an object's readers are told beside its content, by other means than ours; None as `fetch`."""
        return None

    def tags(self, key: str) -> dict[str, str] | None:
        """The tags of an object, by other means than ours; None as `fetch`, or where there are no tags."""
        return None

    def close(self) -> None:
        for store in self._opened:
            store.close()


def _lacking(verb: Callable[..., Iterable[object] | None], why: str) -> Callable[..., None]:
    """The verb, whose failure ends a test that needs it."""

    def fails(*args: object) -> None:
        try:
            list(verb(*args) or ())
        except StoreError:
            pytest.skip(why)
        pytest.fail(f"it works: {why}")

    return fails


class FakeSubject(Subject):
    """The store in memory, with pages of two entries."""

    many_parts = 7

    def __init__(self) -> None:
        super().__init__("fake")
        self.store = FakeStore(SMALL_LIMITS, page_size=2)

    def _open(self) -> ObjectStore:
        return self.store


class DirSubject(Subject):
    """The store in a directory."""

    many_parts = 120

    def __init__(self, name: str, root: Path) -> None:
        super().__init__(name)
        self.root = root

    def _open(self) -> ObjectStore:
        return open_store(DirSettings(str(self.root)), context())

    @property
    def part_size(self) -> int:
        return 1000

    def fetch(self, key: str) -> bytes | None:
        return (self.root / key).read_bytes()


class HttpSubject(Subject):
    """A store behind HTTP."""

    def _open(self) -> ObjectStore:
        return open_store(self.settings(), context())

    @abstractmethod
    def settings(self, *, bucket: str = BUCKET, secret: str | None = None) -> S3Settings | BosSettings: ...

    @abstractmethod
    def dialect(self) -> Dialect: ...

    def open_with_wrong_secret(self) -> ObjectStore:
        return self.keep(open_store(self.settings(secret=WRONG_SECRET), context()))

    def open_missing_bucket(self) -> ObjectStore:
        return self.keep(open_store(self.settings(bucket=MISSING_BUCKET), context()))

    def open_damaging(self, known: str = "") -> ObjectStore:
        """A client below which something changes every body on its way, after it was signed.

        `known` is what it remembers of what the server does with digests.
        """
        settings = self.settings()
        transport = requests_transport(settings.http, should_stop=lambda: False, on_sent=lambda size: None)
        keys = credentials_source(settings.keys, chain=False)
        digests = Memory(lambda store_id: known)
        return self.keep(HttpStore(self.dialect(), Damaging(transport), keys, time.time, digests=digests))


class Damaging:
    """A transport that flips one bit of every body."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner

    def send(self, request: Request) -> Response:
        if request.body:
            body = bytearray(request.body)
            body[len(body) // 2] ^= 1
            request = replace(request, body=bytes(body))
        return self._inner.send(request)

    def close(self) -> None:
        self._inner.close()


class S3Subject(HttpSubject):
    """A bucket of a third-party S3 server."""

    def __init__(self, server: S3Server) -> None:
        super().__init__(server.name)
        self.server = server
        if isinstance(server, SwiftServer):
            self.many_parts = 2 * server.page_size + 1
        if server.is_slow:
            self.many_parts = 20  # pages of 1,000 are the others' matter

    def settings(self, *, bucket: str = BUCKET, secret: str | None = None) -> S3Settings:
        return self.server.settings(bucket, secret_access_key=secret)

    def dialect(self) -> Dialect:
        return S3Dialect(self.settings())

    def fetch(self, key: str) -> bytes | None:
        return self.server.fetch(BUCKET, key)

    def headers(self, key: str) -> dict[str, str] | None:
        return self.server.headers(BUCKET, key)

    def tags(self, key: str) -> dict[str, str] | None:
        return self.server.tags(BUCKET, key)


class BosSubject(HttpSubject):
    """A bucket of the BOS server of our own tests."""

    def __init__(self, server: BosServer) -> None:
        super().__init__("bos")
        self.server = server
        self.many_parts = 2 * server.rules.page_size + 1

    def settings(self, *, bucket: str = BUCKET, secret: str | None = None) -> BosSettings:
        account = next(iter(self.server.accounts.values()))
        keys = KeySettings(
            access_key_id=account.access_key_id,
            secret_access_key=account.secret_access_key if secret is None else secret,
        )
        return BosSettings(http=HttpSettings(self.server.url), bucket=bucket, path_style=True, keys=keys)

    def dialect(self) -> Dialect:
        return BosDialect(self.settings())


def without_extended_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the system calls say what they say on a file system that has no extended attributes."""

    def refuse(*args: object, **more: object) -> bytes:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "setxattr", refuse)
    monkeypatch.setattr(os, "getxattr", refuse)


def context(sleep: Callable[[float], None] = time.sleep) -> StoreContext:
    """Real time, few and quick repetitions."""
    return StoreContext(
        Clock(time.time, sleep, lambda: 0.5),
        retries=Retries(Schedule(base_seconds=0.05, cap_seconds=0.5), max_tries=3),
    )
