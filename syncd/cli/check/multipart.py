"""Probes of a store's multipart uploads: what `syncd check --thorough` asks beside whole objects."""

from __future__ import annotations

import os
from dataclasses import replace

from syncd.cli.check.bench import Bench, Outcome, altered, said
from syncd.core.errors import PartsRefused, PreconditionFailed, StoreRefused, UploadGone

_TAIL = b"the last part may be small"
_CANDIDATES = (1, 1 << 10, 10**5, 100 << 10, 10**6, 1 << 20, 5 * 10**6)
"""Sizes of parts in bytes that documents of one store or another give as their minimum."""


def multipart(bench: Bench) -> Outcome:
    """Two parts become one object, with metadata; while it lasts, the upload is listed."""
    body = os.urandom(bench.store.limits.min_part_size) + _TAIL
    upload = bench.begin("multipart", body)
    size = bench.store.limits.min_part_size
    parts = [bench.part(upload, 1, body[:size]), bench.part(upload, 2, body[size:])]
    listed = [one.upload_id for one in bench.store.list_multipart_uploads(upload.key)]
    bench.complete(upload, parts)
    difference = bench.differs(upload.key, body)
    info = bench.store.head_object(upload.key)
    if difference is None and (info is None or info.token != upload.meta.token):
        difference = "its metadata did not come back"
    if difference is not None:
        return False, difference
    if upload.id not in listed:
        return None, "the object is right, but the unfinished upload was not listed"
    crc32 = "with" if info is not None and info.crc32 is not None else "without"
    return True, f"ETag {info.etag if info else ''}, {crc32} a checksum of the whole"


def resume(bench: Bench) -> Outcome:
    """Parts 1 and 3 are there and listed; 2 is sent afterwards, and the object is whole."""
    size = bench.store.limits.min_part_size
    body = os.urandom(2 * size) + _TAIL
    upload = bench.begin("resume", body)
    bench.part(upload, 3, body[2 * size :])
    bench.part(upload, 1, body[:size])
    listed = bench.store.list_parts(upload.key, upload.id)
    if [(part.number, part.size) for part in listed] != [(1, size), (3, len(_TAIL))]:
        return (
            False,
            f"parts 1 and 3 were sent, but {[(part.number, part.size) for part in listed]} is listed",
        )
    second = bench.part(upload, 2, body[size : 2 * size])
    bench.complete(upload, [listed[0], second, listed[1]])
    difference = bench.differs(upload.key, body)
    return difference is None, difference or "the gap was filled, the object is whole"


def replace_part(bench: Bench) -> Outcome:
    """The same part number sent twice: the second counts."""
    upload = bench.begin("replace a part", _TAIL)
    bench.part(upload, 1, b"something else")
    bench.complete(upload, [bench.part(upload, 1, _TAIL)])
    difference = bench.differs(upload.key, _TAIL)
    return difference is None, difference or "the second counts"


def complete_twice(bench: Bench) -> Outcome:
    """What a client hears that repeats a complete whose answer was lost."""
    upload = bench.begin("complete twice", _TAIL)
    part = bench.part(upload, 1, _TAIL)
    bench.complete(upload, [part])
    gone = bench.refusal(lambda: bench.complete(upload, [part]), UploadGone)
    answer = f"the second time: {said(gone)}" if gone else "the second time it succeeds again"
    difference = bench.differs(upload.key, _TAIL)
    return difference is None, difference or answer


def abort(bench: Bench) -> Outcome:
    """An aborted upload is gone, and aborting it again is done."""
    upload = bench.begin("abort", _TAIL)
    bench.part(upload, 1, _TAIL)
    bench.store.abort_multipart_upload(upload.key, upload.id)
    bench.store.abort_multipart_upload(upload.key, upload.id)
    gone = bench.refusal(lambda: bench.store.list_parts(upload.key, upload.id), UploadGone)
    if gone is None:
        return False, "the parts of an aborted upload are still listed"
    return True, f"afterwards: {said(gone)}"


def wrong_parts(bench: Bench) -> Outcome:
    """Parts that the store does not have are refused at complete."""
    upload = bench.begin("wrong parts", _TAIL)
    part = bench.part(upload, 1, _TAIL)
    refused = bench.refusal(lambda: bench.complete(upload, [altered(part)]), PartsRefused, StoreRefused)
    if refused is None:
        return False, "a wrong ETag is accepted at complete"
    return True, f"a wrong ETag is refused: {said(refused)}"


def wrong_checksum(bench: Bench) -> Outcome:
    """Whether the store checks the checksum of the whole, where one is sent."""
    upload = bench.begin("wrong checksum", _TAIL)
    part = bench.part(upload, 1, _TAIL)
    if part.crc32 is None:
        return None, "this kind of store takes none"
    wrong = replace(part, crc32=part.crc32 ^ 1)
    refused = bench.refusal(lambda: bench.complete(upload, [wrong]), PartsRefused, StoreRefused)
    if refused is None:
        return None, "not checked by the store, or not sent to it"
    return True, f"a wrong one is refused: {said(refused)}"


def smallest_part(bench: Bench) -> Outcome:
    """The smallest part, but for the last, that the store takes; parts are checked at complete only."""
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
    return False, f"even parts of {needed} bytes are too small for it: syncd will learn larger ones"


def part_copy(bench: Bench) -> Outcome:
    """A part copied from another object of the store, as long as that is the one meant."""
    size = bench.store.limits.min_part_size
    body = os.urandom(size)
    source, receipt = bench.put("part source", b"x" + body)
    upload = bench.begin("part copy", body + _TAIL)
    copied = bench.store.upload_part_copy(upload.key, upload.id, 1, source, 1, size, receipt.etag)
    bench.complete(upload, [copied, bench.part(upload, 2, _TAIL)])
    difference = bench.differs(upload.key, body + _TAIL)
    if difference is not None:
        return False, difference
    other = bench.begin("part condition", body)
    refused = bench.refusal(
        lambda: bench.store.upload_part_copy(other.key, other.id, 1, source, 1, size, "0" * 32),
        PreconditionFailed,
    )
    if refused is None:
        return None, "a range was copied, but the store ignores the condition"
    return True, f"a range was copied; a changed source is refused: {said(refused)}"
