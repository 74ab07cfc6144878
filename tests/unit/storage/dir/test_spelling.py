"""How a name is really spelled: by a listing that is as old as the directory's times."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.storage.dir import spelling
from syncd.storage.dir.spelling import Spellings, spelled_in


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "README").touch()
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def _count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    listed: list[int] = []
    listdir = os.listdir

    def noted(fd: int) -> list[str]:
        listed.append(fd)
        return listdir(fd)

    monkeypatch.setattr(os, "listdir", noted)
    return listed


def test_a_name_is_there_as_it_is_listed(directory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One listing is enough for all that are there; what is missing may have come since."""
    listed = _count(monkeypatch)
    spellings = Spellings()
    assert [spellings.has(directory, b"README") for _ in range(3)] == [True] * 3
    assert len(listed) == 1
    assert not spellings.has(directory, b"readme")
    assert len(listed) == 2


def test_changes_are_seen(directory: int, tmp_path: Path) -> None:
    """Those of other programs by the directory's times, our own because we say so."""
    spellings = Spellings()
    assert spellings.has(directory, b"README")
    os.utime(directory, ns=(1, 1))
    (tmp_path / "README").rename(tmp_path / "readme")
    assert not spellings.has(directory, b"README")
    assert spellings.has(directory, b"readme")
    before = os.stat(directory)
    (tmp_path / "readme").unlink()
    os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))
    spellings.forget(directory)
    assert not spellings.has(directory, b"readme")


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spelling, "_MOST_DIRECTORIES", 2)
    monkeypatch.setattr(spelling, "_MOST_NAMES", 1)
    spellings = Spellings()
    for number in range(4):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "a").touch()
        fd = os.open(tmp_path / f"{number}", os.O_RDONLY)
        assert spellings.has(fd, b"a")
        (tmp_path / f"{number}" / "b").touch()
        assert number % 2 == 0 or spellings.has(fd, b"b")
        os.close(fd)
    assert len(spellings._listings) <= 2
    assert all(len(listing.names) <= 1 for listing in spellings._listings.values())


@pytest.mark.parametrize(
    ("name", "other"), [("readme", "README"), ("\u00e9", "e\u0301"), ("\u00c9", "e\u0301")]
)
def test_the_other_name_is_found_for_the_message(tmp_path: Path, name: str, other: str) -> None:
    (tmp_path / "a").touch()
    (tmp_path / other).touch()
    fd = os.open(tmp_path, os.O_RDONLY)
    assert spelled_in(fd, name.encode()) == other.encode()
    os.close(fd)


def test_an_alias_is_found_by_its_inode(tmp_path: Path) -> None:
    """As FAT's short names, which nothing but the file system itself can tell."""
    (tmp_path / "a").touch()
    (tmp_path / "longname.txt").touch()
    os.link(tmp_path / "longname.txt", tmp_path / "z")
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "listdir", lambda fd: ["longname.txt", "a"])
        assert spelled_in(fd, b"z") == b"longname.txt"
    os.close(fd)
