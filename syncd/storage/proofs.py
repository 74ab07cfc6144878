"""How an object that another program sent proves its content, and how to compute the same of a local file.

Pure. A proof is the same size and the same digest, of at least 128 bits. A CRC is none: CRC-64 and CRC-32
guard against faults of the line, and other content with the same CRC is easy to make.

===========================================  ============================================================
the object has                               which program leaves that
===========================================  ============================================================
an ETag that is the MD5 of the content       whatever sends the object in one request; not where the
                                             store encrypts with keys of KMS or of the customer
the MD5 of the content in its metadata       rclone (`md5chksum`, in base64), s3cmd (`s3cmd-attrs`)
a SHA-256 of the whole                       SDKs of AWS, where that was asked for
an ETag that is an MD5, a dash and the       whatever sends parts to S3: it is the MD5 of the MD5s of
number of parts                              the parts, so that their size has to be guessed
===========================================  ============================================================

Metadata says what its writer read; only that program vouches that the store got the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Protocol

from syncd.core.model import ObjectInfo
from syncd.storage.digests import crc32, crc64_nvme

MIB = 1 << 20
PART_SIZES_MIB = (8, 5, 16, 15, 10, 50, 64, 32, 128, 100, 25, 20, 256, 512, 1024)
"""The most likely first: the defaults of 2026, by the manuals and sources of the programs:

8: aws, boto3 and other SDKs of AWS, and syncd; 5: rclone and older SDKs; 16: mc and minio-go; 15: s3cmd;
10: Cyberduck; 50: s5cmd and s4cmd; 64: minio-go until 2021. Users set the others to have fewer parts.
"""
_STEPS_MIB = (1, 5, 8, 16)
"""For a file of more than 10,000 parts, programs enlarge the parts: rclone to the smallest whole number of
MiB that fits, minio-go to a multiple of 16 MiB, boto3 by doubling until it fits."""
_MOST = 6
"""MD5s to compute side by side: each takes two seconds for a gigabyte."""
_OF_PARTS = re.compile(r"([0-9a-fA-F]{32})-([1-9][0-9]{0,4})", re.ASCII)


class _Digest(Protocol):
    def update(self, data: bytes | memoryview, /) -> object: ...

    def digest(self) -> bytes: ...


class _OfParts:
    """The MD5 of the MD5s of parts of one size."""

    def __init__(self, part_size: int) -> None:
        self._part_size = part_size
        self._whole = _md5()
        self._part = _md5()
        self._left = part_size

    def update(self, data: bytes | memoryview, /) -> None:
        while data:
            if not self._left:
                self._whole.update(self._part.digest())
                self._part, self._left = _md5(), self._part_size
            piece, data = data[: self._left], data[self._left :]
            self._part.update(piece)
            self._left -= len(piece)

    def digest(self) -> bytes:
        self._whole.update(self._part.digest())
        return self._whole.digest()


class _Crc:
    """A CRC of `width` bytes, from a function of the next bytes and the CRC of those before."""

    def __init__(self, continued: Callable[[bytes | memoryview, int], int], width: int) -> None:
        self._continued = continued
        self._width = width
        self._value = 0

    def update(self, data: bytes | memoryview, /) -> None:
        self._value = self._continued(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._width)


class Comparison:
    """Compares local content, piece by piece, with that of an object.

    Use it once. `by_crc32` says that the user accepts a CRC of the whole as proof if the object has nothing
    better.
    """

    def __init__(self, info: ObjectInfo, *, by_crc32: bool = False) -> None:
        self.etag = info.etag
        """The object's."""
        self._left = info.size
        self._tries: list[tuple[bytes, _Digest]] = []
        if info.md5 is not None:
            self._tries = [(info.md5, _md5())]
        elif info.sha256 is not None:
            self._tries = [(info.sha256, hashlib.sha256())]
        elif (found := _OF_PARTS.fullmatch(info.etag)) is not None:
            digest, count = bytes.fromhex(found[1]), int(found[2])
            self._tries = [(digest, _OfParts(size)) for size in part_sizes(info.size, count)]
        if by_crc32 and info.md5 is None and info.sha256 is None:
            if info.crc32 is not None:
                self._tries.append((info.crc32.to_bytes(4), _Crc(crc32, 4)))
            elif info.crc64 is not None and (crc64 := crc64_nvme()) is not None:
                self._tries.append((info.crc64.to_bytes(8), _Crc(crc64, 8)))

    def __bool__(self) -> bool:
        """Return whether the object has anything to compare the content with."""
        return bool(self._tries)

    def update(self, data: memoryview) -> None:
        """Add the next bytes of the content."""
        self._left -= len(data)
        for _, digest in self._tries:
            digest.update(data)

    def holds(self) -> bool:
        """Return whether the bytes added are the object's content."""
        return self._left == 0 and any(expected == digest.digest() for expected, digest in self._tries)


def part_sizes(size: int, count: int) -> list[int]:
    """Return likely part sizes in bytes for an object of `size` bytes in `count` parts.

    These are the sizes of `PART_SIZES_MIB`, and the smallest multiple of each step, that give this number of
    parts. If few whole numbers of MiB do, these are all of them: users set all sorts of sizes, and the more
    parts, the fewer sizes fit.
    """
    if count == 1:
        return [max(size, 1)]
    least, most = -(-size // count), (size - 1) // (count - 1)
    steps = [-(-least // (step * MIB)) * step for step in _STEPS_MIB]
    whole = range(-(-least // MIB), most // MIB + 1)
    tried = dict.fromkeys(
        each * MIB for each in (*PART_SIZES_MIB, *steps, *(whole if len(whole) <= _MOST else ()))
    )
    return [each for each in tried if -(-size // each) == count][:_MOST]


def _md5() -> _Digest:
    return hashlib.md5(usedforsecurity=False)
