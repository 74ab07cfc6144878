"""A link is an object of a directory store, and what others made of links there is left or refused."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.core.errors import PreconditionFailed, StoreRefused
from syncd.core.model import ObjectInfo
from syncd.storage.dir.record import Sidecars
from syncd.storage.dir.store import DirStore
from syncd.storage.dir.tree import Tree
from tests.unit.storage.dir.dir_rig import MTIME_NS, meta_of, put, read, staged, visible


def put_link(store: DirStore, key: str, target: bytes, replaces: str | None = None) -> str:
    return store.put_object(key, target, replace(meta_of(target), is_link=True, replaces=replaces)).etag


def found(store: DirStore, key: str) -> ObjectInfo:
    info = store.head_object(key)
    assert info is not None
    return info


def test_a_link_lies_where_the_original_lies(any_store: DirStore, root: Path) -> None:
    """With its time; file and link replace each other there, and each is only what it is."""
    put(any_store, "sub/a", b"file")
    put_link(any_store, "sub/a.rclonelink", b"../b")
    assert os.readlink(root / "sub" / "a") == "../b"
    assert (root / "sub" / "a").lstat().st_mtime_ns == MTIME_NS
    assert (any_store.head_object("sub/a"), found(any_store, "sub/a.rclonelink").token) == (None, "token")
    any_store.delete_object("sub/a")
    assert visible(root) == ["sub", "sub/a"]
    put(any_store, "sub/a", b"file")
    assert any_store.head_object("sub/a.rclonelink") is None
    any_store.delete_object("sub/a.rclonelink")
    assert read(any_store, "sub/a") == b"file"
    put_link(any_store, "sub/a.rclonelink", b"x")
    any_store.delete_object("sub/a.rclonelink")
    assert (visible(root), staged(root)) == ([], [])


def test_a_link_that_was_made_by_hand_is_anothers(store: DirStore, root: Path) -> None:
    """Also one that leads elsewhere now, with the same length and time."""
    etag = put_link(store, "a.rclonelink", b"one")
    (root / "a").unlink()
    (root / "a").symlink_to("two")
    os.utime(root / "a", ns=(MTIME_NS, MTIME_NS), follow_symlinks=False)
    info = found(store, "a.rclonelink")
    assert (info.foreign, info.is_link, info.etag == etag, info.instance) == (True, True, False, None)
    with pytest.raises(PreconditionFailed):
        put_link(store, "a.rclonelink", b"new", replaces=etag)
    put_link(store, "a.rclonelink", b"new", replaces=info.etag)
    assert os.readlink(root / "a") == "new"


def test_a_link_makes_room_for_a_folder_and_gets_its_place_back(store: DirStore, root: Path) -> None:
    """One of ours does; one that the operator made may lead to another disk, and is refused."""
    put_link(store, "a.rclonelink", b"target")
    put(store, "a/b", b"below")
    assert visible(root) == ["a", "a.~syncd-object~", "a/b"]
    assert found(store, "a.rclonelink").token == "token"
    assert {info.key for info in store.list_objects("")} == {"a.rclonelink", "a/b"}
    put_link(store, "a.rclonelink", b"other")
    store.delete_object("a/b")
    assert os.readlink(root / "a") == "other"
    (root / "made").symlink_to(root)
    with pytest.raises(StoreRefused, match="remove it"):
        put(store, "made/b", b"below")


def test_a_file_of_such_a_name_goes_first(store: DirStore, root: Path) -> None:
    """It is from when links were not carried."""
    put(store, "a.rclonelink", b"file")
    (root / "a").symlink_to("target")
    assert not found(store, "a.rclonelink").is_link
    assert read(store, "a.rclonelink") == b"file"
    store.delete_object("a.rclonelink")
    assert visible(root) == []


@pytest.mark.parametrize("target", [b"", b"a\0b"])
def test_what_is_no_link_is_refused(store: DirStore, root: Path, target: bytes) -> None:
    """And leaves nothing behind."""
    with pytest.raises(StoreRefused):
        put_link(store, "a.rclonelink", target)
    assert (visible(root), staged(root)) == ([], [])


def test_a_file_system_without_links_says_so(store: DirStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this object; the store goes on."""

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refused)
    with pytest.raises(StoreRefused, match="no symbolic links") as caught:
        put_link(store, "a.rclonelink", b"x")
    assert "symlinks: skip" in caught.value.hint
    put(store, "b", b"x")


@pytest.mark.parametrize("step", ["the record", "the link"])
@pytest.mark.parametrize("verb", ["put", "delete"])
def test_a_link_stays_ours_wherever_the_process_dies(
    store: DirStore, root: Path, monkeypatch: pytest.MonkeyPatch, verb: str, step: str
) -> None:
    """Before or after either half of it: a folder can take its place, as long as it is there."""
    put_link(store, "a.rclonelink", b"old")

    class DeathError(Exception):
        pass

    def die(*_: object) -> None:
        raise DeathError

    dies = {
        ("put", "the record"): (Sidecars, "write"),
        ("put", "the link"): (Tree, "place"),
        ("delete", "the record"): (Sidecars, "drop"),
        ("delete", "the link"): (Tree, "remove"),
    }
    verbs = {
        "put": lambda: put_link(store, "a.rclonelink", b"new"),
        "delete": lambda: store.delete_object("a.rclonelink"),
    }
    with monkeypatch.context() as patch:
        patch.setattr(*dies[verb, step], die)
        with pytest.raises(DeathError):
            verbs[verb]()
    is_there = (root / "a").is_symlink()
    assert is_there == ((verb, step) != ("delete", "the record"))
    assert not is_there or found(store, "a.rclonelink").size == 3
    put(store, "a/b", b"below")
    assert read(store, "a/b") == b"below"
    put_link(store, "a.rclonelink", b"new")
    assert found(store, "a.rclonelink").token == "token"
