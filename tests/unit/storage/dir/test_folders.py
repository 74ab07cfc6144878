"""A folder is an object of a directory store while a file needs it; others' are while they are empty."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.core.errors import PreconditionFailed, StoreRefused, StoreUnavailable
from syncd.core.model import Attributes
from syncd.storage.dir.folders import ETAG
from syncd.storage.dir.record import Sidecars
from syncd.storage.dir.store import DirStore
from tests.unit.storage.dir.dir_rig import MTIME_NS, meta_of, put, visible


def put_folder(store: DirStore, key: str, replaces: str | None = None) -> str:
    return store.put_object(key, b"", replace(meta_of(b""), is_folder=True, replaces=replaces)).etag


def test_a_folder_stays_until_nobody_wants_it(any_store: DirStore, root: Path) -> None:
    """Neither what leaves it nor what comes into it takes it away, and it takes nothing away when it goes."""
    put_folder(any_store, "sub/a/")
    assert (root / "sub" / "a").stat().st_mtime_ns == MTIME_NS
    put(any_store, "sub/a/b/c", b"file")
    any_store.delete_object("sub/a/b/c")
    assert visible(root) == ["sub", "sub/a"]
    put(any_store, "sub/a/b", b"file")
    any_store.delete_object("sub/a/")
    assert any_store.head_object("sub/a/") is None
    assert visible(root) == ["sub", "sub/a", "sub/a/b"]
    any_store.delete_object("sub/a/b")
    assert visible(root) == []


def test_a_file_of_its_name_is_another_object(any_store: DirStore, root: Path) -> None:
    """It steps aside while the folder is there, and comes back."""
    put(any_store, "a", b"file")
    put_folder(any_store, "a/")
    assert any_store.get_object("a", 0, 3).body == b"file"
    assert (root / "a").is_dir()
    any_store.delete_object("a/")
    assert (root / "a").read_bytes() == b"file"
    put_folder(any_store, "a/")
    any_store.delete_object("a")
    assert visible(root) == ["a"]


def test_a_folder_of_another_program_is_an_object_while_it_is_empty(store: DirStore, root: Path) -> None:
    """It can be taken over, and is never taken for one of ours."""
    (root / "theirs").mkdir()
    info = store.head_object("theirs/")
    assert info is not None
    assert (info.foreign, info.instance, info.size) == (True, None, 0)
    with pytest.raises(PreconditionFailed):
        put_folder(store, "theirs/", replaces="")
    (root / "theirs" / "x").write_text("x")
    assert (store.head_object("theirs/"), store.head_object("x/")) == (None, None)
    put_folder(store, "theirs/", replaces="")
    assert [each.key for each in store.list_objects("th")] == ["theirs/", "theirs/x"]


def test_a_folder_gets_other_attributes_by_a_copy_onto_itself(any_store: DirStore) -> None:
    """Of one that is there."""
    put_folder(any_store, "a/")
    wanted = Attributes(0o700)
    any_store.copy_object("a/", "a/", replace(meta_of(b""), is_folder=True, attributes=wanted), ETAG)
    info = any_store.head_object("a/")
    assert info is not None
    assert info.attributes == wanted
    with pytest.raises(PreconditionFailed):
        any_store.copy_object("b/", "b/", meta_of(b""), ETAG)


def test_what_is_not_empty_is_no_folder(store: DirStore, root: Path) -> None:
    """An object with content has no such key, and no such upload can be begun."""
    with pytest.raises(StoreRefused):
        put(store, "a/", b"content")
    with pytest.raises(StoreRefused):
        store.create_multipart_upload("a/", meta_of(b""))
    assert visible(root) == []


def test_a_death_at_any_step_leaves_a_folder_that_can_be_made_or_removed(
    store: DirStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record comes first and goes first: a folder without one goes with what was in it."""
    really, died = Sidecars.drop, []

    def dies(sidecars: Sidecars, private: int, key: str) -> None:
        really(sidecars, private, key)
        died.append(key)
        raise InterruptedError

    put_folder(store, "a/")
    monkeypatch.setattr(Sidecars, "drop", dies)
    with pytest.raises(StoreUnavailable):
        store.delete_object("a/")
    monkeypatch.undo()
    info = store.head_object("a/")
    assert (died, info is not None and info.foreign) == (["a/"], True)
    store.delete_object("a/")
    assert visible(root) == []
