"""How a file is cut into parts, and whether and where an upload can resume.

The number of a part gives its place: its offset is ``(number - 1) * part_size`` and never a running sum, so a
hole in the store's list cannot shift what is sent. `misfit` compares a checkpoint with the present file and
store; `resume` compares its parts with those that the store lists. Every mismatch has a name.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from msgspec import Struct

from syncd.core import plan
from syncd.core.errors import TOO_LARGE, TRY_ALL, StoreRefused
from syncd.core.model import Checkpoint, Fingerprint, Part

_MD5 = re.compile(r"[0-9a-fA-F]{32}", re.ASCII)

CHUNK = struct.Struct(">16sI")
"""A piece of content that ends where its bytes say so (`syncd.sources.chunks`): its witness and its size."""

SMALLEST_COMMON_PART_SIZE = 5 << 20
"""What every S3-compatible store accepts as a part (AWS, S3 API reference, "multipart upload limits")."""


class StoreLimits(Struct, frozen=True):
    """Limits of a store, sizes in bytes, so that the planner needs no constants."""

    min_part_size: int
    """For every part but the last."""
    max_part_size: int
    max_parts: int
    max_put_size: int
    max_object_size: int
    max_key_bytes: int = 1024
    """Length of a key in UTF-8."""
    part_size_multiple: int = 1 << 20
    computes_crc32: bool = False
    """`head_object` returns the CRC-32 of every object, also of one made of parts."""
    describes_by_reading: bool = False
    """`head_object` reads an object of another program, and returns the XXH3-128 of what it read."""
    max_xattr_bytes: int = 1400
    """The most that a file's extended attributes may take in the metadata of its object. S3 and BOS accept
    2048 bytes of metadata; everything else that syncd writes there takes less than 640."""
    has_conditions: bool = False
    """A put and a complete honour ``ObjectMeta.replaces``: PreconditionFailed for another object."""
    completes_with_meta: bool = False
    """An object of parts gets its metadata from complete, not from create."""


class PartDigests(Struct, frozen=True):
    """The witness of each part of a recorded file, on the grid of its part size in bytes."""

    part_size: int
    digests: tuple[bytes, ...]
    chunks: bytes = b""
    """In the form of `CHUNK`; empty: unknown."""


class Span(Struct, frozen=True):
    """The bytes of one part: its number (from 1), where it begins and how long it is, in bytes."""

    number: int
    offset: int
    size: int


class Resume(Struct, frozen=True):
    """How an upload goes on. Every part of the file is in exactly one of the three, each ascending.

    ``kept`` needs nothing more: the store lists it as recorded, and the local bytes still have the recorded
    digest. It carries the record's digest and crc32. The store lists ``unproven`` in the right size, but no
    record of that ETag proves its content: it is good only if the ETag is the MD5 of the local bytes.
    ``missing`` has to be sent. ``notes`` say why a part that was listed or recorded is not kept.
    """

    kept: tuple[Part, ...]
    unproven: tuple[Part, ...]
    missing: tuple[Span, ...]
    notes: tuple[str, ...]


# ---- cutting --------------------------------------------------------------------------------------------


def fits_one_request(size: int, wanted_part_size: int, limits: StoreLimits) -> bool:
    """Return whether a file of `size` bytes is put whole: it fits into a part, and the store takes it."""
    return size <= wanted_part_size and size <= limits.max_put_size


def part_size_for(size: int, wanted_part_size: int, limits: StoreLimits) -> int:
    """Return the part size in bytes: the wanted one within the store's limits, raised to suit `max_parts`.

    It is a multiple of ``limits.part_size_multiple``. Raises StoreRefused, naming the limit, if none suits.
    """
    if size > limits.max_object_size:
        raise StoreRefused(
            f"the file has {size} bytes, the store accepts at most {limits.max_object_size}",
            hint=TOO_LARGE,
        )
    multiple = min(limits.part_size_multiple, limits.max_part_size)
    largest = limits.max_part_size // multiple * multiple
    if size > largest * limits.max_parts:
        raise StoreRefused(
            f"the file has {size} bytes, the store accepts at most {limits.max_parts} parts of {largest}",
            hint=TOO_LARGE,
        )
    enough = max(wanted_part_size, limits.min_part_size, _ceil_div(size, limits.max_parts))
    return min(_ceil_div(enough, multiple) * multiple, largest)


def part_sizes_after_refusal(part_size: int, limits: StoreLimits) -> int:
    """Return the part size in bytes to try after the store called parts of `part_size` too small.

    It is at least 5 MiB and at least twice as large. Raises StoreRefused if the store allows no larger one.
    """
    larger = max(SMALLEST_COMMON_PART_SIZE, 2 * part_size)
    result = part_size_for(0, larger, limits)
    if result <= part_size:
        raise StoreRefused(
            f"parts of {part_size} bytes are too small for the store, its maximum is {limits.max_part_size}",
            hint=TRY_ALL,
        )
    return result


def count(size: int, part_size: int) -> int:
    """Return how many parts a file of `size` bytes has; 0 for an empty file."""
    return _ceil_div(size, part_size)


def span(number: int, size: int, part_size: int) -> Span:
    """Return the bytes of part `number` of a file of `size` bytes. Raises ValueError without such a part."""
    if not 1 <= number <= count(size, part_size):
        raise ValueError(f"a file of {size} bytes in parts of {part_size} has no part {number}")
    offset = (number - 1) * part_size
    return Span(number, offset, min(part_size, size - offset))


def cut(size: int, part_size: int) -> Iterator[Span]:
    """Yield all parts in ascending order: together they have every byte exactly once."""
    return (span(number, size, part_size) for number in range(1, count(size, part_size) + 1))


def unmoved(before: PartDigests, before_size: int, now: PartDigests, size: int) -> dict[int, int]:
    """Return, by number, the offset of each part that the file's last version has at the same place.

    Empty if the two are on different grids.
    """
    if before.part_size != now.part_size:
        return {}
    same = [one == other for one, other in zip(before.digests, now.digests, strict=False)]
    return {
        each.number: each.offset
        for each, is_same in zip(cut(size, now.part_size), same, strict=False)
        if is_same and each.offset + each.size <= before_size
    }


def moved(before: bytes, now: bytes, size: int, part_size: int) -> dict[int, int]:
    """Return, by number, at which offset of the file's last version each part lies, if it does anywhere.

    `before` and `now` are the chunks of the two versions; `size` and `part_size` are of the new one. A part
    is found only within chunks that follow each other in both.
    """
    there: dict[int, bytes] = {}
    places: dict[bytes, int] = {}
    at = shift = start = 0
    for digest, length in CHUNK.iter_unpack(before):
        there[at] = digest
        places.setdefault(digest, at)
        at += length
    found: dict[int, int] = {}
    at, is_there = 0, False
    for digest, length in (*CHUNK.iter_unpack(now), (b"", 0)):  # the last one ends the run before it
        if not digest or not is_there or there.get(at + shift) != digest:
            if is_there:
                last = at // part_size if at < size else count(size, part_size)
                numbers = range(_ceil_div(start, part_size), last)
                found.update({number + 1: number * part_size + shift for number in numbers})
            place = at + shift if there.get(at + shift) == digest else places.get(digest)
            start, is_there = at, place is not None
            shift = shift if place is None else place - at
        at += length
    return found


def _ceil_div(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)


# ---- resuming -------------------------------------------------------------------------------------------


def misfit(
    checkpoint: Checkpoint,
    *,
    store_id: str,
    key: str,
    fingerprint: Fingerprint,
    limits: StoreLimits,
    witness: bytes = b"",
) -> str | None:
    """Return why the upload has to be restarted; None: it can go on.

    `fingerprint` and `witness` are the file's now. An upload that began before its content was known goes on
    with any content of its size: `resume` proves its parts one by one. Only a request can tell whether the
    store still knows the upload, or ever gave it an id; that is not asked here.
    """
    size, part_size = checkpoint.fingerprint.size, checkpoint.part_size
    if checkpoint.store_id != store_id:
        return "it was begun in another store"
    if checkpoint.key != key:
        return "it was begun under another key"
    if size != fingerprint.size:
        return "the size changed"
    before = checkpoint.fingerprint, checkpoint.witness
    if checkpoint.fingerprint.digest and not plan.same_content(*before, fingerprint, witness):
        return "the content changed"
    if part_size > limits.max_part_size:
        return f"its parts of {part_size} bytes are above the store's limit of {limits.max_part_size}"
    number_of_parts = count(size, part_size)
    if number_of_parts > 1 and part_size < limits.min_part_size:
        return f"its parts of {part_size} bytes are below the store's limit of {limits.min_part_size}"
    if number_of_parts > limits.max_parts:
        return f"it has {number_of_parts} parts, the store takes {limits.max_parts}"
    return None


def resume(checkpoint: Checkpoint, listed: Sequence[Part], digests: Sequence[bytes]) -> Resume:
    """Sort the parts of an upload into kept, unproven and missing.

    `listed` is what the store lists now, in any order; `digests` are those of the local bytes, one for each
    part (``digests[number - 1]``). Raises ValueError when there are not as many digests as parts.
    """
    size, part_size = checkpoint.fingerprint.size, checkpoint.part_size
    total = count(size, part_size)
    if len(digests) != total:
        raise ValueError(f"{len(digests)} digests for {total} parts")
    listing, notes = _by_number(listed, total)
    kept: list[Part] = []
    unproven: list[Part] = []
    missing: list[Span] = []
    for wanted in cut(size, part_size):
        part = listing.get(wanted.number)
        record = checkpoint.parts.get(wanted.number)
        reason = _why_not(wanted, part, record, digests[wanted.number - 1])
        if reason is not None:
            notes.setdefault(reason, []).append(wanted.number)
        if part is None or reason is not None:
            missing.append(wanted)
        elif record is None or record.digest is None or record.etag != part.etag:
            unproven.append(part)
        else:
            kept.append(Part(part.number, part.size, part.etag, digest=record.digest, crc32=record.crc32))
    lines = tuple(f"{reason}: {_numbers(numbers)}" for reason, numbers in notes.items())
    return Resume(tuple(kept), tuple(unproven), tuple(missing), lines)


def _by_number(listed: Sequence[Part], total: int) -> tuple[dict[int, Part], dict[str, list[int]]]:
    """Return the listed parts by number, except those that the file does not have, and the notes so far."""
    listing: dict[int, Part] = {}
    notes: dict[str, list[int]] = {}
    contradictory: set[int] = set()
    for part in listed:
        if not 1 <= part.number <= total:
            notes.setdefault("listed, but no part of this file", []).append(part.number)
        elif listing.setdefault(part.number, part) != part:
            contradictory.add(part.number)
    for number in sorted(contradictory):
        del listing[number]
        notes.setdefault("listed twice, and not the same", []).append(number)
    return listing, notes


def _why_not(wanted: Span, part: Part | None, record: Part | None, digest: bytes) -> str | None:
    """Return why a part that the store lists or the record has cannot be kept; None: it can."""
    if part is None:
        return "acknowledged, but no longer listed" if record is not None else None
    if part.size != wanted.size:
        return "listed in another size"
    if record is None or record.etag != part.etag:  # sent again; syncd died before recording it
        return None
    if record.digest is not None and record.digest != digest:
        return "the local bytes are not those that were sent"
    return None


def _numbers(numbers: Sequence[int], most: int = 8) -> str:
    """Return part numbers for people: runs joined, cut off after `most` runs."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs[:most])
    rest = sum(b - a + 1 for a, b in runs[most:])
    return f"part {shown}" + (f" and {rest} more" if rest else "")


def etag_of(etags: Sequence[str]) -> str | None:
    """Return the ETag that S3 gives an object of parts with these ETags; None: they are no MD5s.

    It is the MD5 of the parts' MD5s, and their number.
    """
    if not etags or not all(_MD5.fullmatch(etag) for etag in etags):
        return None
    digests = b"".join(bytes.fromhex(etag) for etag in etags)
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(etags)}"


# ---- CRC-32 of the whole from those of the parts ----------------------------------------------------------
#
# A CRC is a remainder modulo a polynomial P over GF(2). Appending n bytes to a message multiplies its
# polynomial by x^(8n), so crc(a + b) = crc(a) * x^(8 * len(b)) mod P, plus crc(b); addition is XOR, and the
# ones with which zlib begins and ends cancel out. Polynomials are held as zlib holds them: bit 31 is x^0.

_CRC32_POLYNOMIAL = 0xEDB88320
"""P of IEEE 802.3 without its x^32 term, lowest power in the highest bit."""
_ONE = 1 << 31
_X = 1 << 30


def combine_crc32(crcs: Iterable[tuple[int, int]]) -> int:
    """Return zlib's CRC-32 of the whole from ``(crc32, size)`` of consecutive pieces, reading no byte."""
    whole = 0
    for crc, size in crcs:
        whole = _multiply(_shift(size), whole) ^ crc
    return whole


def _multiply(a: int, b: int) -> int:
    """Return a * b mod P."""
    product = 0
    while a:
        if a & _ONE:
            product ^= b
        a = (a << 1) & 0xFFFFFFFF
        b = (b >> 1) ^ (_CRC32_POLYNOMIAL if b & 1 else 0)
    return product


@lru_cache(maxsize=64)  # all parts of a file except the last have one size
def _shift(size: int) -> int:
    """Return x^(8 * size) mod P, by repeated squaring."""
    result, power, exponent = _ONE, _X, 8 * size
    while exponent:
        if exponent & 1:
            result = _multiply(result, power)
        power = _multiply(power, power)
        exponent >>= 1
    return result
