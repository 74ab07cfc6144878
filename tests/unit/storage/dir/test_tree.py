"""Keys and paths: none gets out of the directory, and no two share a path."""

from __future__ import annotations

import ctypes
import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.errors import (
    AccessRefused,
    StoreError,
    StoreRefused,
    UploadGone,
)
from syncd.storage.dir.store import DirStore
from syncd.storage.dir.tree import DISPLACED, names_of
from syncd.storage.settings import DirSettings
from tests.contract.subjects import without_extended_attributes
from tests.unit.storage.dir.dir_rig import meta_of, put, read, visible


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory in which nothing may ever appear."""
    path = tmp_path / "outside"
    path.mkdir()
    return path


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "..",
        ".",
        "../outside/x",
        "a/../../outside/x",
        "/etc/x",
        "a//b",
        "a/",
        "a/./b",
        "a\0b",
        "\udc80",
    ],
)
def test_a_key_that_is_no_path_is_refused(store: DirStore, root: Path, outside: Path, key: str) -> None:
    """Each verb says no for this object, and nothing appears anywhere."""
    put(store, "plain", b"x")
    verbs: list[Callable[[], object]] = [
        lambda: put(store, key, b"x"),
        lambda: store.head_object(key),
        lambda: store.get_object(key, 0, 0),
        lambda: store.delete_object(key),
        lambda: store.copy_object("plain", key, meta_of(b"x"), ""),
        lambda: store.copy_object(key, "other", meta_of(b"x"), ""),
        lambda: store.create_multipart_upload(key, meta_of(b"x")),
    ]
    for verb in verbs:
        with pytest.raises(StoreRefused) as refusal:
            verb()
        assert not isinstance(refusal.value, AccessRefused)
    assert visible(root) == ["plain"]
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("upload_id", ["", ".", "..", "../../outside", "a" * 32, "A" * 32, "0" * 31 + "/"])
def test_an_upload_id_is_never_a_path(store: DirStore, upload_id: str) -> None:
    """Ids that are not ours lead nowhere."""
    with pytest.raises(UploadGone):
        store.upload_part("key", upload_id, 1, b"x")
    store.abort_multipart_upload("key", upload_id)


def test_our_own_names_are_not_in_the_way(store: DirStore, root: Path) -> None:
    """Keys that look like what the store itself puts there are kept apart from it."""
    keys = [".syncd", ".syncd/store.json", ".syncd/tmp/x", "a", "a/b", "a.~syncd-object~", "a.~syncd-name~",
            "a.~syncd-object~/b", "a.~syncd-object~.~syncd-name~"]  # fmt: skip
    for key in keys:
        put(store, key, key.encode())
    assert [read(store, key) for key in keys] == [key.encode() for key in keys]
    assert json.loads((root / ".syncd" / "store.json").read_bytes())["instance"] == store.instance


_pieces = st.sampled_from(["a", "B", ".", "é", " ", ".~syncd-object~", ".~syncd-name~", ".syncd", "\n"])
_component = st.lists(_pieces, min_size=1, max_size=4).map("".join)
_keys = st.lists(_component.filter(lambda name: name not in (".", "..")), min_size=1, max_size=3).map(
    "/".join
)


@given(_keys, _keys)
def test_no_two_keys_share_a_path(one: str, other: str) -> None:
    """Different keys have different files, and none is where another one would be moved aside to."""
    first, second = names_of(one), names_of(other)
    assert (first == second) == (one == other)
    assert (*first[:-1], first[-1] + DISPLACED) != second
    assert first[0] != b".syncd"


def test_a_symbolic_link_in_the_mirror_is_not_followed(store: DirStore, root: Path, outside: Path) -> None:
    """A link to a directory elsewhere stops everything below it, and changes nothing there."""
    (outside / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(outside)
    put(store, "plain", b"x")
    with pytest.raises(StoreRefused, match="link"):
        put(store, "link/new", b"x")
    upload_id = store.create_multipart_upload("link/new", meta_of(b"x"))
    part = store.upload_part("link/new", upload_id, 1, b"x")
    with pytest.raises(StoreRefused, match="link"):
        store.complete_multipart_upload("link/new", upload_id, [part], meta_of(b"x"))
    assert store.head_object("link/secret") is None
    with pytest.raises(StoreRefused):
        store.get_object("link/secret", 0, 5)
    with pytest.raises(StoreRefused):
        store.copy_object("link/secret", "copy", meta_of(b"x"), "")
    store.delete_object("link/secret")
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert visible(root) == ["link", "plain"]


def test_a_symbolic_link_in_the_place_of_an_object_is_replaced(
    store: DirStore, root: Path, outside: Path
) -> None:
    """It is neither read nor written through; a new object takes its place, a delete leaves it alone."""
    (outside / "secret").write_bytes(b"secret")
    (root / "file").symlink_to(outside / "secret")
    assert store.head_object("file") is None
    store.delete_object("file")
    assert (root / "file").is_symlink()
    put(store, "file", b"object")
    assert not (root / "file").is_symlink()
    assert (outside / "secret").read_bytes() == b"secret"


@pytest.mark.parametrize("name", [".syncd", ".syncd/tmp", ".syncd/uploads", ".syncd/meta"])
def test_a_symbolic_link_in_the_place_of_our_own_is_not_followed(
    root: Path, outside: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of ours is ever written elsewhere."""
    without_extended_attributes(monkeypatch)
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).symlink_to(outside)
    store = DirStore(DirSettings(str(root)))
    refusals = 0
    for verb in (
        lambda: put(store, "file", b"x"),
        lambda: store.create_multipart_upload("file", meta_of(b"x")),
    ):
        with suppress(StoreRefused):
            verb()
            continue
        refusals += 1
    assert refusals > 0
    assert list(outside.iterdir()) == []


def test_swapping_directories_for_links_wins_nothing(store: DirStore, root: Path, outside: Path) -> None:
    """While somebody swaps a directory for a link all the time, nothing is ever written on the other side."""
    (root / "real").mkdir()
    (root / "trap").symlink_to(outside)
    done = threading.Event()

    def swap() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        one, other = os.fsencode(root / "real"), os.fsencode(root / "trap")
        while not done.is_set():
            libc.renameat2(-100, one, -100, other, 2)  # RENAME_EXCHANGE

    thread = threading.Thread(target=swap)
    thread.start()
    written = 0
    try:
        for number in range(400):
            with suppress(StoreError):
                put(store, f"real/{number}", b"x")
                written += 1
    finally:
        done.set()
        thread.join()
    assert written > 0
    assert list(outside.iterdir()) == []


def test_fifos_and_the_like_are_no_objects(store: DirStore, root: Path) -> None:
    """A special file in the mirror neither blocks nor gives bytes; a new object takes its place."""
    os.mkfifo(root / "pipe")
    (root / "directory").mkdir()
    assert store.head_object("pipe") is None
    assert store.head_object("directory") is None
    with pytest.raises(StoreRefused):
        put(store, "pipe/below", b"x")
    put(store, "pipe", b"object")
    assert read(store, "pipe") == b"object"


def test_a_component_may_be_longer_than_a_name(store: DirStore, root: Path) -> None:
    """255 bytes lie at their natural place, as they always did; more are cut, between two characters."""
    put(store, "d" * 255 + "/" + "f" * 255, b"x")
    assert (root / ("d" * 255) / ("f" * 255)).read_bytes() == b"x"
    for key in ("f" * 256, "d" * 256 + "/f", "é" * 128, "é" * 700):
        put(store, key, key.encode())
        assert read(store, key) == key.encode()
    assert (root / ("é" * 64 + ".~syncd-more~") / ("é" * 64)).read_bytes() == ("é" * 128).encode()


def test_an_object_whose_name_is_too_long_to_move_aside_stays(store: DirStore) -> None:
    """Where there is no room for both, the one that is there stays and the other is refused."""
    put(store, "f" * 250, b"there")
    with pytest.raises(StoreRefused):
        put(store, "f" * 250 + "/below", b"x")
    assert read(store, "f" * 250) == b"there"
