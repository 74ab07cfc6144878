"""Where content is cut: by what it holds, however it comes, and again in the same places when that moves."""

from __future__ import annotations

import random

import pytest

from syncd.core.parts import CHUNK, moved
from syncd.sources.chunks import Cutter
from syncd.sources.fingerprint import Witness

PART = 64 << 10
LEAST, MOST = 512, 4096
CHANCE = random.Random(1)
WITNESS = Witness(b"secret")
KINDS = {
    "anything": CHANCE.randbytes(300_000),
    "hexadecimal": CHANCE.randbytes(150_000).hex().encode(),
    "a log": b"".join(b"%d GET /items/%d 200\n" % (each, CHANCE.getrandbits(40)) for each in range(10_000)),
}


def cut(content: bytes, *pieces: int, part_size: int = PART) -> bytes:
    """The chunks of content that comes in pieces of these sizes, and a last one."""
    cutter = Cutter(WITNESS, part_size)
    for size in pieces:
        cutter.update(memoryview(content[:size]))
        content = content[size:]
    cutter.update(memoryview(content))
    return cutter.ended()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part_size", [1, 8, 1000, PART, 8 << 20])
def test_chunks_do_not_depend_on_how_content_comes(kind: str, part_size: int) -> None:
    """They are consecutive, no two pieces of them lie elsewhere, and each has the witness of its content."""
    content = KINDS[kind][: min(300_000, 40 * part_size)]
    found = cut(content, part_size=part_size)
    pieces = [CHANCE.choice((1, 2, 15, 16, 17, 511, 4096, 70_000)) for _ in range(60)]
    assert cut(content, *pieces, part_size=part_size) == found
    at = 0
    for digest, size in CHUNK.iter_unpack(found):
        assert digest == WITNESS.of(content[at : at + size])
        at += size
    assert at == len(content)


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_have_bounds(kind: str) -> None:
    """None is larger than it may be, and none but the last is smaller; most end where the content says so."""
    sizes = [size for _, size in CHUNK.iter_unpack(cut(KINDS[kind]))]
    assert all(LEAST <= size <= MOST for size in sizes[:-1])
    assert sizes.count(MOST) < len(sizes) / 3


def test_zeros_end_nowhere() -> None:
    """What has no boundary of its own is cut at the largest size."""
    assert [size for _, size in CHUNK.iter_unpack(cut(bytes(3 * MOST + 1)))] == [MOST, MOST, MOST, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_insertion_moves_is_found_again(kind: str) -> None:
    """All but a few chunks beside it."""
    content = KINDS[kind]
    middle = len(content) // 2
    longer = content[:middle] + b"inserted" + content[middle:]
    found = moved(cut(content), cut(longer), len(longer), 1000)
    assert len(found) > len(longer) / 1000 - 4 * MOST / 1000
