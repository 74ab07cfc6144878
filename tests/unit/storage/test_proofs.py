"""What another program left proves a content, and nothing else does."""

from __future__ import annotations

import hashlib
import random
import zlib

import pytest
from awscrt.checksums import crc64nvme

from syncd.core.model import ObjectInfo
from syncd.storage.proofs import MIB, Comparison, part_sizes

CONTENT = random.Random(1).randbytes(20 * MIB + 12345)
SIZE = len(CONTENT)


def etag_of_parts(content: bytes, part_size: int) -> str:
    """What S3 gives an object of such parts."""
    parts = [content[at : at + part_size] for at in range(0, len(content), part_size)] or [b""]
    return f"{hashlib.md5(b''.join(hashlib.md5(part).digest() for part in parts)).hexdigest()}-{len(parts)}"


def proves(info: ObjectInfo, content: bytes = CONTENT, piece: int = MIB) -> bool:
    comparison = Comparison(info)
    view = memoryview(content)
    for at in range(0, len(view), piece):
        comparison.update(view[at : at + piece])
    return comparison.holds()


MD5, SHA256 = hashlib.md5(CONTENT).digest(), hashlib.sha256(CONTENT).digest()
WRONG = bytes(16)


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (ObjectInfo("k", SIZE, "e", md5=MD5), True),
        (ObjectInfo("k", SIZE, "e", md5=WRONG), False),
        (ObjectInfo("k", SIZE + 1, "e", md5=MD5), False),
        (ObjectInfo("k", SIZE, "e", sha256=SHA256), True),
        (ObjectInfo("k", SIZE, "e", sha256=WRONG * 2), False),
        (ObjectInfo("k", SIZE, MD5.hex()), False),  # the store does not say that it is one
        (ObjectInfo("k", SIZE, "e", crc32=0), False),
        (ObjectInfo("k", SIZE, f"{MD5.hex()}-3"), False),
        (ObjectInfo("k", SIZE, etag_of_parts(CONTENT, 5 * MIB) + "0"), False),
        (ObjectInfo("k", SIZE, etag_of_parts(CONTENT, 3 * MIB + 1)), False),  # no tool cuts so
        (ObjectInfo("k", SIZE, f"-{MD5.hex()}"), False),  # as BOS has it, and does not say of what
    ],
)
def test_only_equal_digests_prove(info: ObjectInfo, expected: bool) -> None:
    """Of 128 bits and more, beside the same size."""
    assert proves(info) is expected


@pytest.mark.parametrize("part_mib", [1, 2, 5, 6, 8, 10, 15, 16, 50])
def test_an_etag_of_parts_proves_by_the_size_of_the_parts(part_mib: int) -> None:
    """However the pieces come that are read, and for no other content of that size."""
    info = ObjectInfo("k", SIZE, etag_of_parts(CONTENT, part_mib * MIB))
    assert proves(info, piece=3 * MIB + 7)
    assert not proves(info, b"x" + CONTENT[1:])


GIB, TIB = 1024 * MIB, 1024 * 1024 * MIB


@pytest.mark.parametrize(
    ("size", "part_size"),
    [
        (60 * GIB, 7 * MIB),  # rclone: the smallest whole number of MiB that needs at most 10,000 parts
        (5 * TIB, 525 * MIB),
        (1 * TIB, 112 * MIB),  # minio-go: of 16 MiB
        (200 * GIB, 32 * MIB),  # boto3: doubled from 8 MiB
        (3 * TIB, 512 * MIB),
        (200 * MIB, 5 * MIB),
        (201 * MIB, 64 * MIB),
        (2 * GIB, 1 * GIB),
        (100 * MIB, 15 * MIB),
        (100 * MIB, 8 * MIB),
        (0, 1),
        (41 * MIB + 77, 12 * MIB),
        (3 << 30, 7 * MIB),
        (3 << 30, 33 * MIB),
        (500 << 30, 96 * MIB),
    ],
)
def test_the_part_sizes_of_programs_are_tried(size: int, part_size: int) -> None:
    """By what fits size and number, and never so many that reading gets slow."""
    sizes = part_sizes(size, max(1, -(-size // part_size)))
    assert part_size in sizes
    assert len(sizes) <= 6


def test_a_number_of_parts_that_no_size_gives_has_none() -> None:
    """Then the object proves nothing, and no MD5 is made."""
    assert part_sizes(10 * MIB, 99_999) == []
    assert not Comparison(ObjectInfo("k", 10 * MIB, f"{MD5.hex()}-99999"))


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (ObjectInfo("k", SIZE, "-opaque", crc32=zlib.crc32(CONTENT)), True),
        (ObjectInfo("k", SIZE, "-opaque", crc32=1), False),
        (ObjectInfo("k", SIZE, "-opaque", crc64=crc64nvme(CONTENT)), True),
        (ObjectInfo("k", SIZE, "-opaque", crc64=1), False),
        (ObjectInfo("k", SIZE, f"{MD5.hex()}-3", crc32=zlib.crc32(CONTENT)), True),  # parts of an odd size
        (ObjectInfo("k", SIZE, "e", crc32=zlib.crc32(CONTENT), md5=WRONG), False),
        (ObjectInfo("k", SIZE, "e", crc32=zlib.crc32(CONTENT), sha256=WRONG * 2), False),
    ],
)
def test_a_crc_counts_where_the_user_allows_it_and_there_is_nothing_better(
    info: ObjectInfo, expected: bool
) -> None:
    """Beside the size, as always."""
    for by_crc32 in (False, True):
        comparison = Comparison(info, by_crc32=by_crc32)
        for piece in (CONTENT[:7], CONTENT[7:]):
            comparison.update(memoryview(piece))
        assert comparison.holds() is (expected and by_crc32)


def test_an_empty_content_proves_itself() -> None:
    """In one request, and as a single part."""
    empty = hashlib.md5(b"").digest()
    assert proves(ObjectInfo("k", 0, "e", md5=empty), b"")
    assert proves(ObjectInfo("k", 0, etag_of_parts(b"", 5 * MIB)), b"")
