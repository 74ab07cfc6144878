"""Digests of a file: XXH3-128 of the whole, for every reader, and witnesses, which only this state can make.

XXH3 is public: every user who may write into a watched folder can write two contents with the same digest. So
that digest does not prove two such contents the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import xxhash

from syncd.core.errors import Stopped
from syncd.core.model import Fingerprint
from syncd.sources.files import Body

READ_SIZE = 1 << 20
"""Bytes of one read while hashing: they stay in the processor's cache between the digests."""
LEAF = READ_SIZE
"""Bytes of content that have their own witness."""


class Witness:
    """Makes a second digest of content, of 16 bytes, that cannot be steered without the secret.

    A secret seed alone is not enough: XXH3 adds it to every word of its inner secret, so that pairs exist
    which collide under one seed in 8,000. So two XXH3-64, each with its own seed, first hash a secret text of
    secret length. A pair has to fit both seeds, and the place of its bytes in both.

    Content of more than a leaf has the witness of the witnesses of its leaves, so that a file and its parts
    share them.
    """

    def __init__(self, secret: bytes) -> None:
        self._begun = _seeded(secret + b"1"), _seeded(secret + b"2")

    def of(self, body: Body) -> bytes:
        """Return the witness of content in memory."""
        return self.half(body) + _of_leaves(self._begun[1], memoryview(body))

    def half(self, body: Body) -> bytes:
        """Return its first half, for half the cost."""
        return _of_leaves(self._begun[0], memoryview(body))

    def begin(self) -> tuple[xxhash.xxh3_64, xxhash.xxh3_64]:
        """Return two hashers that take a leaf piece by piece; both digests together are its witness."""
        return self._begun[0].copy(), self._begun[1].copy()

    def joined(self, leaves: Sequence[bytes]) -> bytes:
        """Return the witness of content whose leaves have these witnesses."""
        if len(leaves) == 1:
            return leaves[0]
        halves = b"".join(leaf[:8] for leaf in leaves), b"".join(leaf[8:] for leaf in leaves)
        return b"".join(_of(begun, half) for begun, half in zip(self._begun, halves, strict=True))

    def joined_half(self, halves: Sequence[bytes]) -> bytes:
        """Return its first half, from the first halves of the leaves."""
        return halves[0] if len(halves) == 1 else _of(self._begun[0], b"".join(halves))


class _Leaves:
    """The leaves of content that comes in pieces of any size."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self._done: list[bytes] = []
        self._open = witness.begin()
        self._left = LEAF

    def update(self, body: memoryview) -> None:
        while body:
            if not self._left:
                self._close()
            piece, body = body[: self._left], body[self._left :]
            self._left -= len(piece)
            for hasher in self._open:
                hasher.update(piece)

    def ended(self) -> list[bytes]:
        """Return the witnesses of all leaves; empty content has one."""
        self._close()
        return self._done

    def _close(self) -> None:
        self._done.append(b"".join(hasher.digest() for hasher in self._open))
        self._open, self._left = self._witness.begin(), LEAF


def _of(begun: xxhash.xxh3_64, body: Body) -> bytes:
    hasher = begun.copy()
    hasher.update(body)
    return hasher.digest()


def _of_leaves(begun: xxhash.xxh3_64, body: memoryview) -> bytes:
    if len(body) <= LEAF:
        return _of(begun, body)
    return _of(begun, b"".join(_of(begun, body[at : at + LEAF]) for at in range(0, len(body), LEAF)))


def _seeded(secret: bytes) -> xxhash.xxh3_64:
    """Return a hasher that has read 256 bytes (XXH3 hashes less in a weaker way) and up to 1,023 more."""
    stream = hashlib.shake_256(secret).digest(10 + 256 + 1023)
    length = 256 + int.from_bytes(stream[8:10]) % 1024
    return xxhash.xxh3_64(stream[10 : 10 + length], seed=int.from_bytes(stream[:8]))


class Readable(Protocol):
    """Something to fingerprint, read like an `OpenFile`, which explains these."""

    def view(self, offset: int, room: memoryview, /) -> memoryview: ...
    def check_end(self, size: int, /) -> None: ...


class Digests(NamedTuple):
    """The fingerprint and the witness of a file, and the witnesses of its blocks."""

    fingerprint: Fingerprint
    witness: bytes
    parts: Sequence[bytes]
    """The witness of each block of the part size, the last one shorter; empty for an empty file."""


def unread(size: int, parts: Sequence[bytes] = ()) -> Digests:
    """Return what is known of a file before it is read: only the witnesses of some `parts`."""
    return Digests(Fingerprint(b"", size), b"", parts)


class Hasher:
    """The digests of a file of `size` bytes that is read leaf by leaf, from beginning to end."""

    def __init__(self, witness: Witness, size: int, part_size: int) -> None:
        self.parts: list[bytes] = []
        """The witnesses of the blocks so far."""
        self._witness = witness
        self._size = size
        self._public = xxhash.xxh3_128()
        self._part: list[bytes] = []
        self._leaves: list[bytes] = []
        self._shared = part_size % LEAF == 0 or part_size >= size
        self._own = _Leaves(witness)  # if the parts cut leaves in two

    def update(self, leaf: memoryview) -> None:
        """Take the next leaf of the block, or the rest of it."""
        self._public.update(leaf)
        self._part.append(self._witness.of(leaf))
        if not self._shared:
            self._own.update(leaf)

    def end_part(self) -> None:
        """End the block: what follows is in the next one."""
        self.parts.append(self._witness.joined(self._part))
        self._leaves += self._part
        self._part = []

    def ended(self) -> Digests:
        """Return the digests after everything was read."""
        leaves = self._leaves if self._shared and self._leaves else self._own.ended()
        content = Fingerprint(self._public.digest(), self._size)
        return Digests(content, self._witness.joined(leaves), tuple(self.parts))


def compute(
    file: Readable,
    size: int,
    part_size: int,
    should_stop: Callable[[], bool],
    witness: Witness,
    also: Callable[[memoryview], object] = lambda view: None,
) -> Digests:
    """Read `size` bytes of the file once, and digest it whole and by blocks of `part_size` bytes.

    `also` gets everything that is read, piece by piece, and must keep none of it.

    Raises FileChanged if it is shorter or longer than `size`, FileUnreadable, Stopped if asked to stop. The
    caller compares `file.stat()` before and after, to notice bytes that changed while they were read.
    """
    hasher = Hasher(witness, size, part_size)
    buffer = memoryview(bytearray(min(LEAF, size)))
    for start in range(0, size, part_size):
        end = min(start + part_size, size)
        for offset in range(start, end, LEAF):
            if should_stop():
                raise Stopped("stopped while a file was fingerprinted")
            view = file.view(offset, buffer[: min(LEAF, end - offset)])
            hasher.update(view)
            also(view)
        hasher.end_part()
    file.check_end(size)
    return hasher.ended()


def of_bytes(body: Body) -> Fingerprint:
    """Return the fingerprint of content in memory."""
    return Fingerprint(digest(body), memoryview(body).nbytes)


def digest(body: Body) -> bytes:
    """Return the XXH3-128: 16 bytes, big-endian, what ``xxh128sum`` prints."""
    return xxhash.xxh3_128_digest(body)
