"""The objects of a directory, found by walking it."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import StoreUnavailable
from syncd.core.model import ObjectInfo
from syncd.storage.dir import listing as dir_listing
from syncd.storage.dir.names import DISPLACED
from syncd.storage.dir.store import DirStore
from tests.unit.storage.dir.dir_rig import meta_of


def keys(store: DirStore, prefix: str = "") -> list[str]:
    return sorted(info.key for info in store.list_objects(prefix))


def test_long_names_are_objects_like_others(store: DirStore, root: Path) -> None:
    """Read, listed by any prefix, beside directories of their name, and removed without a trace."""
    gbk = "\u201bD6\u201bD0" * 30
    tree = {
        f"{gbk}.txt",
        f"{gbk}.txt/{gbk}/a",
        f"{gbk}.doc",
        "d" * 300,
        f"{'d' * 300}/e",
        "d" * 255,
        "x/" + "é" * 500,
    }
    for key in tree:
        store.put_object(key, key.encode(), meta_of(key.encode()))
    for key in tree:
        assert store.get_object(key, 0, 10_000).body == key.encode()
    for prefix in {key[:length] for key in tree for length in (0, 1, 30, 130, 200, 299, 301)}:
        assert keys(store, prefix) == sorted(key for key in tree if key.startswith(prefix))
    for key in tree:
        store.delete_object(key)
    assert [path.name for path in root.iterdir()] == [".syncd"]


def test_only_objects_are_listed(store: DirStore, root: Path) -> None:
    """Links, not followed; no sockets, FIFOs, folders with files, unfinished uploads, nor what is ours."""
    store.put_object("d/a", b"x", meta_of(b"x"))
    store.create_multipart_upload("d/unfinished", meta_of(b"x"))
    (root / "link").symlink_to(root / "d" / "a")
    (root / "linked").symlink_to(root / "d")
    (root / "empty").mkdir()
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(root / "socket"))
    (root / os.fsdecode(b"\xff")).write_text("x")
    assert keys(store) == ["d/a", "empty/", "link.rclonelink", "linked.rclonelink"]


def test_an_object_beside_a_directory_of_its_name_is_listed_once(store: DirStore) -> None:
    """Wherever it lies."""
    store.put_object("a", b"1", meta_of(b"x"))
    store.put_object("a/b", b"2", meta_of(b"x"))
    store.put_object("c/d", b"3", meta_of(b"x"))
    store.put_object("c", b"4", meta_of(b"x"))
    store.put_object("e.~syncd-name~", b"5", meta_of(b"x"))
    store.put_object("e.~syncd-name~/f", b"6", meta_of(b"x"))
    expected = ["a", "a/b", "c", "c/d", "e.~syncd-name~", "e.~syncd-name~/f"]
    assert keys(store) == expected


def test_an_older_version_that_is_about_to_go_is_not_listed_twice(store: DirStore, root: Path) -> None:
    """A process that died between two steps left both."""
    store.put_object("a", b"new", meta_of(b"x"))
    (root / os.fsdecode(b"a" + DISPLACED)).write_text("old")
    assert [(info.key, info.size) for info in store.list_objects("")] == [("a", 3)]


def test_a_file_put_there_by_hand_has_no_etag_until_it_is_read(store: DirStore, root: Path) -> None:
    """A listing reads no content."""
    (root / "by-hand").write_text("12345")
    store.put_object("ours", b"x", meta_of(b"x"))
    found = {info.key: info for info in store.list_objects("")}
    assert found["by-hand"] == ObjectInfo("by-hand", 5, "")
    known = store.head_object("ours")
    assert known is not None
    assert found["ours"] == ObjectInfo("ours", 1, known.etag)


def test_a_large_directory_comes_in_pages(store: DirStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, also when objects come and go between two pages."""
    monkeypatch.setattr(dir_listing, "PAGE", 3)
    expected = [f"d{number}/f{index}" for number in range(3) for index in range(7)]
    for key in expected:
        store.put_object(key, b"x", meta_of(b"x"))
    assert keys(store) == expected
    listed = store.list_objects("")
    first = next(listed).key
    store.delete_object("d2/f6")
    store.delete_object(first)
    assert sorted([first, *(info.key for info in listed)]) == expected[:-1]


def test_a_directory_that_goes_away_under_the_walk_is_passed_over(
    store: DirStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what was in it."""
    monkeypatch.setattr(dir_listing, "PAGE", 1)
    for key in ("a/1", "a/2", "b/1", "c"):
        store.put_object(key, b"x", meta_of(b"x"))
    listed = store.list_objects("")
    assert next(listed).key == "c"
    assert next(listed).key == "b/1"
    (root / "a").rename(root.parent / "moved")
    assert list(listed) == []


def test_a_directory_that_cannot_be_read_is_an_error_not_a_shorter_list(
    store: DirStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the list goes on when it can be read again."""
    store.put_object("a/1", b"x", meta_of(b"x"))
    store.put_object("b/1", b"x", meta_of(b"x"))
    real = os.listdir
    failures = [OSError(5, "Input/output error")]

    def failing(fd: Any) -> list[str]:
        if failures and os.readlink(f"/proc/self/fd/{fd}").endswith("/a"):
            raise failures.pop()
        return real(fd)

    monkeypatch.setattr(os, "listdir", failing)
    listed = store.list_objects("")
    with pytest.raises(StoreUnavailable):
        list(listed)
    assert [info.key for info in listed] == ["b/1", "a/1"]


def test_no_descriptor_is_left_open_by_a_listing(store: DirStore) -> None:
    """Whether it is read to its end or not."""
    for number in range(20):
        store.put_object(f"d{number}/a", b"x", meta_of(b"x"))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        next(store.list_objects(""))
        list(store.list_objects("d1"))
    assert len(os.listdir("/proc/self/fd")) == before
