"""Is it the right directory?"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from syncd.core.errors import (
    StateError,
    StoreUnavailable,
)
from syncd.storage.base import Memory
from syncd.storage.dir import root as dir_root
from syncd.storage.dir.store import DirStore
from syncd.storage.settings import DirSettings
from tests.unit.storage.dir.dir_rig import MTIME_NS, meta_of, put, read, staged, visible

DAY_NS = 86_400 * 10**9


def test_the_root_is_never_made(tmp_path: Path) -> None:
    """A directory that is missing may be one that is not mounted."""
    store = DirStore(DirSettings(str(tmp_path / "missing")))
    for verb in (lambda: put(store, "file", b"x"), lambda: store.head_object("file")):
        with pytest.raises(StoreUnavailable, match="is missing"):
            verb()
    assert not (tmp_path / "missing").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_what_root_makes_belongs_to_the_owner_of_the_directory(tmp_path: Path) -> None:
    """A check by root leaves nothing that locks out the service, which runs as another user."""
    root = tmp_path / "mirror"
    root.mkdir()
    os.chown(root, 65534, 65534)
    put(DirStore(DirSettings(str(root))), "a/b/file", b"x")
    owned = [
        root / ".syncd",
        root / ".syncd" / "store.json",
        root / ".syncd" / "tmp",
        root / "a",
        root / "a" / "b",
    ]
    assert {path.name: path.stat().st_uid for path in owned} == {path.name: 65534 for path in owned}


def test_a_root_that_is_a_file_is_not_there(tmp_path: Path) -> None:
    """It is no directory, but may become one."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnavailable, match="is missing"):
        put(DirStore(DirSettings(str(tmp_path / "file"))), "file", b"x")


def test_a_root_that_was_there_and_is_empty_is_not_mounted(store: DirStore, root: Path) -> None:
    """Where the marker has been seen, its absence stops every verb, and nothing is written."""
    put(store, "file", b"x")
    root.rename(root.with_name("elsewhere"))
    root.mkdir()
    verbs: list[Callable[[], object]] = [
        lambda: put(store, "file", b"y"),
        lambda: store.head_object("file"),
        lambda: store.delete_object("file"),
        lambda: store.create_multipart_upload("file", meta_of(b"x")),
        lambda: list(store.list_multipart_uploads("")),
    ]
    for verb in verbs:
        with pytest.raises(StoreUnavailable, match="not mounted"):
            verb()
    assert list(root.iterdir()) == []
    root.rmdir()
    root.with_name("elsewhere").rename(root)
    assert read(store, "file") == b"x"


def test_another_store_in_the_same_place_is_not_ours(store: DirStore, root: Path) -> None:
    """Its marker has another identity; nothing is read or written."""
    put(store, "file", b"ours")
    root.rename(root.with_name("elsewhere"))
    root.mkdir()
    put(DirStore(DirSettings(str(root))), "file", b"theirs")
    with pytest.raises(StoreUnavailable, match="a different store"):
        store.head_object("file")
    with pytest.raises(StoreUnavailable, match="a different store"):
        put(store, "file", b"ours")
    assert (root / "file").read_bytes() == b"theirs"


def test_an_identity_that_is_remembered_is_demanded(store: DirStore, root: Path) -> None:
    """A process that knows the identity from an earlier one is safe from the first verb on."""
    put(store, "file", b"x")
    knowing = DirStore(DirSettings(str(root)), Memory(lambda store_id: store.instance))
    assert read(knowing, "file") == b"x"
    with pytest.raises(StoreUnavailable, match="a different store"):
        DirStore(DirSettings(str(root)), Memory(lambda store_id: "0" * 32)).head_object("file")
    (root / ".syncd" / "store.json").unlink()
    with pytest.raises(StoreUnavailable, match="not mounted"):
        DirStore(DirSettings(str(root)), Memory(lambda store_id: store.instance)).head_object("file")


def test_a_copy_is_told_from_the_directory_that_was_used(store: DirStore, root: Path) -> None:
    """It has the same identity, and is used; that it is a copy is told until that is known, then no more."""
    known: list[str] = [""]
    copies: list[str] = []

    def copied(store_id: str) -> None:
        copies.append(store_id)
        if len(copies) == 1:
            raise StateError("the disk is full")

    def store_of() -> DirStore:
        memory = Memory(lambda _: known[-1], lambda _, text: known.append(text))
        return DirStore(DirSettings(str(root)), memory, copied=copied)

    put(store_of(), "file", b"x")
    store_of().head_object("file")
    os.utime(root / ".syncd/tmp")
    (root / "file").unlink()
    running = store_of()
    assert (running.head_object("file"), copies) == (None, [])

    shutil.copytree(root, root.with_name("copy"))
    root.rename(root.with_name("away"))
    root.with_name("copy").rename(root)
    with pytest.raises(StateError):
        running.head_object("file")
    assert running.head_object("file") is None
    for _ in range(2):
        store_of().head_object("file")
    assert (len(copies), len({text.split()[0] for text in known[1:]})) == (2, 1)


def test_a_place_in_the_mount_table_is_not_a_new_store_before_it_is_mounted(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An empty mount point is left alone even by a process that has never seen the store."""
    table = tmp_path / "fstab"
    table.write_text(f"# comment\n\nnas:/export {root} nfs defaults 0 0\n")
    monkeypatch.setattr(dir_root, "MOUNT_TABLE", str(table))
    (root / "below").mkdir()
    for path in (root, root / "below"):
        with pytest.raises(StoreUnavailable, match="not mounted"):
            put(DirStore(DirSettings(str(path))), "file", b"x")
    assert visible(root) == ["below"]
    assert not (root / ".syncd").exists()


def test_a_damaged_marker_stops_the_store(store: DirStore, root: Path) -> None:
    """It says nothing about what lies here, so nothing is done here."""
    put(store, "file", b"x")
    (root / ".syncd" / "store.json").write_bytes(b"\0" * 40)
    for each in (store, DirStore(DirSettings(str(root)))):
        with pytest.raises(StoreUnavailable, match="damaged"):
            put(each, "file", b"y")


def test_many_who_begin_at_once_make_one_store(root: Path) -> None:
    """The marker is made once, whichever is first: threads of one store, and stores of several processes."""
    stores = [DirStore(DirSettings(str(root))) for _ in range(4)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: put(stores[number % 4], f"file{number}", b"x"), range(64)))
    assert len({store.instance for store in stores}) == 1
    assert sorted(os.listdir(root / ".syncd")) == ["store.json", "tmp"]


def test_what_died_long_ago_is_swept(root: Path) -> None:
    """Staged files and half-removed uploads of a day ago go at the next start; younger ones stay."""
    put(DirStore(DirSettings(str(root))), "file", b"x")
    staging = root / ".syncd" / "tmp"
    (staging / "half").write_bytes(b"half")
    os.utime(staging / "half", ns=(0, MTIME_NS))  # the mtime of a user's file says nothing
    (staging / "upload").mkdir()
    (staging / "upload" / "00001").write_bytes(b"part")
    DirStore(DirSettings(str(root))).head_object("file")
    assert sorted(staged(root)) == ["half", "upload"]
    DirStore(DirSettings(str(root)), now_ns=lambda: time.time_ns() + 2 * DAY_NS).head_object("file")
    assert staged(root) == []


def test_a_root_is_made_where_the_settings_say_so(tmp_path: Path) -> None:
    """The directory, not those above it."""
    store = DirStore(DirSettings(str(tmp_path / "new"), create=True))
    assert store.head_object("a") is None
    assert (tmp_path / "new").is_dir()
    deep = DirStore(DirSettings(str(tmp_path / "not" / "there"), create=True))
    with pytest.raises(StoreUnavailable, match="is missing"):
        deep.put_object("a", b"x", meta_of(b"x"))
    assert not (tmp_path / "not").exists()


def test_a_root_that_was_there_and_is_gone_is_not_made_again(tmp_path: Path) -> None:
    """A disk was unplugged: an empty directory in its place would take everything again."""
    store = DirStore(DirSettings(str(tmp_path / "new"), create=True))
    store.put_object("a", b"x", meta_of(b"x"))
    (tmp_path / "new").rename(tmp_path / "unplugged")
    with pytest.raises(StoreUnavailable):
        store.put_object("b", b"x", meta_of(b"x"))
    assert not (tmp_path / "new").exists()


def test_a_place_in_the_mount_table_is_not_made_before_it_is_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the settings say that it may."""
    table = tmp_path / "fstab"
    table.write_text(f"server:/export {tmp_path}/nas nfs defaults 0 0\n")
    monkeypatch.setattr("syncd.storage.dir.root.MOUNT_TABLE", str(table))
    store = DirStore(DirSettings(str(tmp_path / "nas"), create=True))
    with pytest.raises(StoreUnavailable, match="not mounted"):
        store.put_object("a", b"x", meta_of(b"x"))
    assert not (tmp_path / "nas").exists()


def test_a_file_in_the_place_of_a_root_is_left_alone(tmp_path: Path) -> None:
    """It is no directory, and nothing is made of it."""
    (tmp_path / "new").write_text("x")
    store = DirStore(DirSettings(str(tmp_path / "new"), create=True))
    with pytest.raises(StoreUnavailable):
        store.put_object("a", b"x", meta_of(b"x"))
    assert (tmp_path / "new").read_text() == "x"
