"""The digest of a file is the same in whatever order its parts come, and takes no more memory than it may."""

from __future__ import annotations

import hashlib
import os
import random
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Semaphore

import pytest
import xxhash

from syncd.core import parts
from syncd.core.restoring import Proof
from syncd.storage.base import Body
from syncd.storage.digests import zeros
from syncd.transfer.restore.digest import Running
from syncd.transfer.restore.draft import Draft
from tests.unit.transfer.restore.restoring import PART, content

NAME = ".syncd-restore-x.part"
IDENTITY = b"i" * 16
BODY = content(40 * PART + 5)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    """A file with `BODY`."""
    (tmp_path / "file").write_bytes(BODY)
    opened = os.open(tmp_path / "file", os.O_RDONLY)
    yield opened
    os.close(opened)


def spans(size: int) -> list[parts.Span]:
    return list(parts.cut(size, PART))


class Memory:
    """What parts are received into; the next borrower of a part that was given back overwrites it."""

    def __init__(self) -> None:
        self.lent = self.most_lent = 0

    def lend(self, span: parts.Span) -> tuple[bytearray, ExitStack]:
        body = bytearray(BODY[span.offset : span.offset + span.size])
        self.lent += 1
        self.most_lent = max(self.most_lent, self.lent)
        held = ExitStack()
        held.callback(self._take_back, body)
        return body, held

    def _take_back(self, body: bytearray) -> None:
        assert any(body), "it is given back once"
        body[:] = bytes(len(body))
        self.lent -= 1


@pytest.mark.parametrize("spare", [0, 1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_parts_out_of_order_keep_no_more_memory_than_is_spare(fd: int, spare: int, seed: int) -> None:
    """What is given back is not used after that; the rest is read again."""
    memory, permits, order = Memory(), Semaphore(spare), spans(len(BODY))
    random.Random(seed).shuffle(order)
    running = Running(fd, "xxh128", permits)
    for span in order:
        body, held = memory.lend(span)
        running.follow(span, body, held)
        assert memory.lent <= spare
    assert memory.most_lent == spare + 1  # it was used
    assert memory.lent == 0
    assert running.digest(len(BODY)) == xxhash.xxh3_128_digest(BODY)
    assert [permits.acquire(blocking=False) for _ in range(spare + 1)] == [True] * spare + [False]


def test_what_waits_for_a_part_that_never_comes_is_let_go_at_the_end(fd: int) -> None:
    """Or the next file would have none."""
    memory, permits = Memory(), Semaphore(2)
    running = Running(fd, "xxh128", permits)
    for span in spans(len(BODY))[1:4]:
        running.follow(span, *memory.lend(span))
    assert memory.lent == 2
    running.close()
    assert memory.lent == 0
    assert [permits.acquire(blocking=False) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("kind", ["xxh128", "md5", "crc32"])
@pytest.mark.parametrize("seed", range(4))
def test_the_digest_is_that_of_the_whole_in_whatever_order_parts_come(
    directory: int, kind: str, seed: int
) -> None:
    """From several threads, with parts of an earlier process among them, and with holes."""
    body = bytearray(BODY)
    body[3 * PART : 9 * PART] = bytes(6 * PART)
    expected = {
        "xxh128": xxhash.xxh3_128_digest(body),
        "md5": hashlib.md5(body, usedforsecurity=False).digest(),
        "crc32": zlib.crc32(body).to_bytes(4, "big"),
    }[kind]
    order = spans(len(body))
    random.Random(seed).shuffle(order)
    before = len(order) // 3 if seed % 2 else 0
    with closing(Draft(directory, NAME)) as draft:
        draft.prepare(len(body), PART, IDENTITY)
        for span in order[:before]:
            draft.keep(span, body[span.offset : span.offset + span.size])

    def come(span: parts.Span) -> bool:
        if draft.has(span):
            draft.follow(span, None, ExitStack())
            return True
        part: Body = bytes(body[span.offset : span.offset + span.size])
        if seed % 2 and not any(part):
            part = zeros(span.size)  # as from a store that knows its holes
        draft.keep(span, part)
        draft.follow(span, part, ExitStack())
        return False

    with ThreadPoolExecutor(4) as pool, closing(Draft(directory, NAME, direct=seed > 1)) as draft:
        draft.prepare(len(body), PART, IDENTITY)
        draft.expect(kind, Semaphore(2))
        assert [*pool.map(come, order)] == [True] * before + [False] * (len(order) - before)
        assert not draft.proves(Proof(kind, b"x" * len(expected)), len(body))
        assert draft.proves(Proof(kind, expected), len(body))
        other = {"xxh128": "md5", "md5": "crc32", "crc32": "xxh128"}[kind]
        assert not draft.proves(Proof(other, expected), len(body))  # which is computed from the file
        assert all(draft.has(span) for span in order)


def test_the_digest_of_wrong_bytes_proves_nothing(directory: int) -> None:
    """Also where they came first, or last."""
    body = content(4 * PART)
    for wrong in range(4):
        with closing(Draft(directory, NAME)) as draft:
            draft.prepare(len(body), PART, bytes([wrong]) * 16)
            draft.expect("xxh128", Semaphore(0))
            for span in spans(len(body)):
                part = body[span.offset : span.offset + span.size]
                part = part if span.number != wrong + 1 else part[::-1]
                draft.keep(span, part)
                draft.follow(span, part, ExitStack())
            assert not draft.proves(Proof("xxh128", xxhash.xxh3_128_digest(body)), len(body))
