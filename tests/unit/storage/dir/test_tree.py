"""Keys and paths: none gets out of the directory, and no two share a path."""

from __future__ import annotations

import ctypes
import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from syncd.core.errors import (
    AccessRefused,
    StoreError,
    StoreRefused,
    UploadGone,
)
from syncd.storage.dir.store import DirStore
from syncd.storage.settings import DirSettings
from tests.contract.subjects import without_extended_attributes
from tests.support.odd_file_system import SHARE, Oddities, odd
from tests.unit.storage.dir.dir_rig import meta_of, put, read, visible


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
        "a//",
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
    """While a program swaps a directory for a link all the time, nothing is written on the other side."""
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


# ---- file systems that take two names for one ------------------------------------------------------------

_ONE = {
    "case": Oddities(case=True, attributes=False),
    "form": Oddities(normal=True),
    "share": SHARE,
}
_PAIRS = {
    "case": [
        ("README", "Readme"), ("dir/a", "DIR/b"), ("Stra\u00dfe", "STRASSE"),
        ("x", "X/below"), ("y/below", "Y"),
    ],
    "form": [("\u00e9", "e\u0301"), ("\u00e9/a", "e\u0301/b")],
    "share": [("README", "readme"), ("a", "A"), ("d./a", "D./b"), ("What?", "what?")],
}  # fmt: skip


@pytest.mark.parametrize("kind", _ONE)
def test_names_that_are_one_are_kept_apart_or_refused(tmp_path: Path, kind: str) -> None:
    """For every pair: the first stays what it is, whatever is done to the second."""
    with odd(tmp_path / "mnt", _ONE[kind]) as at:
        store = DirStore(DirSettings(str(at)))
        for first, second in _PAIRS[kind]:
            put(store, first, b"first")
            for attempt in (
                lambda second=second: put(store, second, b"second!"),
                lambda first=first, second=second: store.copy_object(first, second, meta_of(b"first"), ""),
                lambda second=second: _put_in_parts(store, second),
            ):
                with suppress(StoreRefused):
                    attempt()
                    # Kept apart: each is found, listed and removed by itself.
                    assert {first, second} <= {info.key for info in store.list_objects("")}
                    store.delete_object(second)
                assert store.head_object(second) is None
                with pytest.raises(StoreRefused):
                    store.get_object(second, 0, 0)
                store.delete_object(second)
                assert read(store, first) == b"first"
                assert [info.key for info in store.list_objects("")] == [first]
            store.delete_object(first)
            assert visible(at) == []


def _put_in_parts(store: DirStore, key: str) -> None:
    upload = store.create_multipart_upload(key, meta_of(b"second!"))
    try:
        part = store.upload_part(key, upload, 1, b"second!")
        store.complete_multipart_upload(key, upload, [part], meta_of(b"second!"))
    finally:
        store.abort_multipart_upload(key, upload)


def test_the_refusal_names_both(tmp_path: Path) -> None:
    """Also where they look alike, and where one is ours."""
    with odd(tmp_path / "mnt", Oddities(case=True, normal=True)) as at:
        store = DirStore(DirSettings(str(at)))
        put(store, "caf\u00e9", b"x")
        with pytest.raises(
            StoreRefused, match=r"'cafe\\u0301' from 'caf\\xe9', which is already there.*rename"
        ):
            put(store, "cafe\u0301", b"x")
        with pytest.raises(StoreRefused, match=r"'\.SYNCD' from '\.syncd'"):
            put(store, ".SYNCD/store.json", b"x")
        assert read(store, "caf\u00e9") == b"x"
        store.delete_object("caf\u00e9")
        put(store, "cafe\u0301", b"y")
        assert read(store, "cafe\u0301") == b"y"


def test_two_that_are_one_come_at_once(tmp_path: Path) -> None:
    """One of them is stored, and the others are told."""
    with odd(tmp_path / "mnt", Oddities(case=True)) as at:
        store = DirStore(DirSettings(str(at)))

        def place(key: str) -> str | None:
            try:
                put(store, key, key.encode())
            except StoreRefused:
                return None
            return key

        for number in range(4):
            names = [f"readme{number}", f"Readme{number}", f"README{number}", f"readmE{number}/x"]
            with ThreadPoolExecutor(4) as pool:
                kept = {key for key in pool.map(place, names) if key is not None}
            assert kept
            assert {key for key in names if read(store, key) == key.encode()} == kept
            assert {info.key for info in store.list_objects("") if f"e{number}" in info.key.lower()} == kept


# ---- an object beside a directory of its name ------------------------------------------------------------


@pytest.mark.parametrize("below", [["a/b"], ["a/b", "a/c/d"], ["a/b/c"]])
@pytest.mark.parametrize("first", ["object", "directory"])
def test_an_object_gets_its_name_back_when_the_directory_goes(
    any_store: DirStore, root: Path, below: list[str], first: str
) -> None:
    """Whichever came first; and not as long as anything else is there."""
    keys = ["a", *below] if first == "object" else [*below, "a"]
    for key in keys:
        put(any_store, key, key.encode())
    for key in below:
        assert (root / "a.~syncd-object~").is_file()
        any_store.delete_object(key)
    assert visible(root) == ["a"]
    assert read(any_store, "a") == b"a"
    assert [info.key for info in any_store.list_objects("")] == ["a"]


def test_a_name_is_given_back_by_the_repeat_of_a_deletion_that_died(store: DirStore, root: Path) -> None:
    """The directory is gone already; the older name is still there."""
    put(store, "a", b"a")
    (root / "a").rename(root / "a.~syncd-object~")
    store.delete_object("a/b")
    assert visible(root) == ["a"]


# ---- what fails for one name alone -----------------------------------------------------------------------


def test_a_full_directory_is_no_full_disk(tmp_path: Path) -> None:
    """The object is refused, in words that help; others are stored."""
    with odd(tmp_path / "mnt", Oddities(most_names=4)) as at:
        store = DirStore(DirSettings(str(at)))
        for number in range(3):  # beside `.syncd`
            put(store, f"{number}", b"x")
        with pytest.raises(StoreRefused, match=r"cannot hold more names.*more directories"):
            put(store, "3", b"x")
        put(store, "2", b"y")
        (at / "1").unlink()
        put(store, "d/e", b"z")
        assert [read(store, key) for key in ("0", "2", "3", "d/e")] == [b"x", b"y", None, b"z"]


def test_a_name_that_is_denied_where_names_do_not_fit_is_one_object(tmp_path: Path) -> None:
    """A server for Windows has more reserved names than are known here."""
    reserved = "COM\u00b9"
    with odd(tmp_path / "mnt", Oddities(denied=reserved, refuses=":")) as at:
        store = DirStore(DirSettings(str(at)))
        with pytest.raises(StoreRefused) as refused:
            put(store, reserved, b"x")
        assert not isinstance(refused.value, AccessRefused)
        put(store, "other", b"x")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives directories away")
def test_only_directories_of_our_own_go_with_their_last_object(store: DirStore, root: Path) -> None:
    """Those of another user stay, and with them all above; a folder that is deleted as such goes."""
    for path in ("ours/theirs/ours", "folder"):
        (root / path).mkdir(parents=True)
    for path in ("ours/theirs", "folder"):
        os.chown(root / path, 65534, 65534)
    for key in ("ours/theirs/ours/a", "b/c/d"):
        put(store, key, b"x")
        store.delete_object(key)
    assert visible(root) == ["folder", "ours", "ours/theirs"]
    store.delete_object("folder/")
    assert visible(root) == ["ours", "ours/theirs"]
