"""A draft is ours alone, keeps what is proven, and gets its name only where it may."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import xxhash

from syncd.core import parts
from syncd.core.errors import FileUnwritable
from syncd.core.restoring import Existing, Proof
from syncd.transfer.restore import draft as drafts
from syncd.transfer.restore.digest import digest_of_body
from syncd.transfer.restore.draft import Draft, look, name_of_draft
from tests.unit.transfer.restore.restoring import PART, content

NAME = ".syncd-restore-x.part"
IDENTITY = b"i" * 16


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def spans(size: int) -> list[parts.Span]:
    return list(parts.cut(size, PART))


KEYS = ("a", "b", "a/b", "x" * 1000, "no UTF-8 \udcff")


def test_the_name_of_a_draft_is_that_of_one_object() -> None:
    """The next restore finds it; no other object has it, and it is short enough for any file system."""
    names = {name_of_draft(store, key) for store in ("s1", "s2") for key in KEYS}
    assert len(names) == 2 * len(KEYS)
    assert name_of_draft("s1", "a") == name_of_draft("s1", "a")
    assert max(map(len, names)) < 64


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "hard link", "read-only"])
def test_what_others_put_in_the_place_of_a_draft_is_removed(
    directory: int, tmp_path: Path, kind: str
) -> None:
    """It is neither followed nor written to: a new file takes its place."""
    other, place = tmp_path / "other", tmp_path / NAME
    other.write_bytes(b"theirs")
    if kind == "link":
        place.symlink_to(other)
    elif kind == "dangling":
        place.symlink_to(tmp_path / "nothing")
    elif kind == "fifo":
        os.mkfifo(place)
    elif kind == "hard link":
        os.link(other, place)
    else:
        place.write_bytes(b"left")
        place.chmod(0o400)
    with closing(Draft(directory, NAME)) as draft:
        draft.write(b"ours")
        draft.finish(4, None, 0o644)
        draft.place("file", None)
    assert other.read_bytes() == b"theirs"
    assert (tmp_path / "file").read_bytes() == b"ours"
    assert sorted(os.listdir(tmp_path)) == ["file", "other"]


def test_a_part_counts_only_with_the_bytes_that_were_written(directory: int, tmp_path: Path) -> None:
    """Also after the process: what is on the disk is read again."""
    body = content(3 * PART + 5)
    with closing(Draft(directory, NAME)) as draft:
        draft.prepare(len(body), PART, IDENTITY)
        for span in spans(len(body))[1:]:
            draft.keep(span, body[span.offset : span.offset + span.size])
    with (tmp_path / NAME).open("r+b") as file:
        file.seek(PART * 2)
        file.write(b"?")
    with closing(Draft(directory, NAME)) as draft:
        draft.prepare(len(body), PART, IDENTITY)
        assert [draft.has(span) for span in spans(len(body))] == [False, True, False, True]


@pytest.mark.parametrize(
    ("size", "part_size", "identity"),
    [(3 * PART + 5, PART, b"j" * 16), (2 * PART + 5, PART, IDENTITY), (3 * PART + 5, 2 * PART, IDENTITY)],
)
def test_a_draft_of_anything_else_is_begun_again(
    directory: int, size: int, part_size: int, identity: bytes
) -> None:
    """Nothing of it counts, and nothing of it stays."""
    body = content(3 * PART + 5)
    with closing(Draft(directory, NAME)) as draft:
        draft.prepare(len(body), PART, IDENTITY)
        for span in spans(len(body)):
            draft.keep(span, body[span.offset : span.offset + span.size])
    with closing(Draft(directory, NAME)) as draft:
        draft.prepare(size, part_size, identity)
        assert not any(draft.has(span) for span in parts.cut(size, part_size))
        assert draft.proves(Proof("xxh128", xxhash.xxh3_128_digest(bytes(size))), size)


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("aligned", [True, False])
def test_parts_are_written_past_the_cache_where_that_can_be(
    directory: int, tmp_path: Path, direct: bool, aligned: bool
) -> None:
    """From memory that lies as the device wants it and from other memory, with a hole, with a tail that is no
    whole block, and again in the next process: the file is the same.
    """
    body = bytearray(content(5 * PART + 4099))
    body[PART + 4096 : 2 * PART] = bytes(PART - 4096)
    memory = mmap.mmap(-1, PART + 1)
    room = memoryview(memory)[0 if aligned else 1 :]

    def keep(some: list[parts.Span]) -> None:
        with closing(Draft(directory, NAME, direct=direct)) as draft:
            draft.prepare(len(body), PART, IDENTITY)
            for span in some:
                room[: span.size] = body[span.offset : span.offset + span.size]
                draft.keep(span, room[: span.size])
                assert draft.has(span)
            if some[0].number != 1:
                draft.finish(len(body), None, 0o640)
                draft.place("file", None)

    order = spans(len(body))
    keep(order[:2])
    keep(order[2:])
    assert (tmp_path / "file").read_bytes() == body
    with (tmp_path / "file").open("rb") as file:
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == PART + 4096


def test_zeros_replace_what_was_there(directory: int, tmp_path: Path) -> None:
    """A hole is left only where the draft has one: a part that is written again may be of other bytes."""
    span = spans(2 * PART)[0]
    with closing(Draft(directory, NAME)) as draft:
        draft.prepare(2 * PART, PART, IDENTITY)
        draft.keep(span, content(PART))
        draft.keep(span, bytes(PART))
        assert draft.has(span)
        draft.finish(2 * PART, 1_500_000_000_000_000_001, 0o640)
        draft.place("file", None)
    assert (tmp_path / "file").read_bytes() == bytes(2 * PART)
    assert (tmp_path / "file").stat().st_mtime_ns == 1_500_000_000_000_000_001


@pytest.mark.parametrize("kind", ["xxh128", "md5", "crc32"])
@pytest.mark.parametrize("size", [0, 1, 3 * (1 << 20) + 1])
def test_every_witness_is_asked_about_the_disk(directory: int, kind: str, size: int) -> None:
    """In memory and in the file the same, and not for other bytes."""
    body = content(size)
    expected = {
        "xxh128": xxhash.xxh3_128_digest(body),
        "md5": hashlib.md5(body).digest(),
        "crc32": zlib.crc32(body).to_bytes(4, "big"),
    }[kind]
    assert digest_of_body(body, kind) == expected
    with closing(Draft(directory, NAME)) as draft:
        draft.write(body + b"what follows does not count")
        assert draft.proves(Proof(kind, expected), size)
        draft.write(b"x" + body[1:] if body[:1] != b"x" else b"y" + body[1:])
        assert not draft.proves(Proof(kind, expected), max(size, 1))


@pytest.mark.parametrize("knows_noreplace", [True, False])
@pytest.mark.parametrize("there", ["file", "folder", "link", "nothing"])
def test_a_new_name_is_never_taken_from_another(
    directory: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, knows_noreplace: bool, there: str
) -> None:
    """What appeared since the look is kept, also on a file system that does not know RENAME_NOREPLACE."""
    if not knows_noreplace:
        monkeypatch.setattr(drafts, "_libc", _Refusing(errno.EINVAL))
    target = tmp_path / "file"
    if there == "file":
        target.write_bytes(b"theirs")
    elif there == "folder":
        target.mkdir()
    elif there == "link":
        target.symlink_to("nothing")
    with closing(Draft(directory, NAME)) as draft:
        draft.write(b"ours")
        if there == "nothing":
            draft.place("file", None)
            assert target.read_bytes() == b"ours"
            return
        with pytest.raises(FileUnwritable):
            draft.place("file", None)
        draft.discard()
    assert os.listdir(tmp_path) == ["file"]
    assert there != "file" or target.read_bytes() == b"theirs"


class _Refusing:
    """A C library whose renameat2 the file system does not support."""

    def __init__(self, number: int) -> None:
        self._number = number

    def renameat2(self, *_: object) -> int:
        drafts.ctypes.set_errno(self._number)
        return -1


def test_only_the_file_that_was_looked_at_is_replaced(directory: int, tmp_path: Path) -> None:
    """Another inode, or the same one written in between, is another file."""
    (tmp_path / "file").write_bytes(b"old")
    seen = look(directory, "file")
    assert seen is not None
    with closing(Draft(directory, NAME)) as draft:
        draft.write(b"new")
        with pytest.raises(FileUnwritable, match="changed in between"):
            draft.place("file", Existing(seen.size, seen.mtime_ns, (*seen.identity[:2], 1)))
        assert (tmp_path / "file").read_bytes() == b"old"
        draft.place("file", seen)
    assert (tmp_path / "file").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]
