"""A path of the records leads to a file, a link or an empty folder, and to nothing outside of the root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.core.errors import FileChanged, FileUnreadable, FileVanished
from syncd.core.model import FolderStat, Irregular, LinkStat
from syncd.sources import entries


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    for name in ("root/empty", "root/full/below", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "root/full/a.tmp").write_text("x")
    (tmp_path / "root/link").symlink_to(tmp_path / "elsewhere")
    descriptor = os.open(tmp_path / "root", os.O_PATH)
    yield descriptor
    os.close(descriptor)


def fills(path: str) -> bool:
    return path == "full/below/"


def test_each_kind_has_a_path_of_its_own(root: int) -> None:
    """A folder that something fills is none, and neither is a link to one."""
    assert isinstance(entries.look(root, "empty/"), FolderStat)
    assert isinstance(entries.look(root, "full/"), FolderStat)
    assert entries.look(root, "full/", fills=fills) is None
    assert isinstance(entries.look(root, "link"), LinkStat)
    assert entries.look(root, "empty") == Irregular("directory")
    for path in ("link/", "full/a.tmp/", "missing/"):
        assert entries.look(root, path) is None
        with pytest.raises(FileVanished):
            entries.open_entry(root, path)


@pytest.mark.parametrize("path", ["/", "//", "../", "full/../", "./"])
def test_no_folder_is_outside(root: int, path: str) -> None:
    """Nor the root itself."""
    with pytest.raises(FileUnreadable):
        entries.look(root, path)
    with pytest.raises(FileUnreadable):
        entries.open_entry(root, path)


def test_an_open_folder_is_an_empty_file_until_something_fills_it(root: int, tmp_path: Path) -> None:
    """What does not fill it changes its time only."""
    with entries.open_entry(root, "empty/", fills=lambda path: path != "empty/x") as folder:
        assert (folder.opened.size, folder.read(0, 0), folder.is_open_for_writing()) == (0, b"", False)
        assert folder.is_at(entries.look(root, "empty/"))
        (tmp_path / "root/empty/x").touch()
        assert isinstance(folder.stat(), FolderStat)
        (tmp_path / "root/empty/y").touch()
        with pytest.raises(FileChanged):
            folder.stat()


def test_one_entry_tells_that_a_folder_is_filled(root: int, tmp_path: Path) -> None:
    """However many there are: a folder is looked at whenever a name in it comes or goes."""
    for number in range(1000):
        (tmp_path / "root/empty" / str(number)).touch()
    asked: list[str] = []

    def fills(path: str) -> bool:
        asked.append(path)
        return len(asked) == 3

    assert entries.look(root, "empty/", fills=fills) is None
    assert len(asked) == 3
