"""Nothing is restored to a directory that is watched, or of a store, by whatever way it is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from syncd.core.errors import FileUnwritable
from syncd.transfer.restore.closed import Closed
from syncd.transfer.restore.folder import Folder
from tests.support.mounting import mounted
from tests.support.store import FakeStore
from tests.unit.transfer.restore.restoring import put, reasons, restore


@pytest.mark.parametrize("inside", [".", "deep/er"])
def test_nothing_is_restored_into_a_watched_folder(tmp_path: Path, inside: str) -> None:
    """Nor below it, nor into a folder that it is in, nor under another name that leads there."""
    watched = tmp_path / "above" / "watched"
    watched.mkdir(parents=True)
    closed = {str(watched): Closed("the watched folder", around=True)}
    store = FakeStore()
    put(store, "a", b"x")
    (tmp_path / "alias").symlink_to(watched)
    for target in (watched / inside, tmp_path / "alias" / inside, tmp_path / "above", tmp_path):
        with pytest.raises(FileUnwritable, match="watched"):
            restore(store, target, closed=closed)
    assert os.listdir(watched) == []
    assert restore(store, tmp_path / "above" / "watched-not", closed=closed).failures == []


def test_a_closed_folder_inside_is_not_entered(tmp_path: Path) -> None:
    """The directory of a store may lie in a home directory; a key that leads into it is reported."""
    (tmp_path / "home" / "store").mkdir(parents=True)
    closed = {str(tmp_path / "home" / "store"): Closed("the directory of the store")}
    store = FakeStore()
    put(store, "store/a", b"x")
    put(store, "a", b"x")
    report = restore(store, tmp_path / "home", closed=closed)
    assert reasons(report) == {
        "store/a": "its folder is the directory of the store: restore it to another folder"
    }
    with pytest.raises(FileUnwritable, match="is inside the directory of the store"):
        restore(store, tmp_path / "home" / "store" / "x", closed=closed)


@pytest.mark.slow
def test_a_watched_folder_is_known_under_every_mount(tmp_path: Path) -> None:
    """By its place in its file system: a bind mount has another path, and no link in it."""
    watched = tmp_path / "above" / "watched"
    (watched / "sub").mkdir(parents=True)
    closed = {str(watched): Closed("the watched folder", around=True)}
    for source, target in ((watched, ""), (watched, "sub"), (watched / "sub", ""), (watched.parent, "")):
        bind = mounted("--bind", str(source), at=tmp_path / "mount")
        with bind as mount, pytest.raises(FileUnwritable, match="watched"):
            Folder(str(mount / target), closed, create=True)
    (tmp_path / "to" / "inside").mkdir(parents=True)
    store = FakeStore()
    put(store, "inside/a", b"x")
    with mounted("--bind", str(watched), at=tmp_path / "to" / "inside"):
        assert reasons(restore(store, tmp_path / "to", closed=closed)) == {
            "inside/a": "its folder is the watched folder: restore it to another folder"
        }
    assert os.listdir(watched) == ["sub"]
