"""The probes with which `syncd check` examines a store, and the bench that they use.

A probe works on every store, by the protocol alone. What it makes is in its own place under a prefix, and
removed in the end.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from msgspec import Struct
from msgspec.structs import replace

from syncd.cli.common import Reporter
from syncd.core.errors import (
    AccessRefused,
    PartsRefused,
    PreconditionFailed,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    UploadGone,
)
from syncd.core.model import ObjectMeta, Part, Receipt
from syncd.sources.fingerprint import of_bytes
from syncd.storage.base import ObjectStore

ProbeResult = tuple[bool | None, str]
"""Whether it passed (None: a remark), and what was found."""

MTIME_NS = 1_600_000_000_123_456_789
"""A time that shows whether nanoseconds survive."""

_SAMPLE_BYTES = 64


class Upload(Struct, frozen=True):
    """A multipart upload that a probe began."""

    key: str
    id: str
    meta: ObjectMeta


class Bench:
    """One store under examination. Keys are under `prefix`, in a directory that only this bench uses."""

    def __init__(self, store: ObjectStore, prefix: str, report: Reporter) -> None:
        self.store = store
        self.place = f"{prefix}syncd-check-{os.urandom(6).hex()}/"
        self._report = report
        self._keys: list[str] = []
        self._uploads: list[Upload] = []

    def run(self, name: str, probe: Callable[[Bench], ProbeResult]) -> None:
        """Run a probe and report it. Raises errors about the whole store; every other error is the result."""
        try:
            passed, detail = probe(self)
        except (AccessRefused, StoreUnavailable):
            raise
        except StoreError as error:
            passed, detail = False, str(error)
        self._report(name, passed, detail)

    def go_on(self, name: str, probe: Callable[[Bench], ProbeResult]) -> None:
        """Run, but any error of a probe is its result if the store answers an easy request.

        Raises the error if it does not.
        """
        try:
            self.run(name, probe)
        except (AccessRefused, StoreUnavailable) as error:
            try:
                reachable(self)
            except StoreError:
                raise error from None
            self._report(name, False, str(error))

    def key(self, name: str) -> str:
        """Return a key for a probe; its object is removed in the end."""
        key = self.place + name
        self._keys.append(key)
        return key

    def meta(self, body: bytes) -> ObjectMeta:
        """Return metadata for an object with this content, as the daemon sends it."""
        token, instance = os.urandom(8).hex(), os.urandom(16).hex()
        return ObjectMeta(of_bytes(body), MTIME_NS, token, "text/plain", instance=instance)

    def put(self, name: str, body: bytes) -> tuple[str, Receipt]:
        """Put an object with this content; return its key and the receipt."""
        key = self.key(name)
        try:
            return key, self.store.put_object(key, body, self.meta(body))
        except StoreRefused:
            self._keys.remove(key)  # nothing was stored, and the store may refuse to delete such a key, too
            raise

    def begin(self, name: str, body: bytes) -> Upload:
        """Begin a multipart upload of an object with this content; aborted in the end."""
        key, meta = self.key(name), self.meta(body)
        upload = Upload(key, self.store.create_multipart_upload(key, meta), meta)
        self._uploads.append(upload)
        return upload

    def part(self, upload: Upload, number: int, body: bytes) -> Part:
        """Send one part."""
        return self.store.upload_part(upload.key, upload.id, number, body)

    def complete(self, upload: Upload, parts: list[Part]) -> Receipt:
        """Complete an upload from parts in ascending order."""
        return self.store.complete_multipart_upload(upload.key, upload.id, parts, upload.meta)

    def differs(self, key: str, body: bytes) -> str | None:
        """Return how the object differs from `body` (size, checksum, samples of content); None: equal."""
        info = self.store.head_object(key)
        if info is None:
            return "the object is not there"
        if info.size != len(body):
            return f"it has {info.size} bytes, not {len(body)}"
        if info.crc32 is not None and info.crc32 != zlib.crc32(body):
            return "the store's checksum is that of another content"
        for first in sorted({0, len(body) // 2, max(0, len(body) - _SAMPLE_BYTES)}):
            last = min(first + _SAMPLE_BYTES, len(body)) - 1
            if last >= first and self.store.get_object(key, first, last).body != body[first : last + 1]:
                return f"other bytes at {first}"
        return None

    def holds(self, key: str, body: bytes, detail: str, token: str | None = None) -> ProbeResult:
        """Pass, with this detail, if the object is `body` and has this token; else fail, with the reason."""
        difference = self.differs(key, body)
        if difference is None and token is not None:
            info = self.store.head_object(key)
            if info is None or info.token != token:
                difference = "the object does not have the metadata that was sent with it"
        return difference is None, difference or detail

    def refusal(self, call: Callable[[], object]) -> StoreError | None:
        """Return the refusal of the call, of any kind; None: it succeeds.

        Raises errors about the whole store.
        """
        try:
            call()
        except (AccessRefused, StoreUnavailable):
            raise
        except StoreError as refused:
            return refused
        return None

    def clean(self) -> list[str]:
        """Remove everything; return what could not be removed, by name.

        An object whose put had no clear answer may not exist: the list shows that.
        """
        store = self.store
        tasks = [
            (
                f"upload {upload.id} of {upload.key}",
                partial(store.abort_multipart_upload, upload.key, upload.id),
            )
            for upload in self._uploads
        ]
        tasks += [(key, partial(store.delete_object, key)) for key in dict.fromkeys(self._keys)]
        left = [name for name, remove in tasks if not _succeeds(remove)]
        with suppress(StoreError):
            there = {info.key for info in store.list_objects(self.place)} if left else set()
            if there <= set(self._keys):  # else it may list an object under another name
                left = [name for name in left if name in there or name not in self._keys]
        return left


def _succeeds(call: Callable[[], object]) -> bool:
    try:
        call()
    except StoreError:
        return False
    return True


def said(refused: StoreError) -> str:
    """Return status and code of a refusal, if it has them."""
    return f"{refused.status or ''} {refused.code}".strip() or type(refused).__name__


def altered(part: Part) -> Part:
    """Return the part with another ETag."""
    first = "1" if part.etag.startswith("0") else "0"
    return replace(part, etag=first + part.etag[1:])


# ---- reachable and writable -------------------------------------------------------------------------------


def reachable(bench: Bench) -> ProbeResult:
    """The store answers, and does not have an object that was never put."""
    found = bench.store.head_object(bench.key("nothing"))
    return found is None, bench.store.store_id


def writable(bench: Bench) -> ProbeResult:
    """One tiny object is put, looked at and deleted."""
    body = b"syncd check"
    key, _ = bench.put("writable", body)
    passed, detail = bench.holds(key, body, "an object was put, found and deleted")
    refused = bench.refusal(lambda: bench.store.delete_object(key))
    if refused is not None:
        return None, f"writable, but {key} cannot be deleted (only on_delete: delete needs that): {refused}"
    return passed, detail


# ---- whole objects ----------------------------------------------------------------------------------------

_ODD_NAME = "a b+c%20&?=#'\"\u4e2d\u6587~!(),;@$.txt"
_HELLO = b"hello from syncd check"


def metadata(bench: Bench) -> ProbeResult:
    """Digest, mtime to the nanosecond, token and instance come back with the object."""
    key = bench.key("metadata")
    meta = bench.meta(_HELLO)
    bench.store.put_object(key, _HELLO, meta)
    info = bench.store.head_object(key)
    if info is None:
        return False, "the object just put is not there"
    if (info.digest, info.token) != (meta.fingerprint.digest, meta.token):
        return False, "digest or token do not come back: a lost state database could not be rebuilt"
    if info.instance != meta.instance:
        return None, "the instance does not come back: another machine that writes here goes unnoticed"
    if info.mtime_ns != MTIME_NS:
        return None, f"the mtime comes back as {info.mtime_ns}, not as {MTIME_NS}"
    return True, "digest, mtime, token and instance come back"


def empty(bench: Bench) -> ProbeResult:
    """An object without content."""
    key, _ = bench.put("empty", b"")
    return bench.holds(key, b"", "0 bytes")


def odd_names(bench: Bench) -> ProbeResult:
    """Names that need every kind of encoding, a double slash and the longest key."""
    longest = "x" * (bench.store.limits.max_key_bytes - len(bench.place.encode()))
    troubles = []
    for name in (_ODD_NAME, "double//slash", "trailing dot.", "line\nfeed", longest):
        try:
            bench.put(name, _HELLO)
            trouble = bench.differs(bench.place + name, _HELLO)
        except StoreError as error:
            trouble = str(error)
        if trouble is not None:
            troubles.append(f"{name[:20]!r}: {trouble}")
    return (None, "; ".join(troubles)) if troubles else (True, "all accepted and found again")


def ranges(bench: Bench) -> ProbeResult:
    """Ranges with both ends included."""
    key, _ = bench.put("ranges", _HELLO)
    found = bench.store.get_object(key, 6, 9).body
    return found == _HELLO[6:10], f"bytes 6 to 9 are {found!r}"


def overwrite(bench: Bench) -> ProbeResult:
    """The second put replaces the first, and is seen at once."""
    key, _ = bench.put("overwrite", b"first")
    bench.put("overwrite", _HELLO)
    return bench.holds(key, _HELLO, "the second content is there at once")


def absent(bench: Bench) -> ProbeResult:
    """Head finds no deleted object, get is refused, and deleting it twice succeeds."""
    key, _ = bench.put("absent", _HELLO)
    bench.store.delete_object(key)
    bench.store.delete_object(key)
    if bench.store.head_object(key) is not None:
        return False, "a deleted object is still there"
    refused = bench.refusal(lambda: bench.store.get_object(key, 0, 0))
    if refused is None:
        return False, "a deleted object can still be read"
    return True, f"get of a missing object: {said(refused)}"


def copy(bench: Bench) -> ProbeResult:
    """A copy inside the store, with new metadata."""
    source, receipt = bench.put("copy source", _HELLO)
    key = bench.key("copy target")
    meta = bench.meta(_HELLO)
    refused = bench.refusal(lambda: bench.store.copy_object(source, key, meta, receipt.etag))
    if refused is not None:
        return None, f"the store does not copy, so syncd sends the content: {said(refused)}"
    return bench.holds(key, _HELLO, "with new metadata", meta.token)


def conditional_copy(bench: Bench) -> ProbeResult:
    """A copy is refused when its source was replaced."""
    source, _ = bench.put("condition source", _HELLO)
    key = bench.key("condition target")
    refused = bench.refusal(lambda: bench.store.copy_object(source, key, bench.meta(_HELLO), "0" * 32))
    if refused is None:
        return None, "the store ignores the condition: syncd checks what came of a copy"
    return _condition(refused), f"a changed source is refused: {said(refused)}"


def _condition(refused: StoreError) -> bool | None:
    """Passed if the condition is what was refused; else a remark: the store may not copy at all."""
    return True if isinstance(refused, PreconditionFailed) else None


# ---- multipart uploads ------------------------------------------------------------------------------------

_TAIL = b"the last part may be small"
_CANDIDATES = (1, 1 << 10, 10**5, 100 << 10, 10**6, 1 << 20, 5 * 10**6)
"""Minimum sizes of parts, in bytes, in the documents of various stores."""


def multipart(bench: Bench) -> ProbeResult:
    """Two parts become one object, with metadata; while it lasts, the upload is listed."""
    body = os.urandom(bench.store.limits.min_part_size) + _TAIL
    upload = bench.begin("multipart", body)
    size = bench.store.limits.min_part_size
    parts = [bench.part(upload, 1, body[:size]), bench.part(upload, 2, body[size:])]
    listed = [one.upload_id for one in bench.store.list_multipart_uploads(upload.key)]
    bench.complete(upload, parts)
    info = bench.store.head_object(upload.key)
    crc32 = "with" if info is not None and info.crc32 is not None else "without"
    detail = f"ETag {info.etag if info else ''}, {crc32} a checksum of the whole"
    passed, detail = bench.holds(upload.key, body, detail, upload.meta.token)
    if passed and upload.id not in listed:
        return None, "the object is right, but the unfinished upload was not listed"
    return passed, detail


def resume(bench: Bench) -> ProbeResult:
    """Parts 1 and 3 are there and listed; 2 is sent afterwards, and the object is whole."""
    size = bench.store.limits.min_part_size
    body = os.urandom(2 * size) + _TAIL
    upload = bench.begin("resume", body)
    bench.part(upload, 3, body[2 * size :])
    bench.part(upload, 1, body[:size])
    listed = bench.store.list_parts(upload.key, upload.id)
    sizes = [(part.number, part.size) for part in listed]
    if sizes != [(1, size), (3, len(_TAIL))]:
        return False, f"parts 1 and 3 were sent, but {sizes} is listed"
    second = bench.part(upload, 2, body[size : 2 * size])
    bench.complete(upload, [listed[0], second, listed[1]])
    return bench.holds(upload.key, body, "the gap was filled, the object is whole")


def replace_part(bench: Bench) -> ProbeResult:
    """Of two parts with the same number the second counts."""
    upload = bench.begin("replace a part", _TAIL)
    bench.part(upload, 1, b"something else")
    bench.complete(upload, [bench.part(upload, 1, _TAIL)])
    return bench.holds(upload.key, _TAIL, "the second counts")


def complete_twice(bench: Bench) -> ProbeResult:
    """The answer to a client that repeats a complete after its answer was lost."""
    upload = bench.begin("complete twice", _TAIL)
    part = bench.part(upload, 1, _TAIL)
    bench.complete(upload, [part])
    gone = bench.refusal(lambda: bench.complete(upload, [part]))
    answer = f"the second time: {said(gone)}" if gone else "the second time it succeeds again"
    return bench.holds(upload.key, _TAIL, answer)


def abort(bench: Bench) -> ProbeResult:
    """An aborted upload is gone, and aborting it again succeeds."""
    upload = bench.begin("abort", _TAIL)
    bench.part(upload, 1, _TAIL)
    bench.store.abort_multipart_upload(upload.key, upload.id)
    bench.store.abort_multipart_upload(upload.key, upload.id)
    try:
        parts = bench.store.list_parts(upload.key, upload.id)
    except UploadGone as gone:
        return True, f"afterwards: {said(gone)}"
    if parts:
        return False, "the parts of an aborted upload are still listed"
    return None, "an aborted upload is still known, without parts"


def wrong_parts(bench: Bench) -> ProbeResult:
    """Parts that the store does not have are refused at complete."""
    upload = bench.begin("wrong parts", _TAIL)
    part = bench.part(upload, 1, _TAIL)
    refused = bench.refusal(lambda: bench.complete(upload, [altered(part)]))
    if refused is None:
        return False, "a wrong ETag is accepted at complete"
    return True, f"a wrong ETag is refused: {said(refused)}"


def wrong_checksum(bench: Bench) -> ProbeResult:
    """Return whether the store checks the checksum of the whole, if one is sent."""
    upload = bench.begin("wrong checksum", _TAIL)
    part = bench.part(upload, 1, _TAIL)
    if part.crc32 is None:
        return None, "this kind of store takes none"
    wrong = replace(part, crc32=part.crc32 ^ 1)
    refused = bench.refusal(lambda: bench.complete(upload, [wrong]))
    if refused is None:
        return None, "not checked by the store, or not sent to it"
    return True, f"a wrong one is refused: {said(refused)}"


def smallest_part(bench: Bench) -> ProbeResult:
    """The smallest part, except the last, that the store takes; parts are only checked at complete."""
    needed = bench.store.limits.min_part_size
    for size in (*(size for size in _CANDIDATES if size < needed), needed):
        body = os.urandom(size)
        upload = bench.begin(f"parts of {size}", body + _TAIL)
        parts = [bench.part(upload, 1, body), bench.part(upload, 2, _TAIL)]
        try:
            bench.complete(upload, parts)
        except PartsRefused as refused:
            if not refused.too_small:
                raise
            continue
        return True, f"parts of {size} bytes are taken; syncd sends {needed} or more"
    return False, f"even parts of {needed} bytes are too small: syncd learns to send larger ones"


def part_copy(bench: Bench) -> ProbeResult:
    """A part is copied from another object, and refused if that was replaced."""
    size = bench.store.limits.min_part_size
    body = os.urandom(size)
    source, receipt = bench.put("part source", b"x" + body)
    upload = bench.begin("part copy", body + _TAIL)
    try:
        copied = bench.store.upload_part_copy(upload.key, upload.id, 1, source, 1, size, receipt.etag)
    except StoreRefused as refused:
        return None, f"the store does not copy parts, so syncd sends them: {said(refused)}"
    bench.complete(upload, [copied, bench.part(upload, 2, _TAIL)])
    difference = bench.differs(upload.key, body + _TAIL)
    if difference is not None:
        return False, difference
    other = bench.begin("part condition", body)
    unmet = bench.refusal(
        lambda: bench.store.upload_part_copy(other.key, other.id, 1, source, 1, size, "0" * 32)
    )
    if unmet is None:
        return None, "a range was copied, but the store ignores the condition"
    return _condition(unmet), f"a range was copied; a changed source is refused: {said(unmet)}"


def version_keys(bench: Bench) -> ProbeResult:
    """An object is listed under its key, and under no other; for a bench below v1/."""
    key, _ = bench.put("key", _HELLO)
    listed = [info.key for info in bench.store.list_objects(bench.place)]
    if listed != [key]:
        return None, f"put as {key}, listed: {', '.join(listed) or 'nothing'}"
    return bench.holds(key, _HELLO, "put, listed and found")


PROBES = (
    ("metadata", metadata),
    ("empty object", empty),
    ("odd names", odd_names),
    ("ranges", ranges),
    ("overwriting", overwrite),
    ("missing objects", absent),
    ("copy", copy),
    ("conditional copy", conditional_copy),
    ("multipart upload", multipart),
    ("resume with a gap", resume),
    ("replacing a part", replace_part),
    ("complete twice", complete_twice),
    ("abort", abort),
    ("wrong parts", wrong_parts),
    ("wrong checksum", wrong_checksum),
    ("smallest part", smallest_part),
    ("part copy", part_copy),
)
"""The probes of ``--thorough`` in order, each with its name in the report."""
