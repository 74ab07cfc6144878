"""What only the `dir` store has: a directory that people see, change, unmount, fill up and booby-trap."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.errors import (
    AccessRefused,
    PartsRefused,
    PreconditionFailed,
    Stopped,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    UploadGone,
)
from syncd.core.model import Fingerprint, ObjectMeta
from syncd.storage.base import Heartbeat, Instance, Meter
from syncd.storage.dir import files as dir_files
from syncd.storage.dir import root as dir_root
from syncd.storage.dir.store import DirStore
from syncd.storage.dir.tree import DISPLACED, names_of
from syncd.storage.settings import DirSettings
from tests.contract.subjects import without_extended_attributes

MTIME_NS = 1_500_000_000_123_456_789
DAY_NS = 86_400 * 10**9
NOBODY = 65534

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="mounting a file system takes root")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directory of the store."""
    path = tmp_path / "mirror"
    path.mkdir()
    return path


@pytest.fixture
def store(root: Path) -> DirStore:
    return DirStore(DirSettings(str(root)))


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory in which nothing may ever appear."""
    path = tmp_path / "outside"
    path.mkdir()
    return path


def meta_of(body: bytes, token: str = "token") -> ObjectMeta:
    return ObjectMeta(Fingerprint(xxhash.xxh3_128_digest(body), len(body)), MTIME_NS, token)


def put(store: DirStore, key: str, body: bytes) -> str:
    return store.put_object(key, body, meta_of(body)).etag


def read(store: DirStore, key: str) -> bytes | None:
    """The object, after making sure that the store says the truth about it."""
    info = store.head_object(key)
    if info is None:
        return None
    body = store.get_object(key, 0, info.size) if info.size else b""
    assert (info.size, info.digest) == (len(body), xxhash.xxh3_128_digest(body))
    return body


def visible(root: Path) -> list[str]:
    """Every name outside of ``.syncd``."""
    names = (str(path.relative_to(root)) for path in root.rglob("*"))
    return sorted(name for name in names if name.split("/")[0] != ".syncd")


def staged(root: Path) -> list[str]:
    return os.listdir(root / ".syncd" / "tmp")


# ---- what people see -----------------------------------------------------------------------------------


def test_an_object_is_a_file_of_its_name_and_time(store: DirStore, root: Path) -> None:
    """The mirror can be used without syncd: natural names, the files' own mtimes, nothing else in sight."""
    put(store, "2024/summer/a b.jpg", b"picture")
    path = root / "2024" / "summer" / "a b.jpg"
    assert path.read_bytes() == b"picture"
    assert path.stat().st_mtime_ns == MTIME_NS
    assert visible(root) == ["2024", "2024/summer", "2024/summer/a b.jpg"]
    assert staged(root) == []


def test_an_object_made_of_parts_is_a_file_of_its_name_and_time(store: DirStore, root: Path) -> None:
    """It does not show how an object came to be."""
    body = os.urandom(5000)
    upload_id = store.create_multipart_upload("big", meta_of(body))
    parts = [store.upload_part("big", upload_id, n + 1, body[n * 1000 : n * 1000 + 1000]) for n in range(5)]
    store.complete_multipart_upload("big", upload_id, parts, meta_of(body))
    assert (root / "big").read_bytes() == body
    assert (root / "big").stat().st_mtime_ns == MTIME_NS
    assert os.listdir(root / ".syncd" / "uploads") == []
    assert staged(root) == []


def test_the_record_is_for_others_to_read(store: DirStore, root: Path) -> None:
    """Digest, mtime and token are JSON in an extended attribute of the object."""
    put(store, "file", b"content")
    record = json.loads(os.getxattr(root / "file", "user.syncd"))
    assert record["syncd-xxh128"] == xxhash.xxh3_128_hexdigest(b"content")
    assert (record["mtime-ns"], record["token"]) == (MTIME_NS, "token")


def test_the_private_directory_is_private(store: DirStore, root: Path) -> None:
    """What is unfinished, and who began it, is nobody else's business."""
    store.create_multipart_upload("big", meta_of(b""))
    put(store, "file", b"x")
    private = root / ".syncd"
    for path in (private, private / "tmp", private / "uploads", *(private / "uploads").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((private / "store.json").stat().st_mode) == 0o600


def test_empty_directories_are_not_left_behind(store: DirStore, root: Path) -> None:
    """When the last object below a directory goes, the directory goes; others stay."""
    put(store, "a/b/c/d", b"x")
    put(store, "a/e", b"x")
    store.delete_object("a/b/c/d")
    assert visible(root) == ["a", "a/e"]


def test_an_object_moves_aside_for_a_directory_and_back(store: DirStore, root: Path) -> None:
    """``a`` is renamed for ``a/b``; once the directory is gone, the next ``a`` has its natural place."""
    put(store, "a", b"one")
    put(store, "a/b", b"below")
    assert visible(root) == ["a", "a.~syncd-object~", "a/b"]
    store.delete_object("a/b")
    assert read(store, "a") == b"one"
    put(store, "a", b"two")
    assert visible(root) == ["a"]
    assert read(store, "a") == b"two"


# ---- changed by hand -----------------------------------------------------------------------------------


@pytest.fixture(params=["attributes", "sidecars"])
def any_store(request: pytest.FixtureRequest, root: Path, monkeypatch: pytest.MonkeyPatch) -> DirStore:
    """With and without extended attributes."""
    if request.param == "sidecars":
        without_extended_attributes(monkeypatch)
    return DirStore(DirSettings(str(root)))


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"!")


def _overwrite(path: Path) -> None:
    path.write_bytes(path.read_bytes().swapcase())


def _replace(path: Path) -> None:
    content = path.read_bytes().swapcase()
    path.unlink()
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("change", [_append, _overwrite, _replace, _truncate])
def test_an_object_changed_by_hand_is_not_taken_for_ours(
    any_store: DirStore, root: Path, change: Callable[[Path], None]
) -> None:
    """Digest, size and ETag are those of the bytes that are there, and the token is gone."""
    etag = put(any_store, "file", b"Content")
    change(root / "file")
    info = any_store.head_object("file")
    assert info is not None
    assert (info.etag == etag, info.token) == (False, None)
    assert info.mtime_ns == (root / "file").stat().st_mtime_ns
    read(any_store, "file")
    with pytest.raises(PreconditionFailed):
        any_store.copy_object("file", "copy", meta_of(b"Content"), etag)
    upload_id = any_store.create_multipart_upload("copy", meta_of(b"Content"))
    with pytest.raises(PreconditionFailed):
        any_store.upload_part_copy("copy", upload_id, 1, "file", 0, 0, etag)


def test_an_object_that_was_only_touched_is_still_ours(any_store: DirStore, root: Path) -> None:
    """Same bytes, other mtime: nothing has to be sent again."""
    put(any_store, "file", b"content")
    before = any_store.head_object("file")
    os.utime(root / "file")
    assert any_store.head_object("file") == before


def test_a_file_put_there_by_hand_is_an_object(any_store: DirStore, root: Path) -> None:
    """What a person has copied into the mirror is found and described by its content."""
    any_store.head_object("nothing")
    (root / "a").mkdir()
    (root / "a" / "by hand").write_bytes(b"content")
    info = any_store.head_object("a/by hand")
    assert info is not None
    assert (info.size, info.digest, info.token) == (7, xxhash.xxh3_128_digest(b"content"), None)
    copied = any_store.copy_object("a/by hand", "copy", meta_of(b"content", "new"), info.etag)
    assert any_store.head_object("copy") is not None
    assert copied.etag == info.etag


def test_coarse_timestamps_are_no_change(store: DirStore, root: Path) -> None:
    """A file system that rounds mtimes once they reach the disk does not make every object suspect."""
    put(store, "file", b"content")
    record = os.getxattr(root / "file", "user.syncd")
    (root / "file").write_bytes(b"CONTENT")  # so that only belief in the record gives the old digest
    os.setxattr(root / "file", "user.syncd", record)
    for resolution in (100, 1000, 10**6, 10**9, 2 * 10**9):
        os.utime(root / "file", ns=(0, MTIME_NS - MTIME_NS % resolution))
        info = store.head_object("file")
        assert info is not None
        assert info.digest == xxhash.xxh3_128_digest(b"content")


def test_a_record_that_cannot_be_read_is_no_record(any_store: DirStore, root: Path) -> None:
    """Garbage in the place of a record means that the content is asked."""
    put(any_store, "file", b"content")
    for path in (root / ".syncd").rglob("*.json"):
        if path.parent.name == "meta":
            path.write_bytes(b'{"etag": []}')
    with suppress(OSError):
        os.setxattr(root / "file", "user.syncd", b"[1, 2")
    info = any_store.head_object("file")
    assert info is not None
    assert (info.digest, info.token) == (xxhash.xxh3_128_digest(b"content"), None)


# ---- keys that want to get out -------------------------------------------------------------------------


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


# ---- names that the file system does not take ----------------------------------------------------------


def test_a_component_that_is_too_long_is_refused(store: DirStore, root: Path) -> None:
    """255 bytes are a name, 256 are not: the reason is said, and others go on."""
    put(store, "d" * 255 + "/" + "f" * 255, b"x")
    for key in ("f" * 256, "d" * 256 + "/f", "é" * 128):
        with pytest.raises(StoreRefused, match="longer than the file system takes") as refusal:
            put(store, key, b"x")
        assert not isinstance(refusal.value, AccessRefused)
        assert store.head_object(key) is None
        store.delete_object(key)
    assert staged(root) == []


def test_an_object_whose_name_is_too_long_to_move_aside_stays(store: DirStore) -> None:
    """Where there is no room for both, the one that is there stays and the other is refused."""
    put(store, "f" * 250, b"there")
    with pytest.raises(StoreRefused):
        put(store, "f" * 250 + "/below", b"x")
    assert read(store, "f" * 250) == b"there"


# ---- many at once --------------------------------------------------------------------------------------


def test_objects_and_directories_of_one_name_made_at_once(store: DirStore) -> None:
    """Whoever is first: both are there in the end, with their own content."""

    def make(key: str) -> None:
        put(store, key, key.encode())

    for number in range(40):
        keys = [f"{number}", f"{number}/b", f"{number}/b/c", f"{number}/d"]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(make, keys))
        assert [read(store, key) for key in keys] == [key.encode() for key in keys]


def test_putting_and_deleting_in_one_directory_at_once(store: DirStore, root: Path) -> None:
    """A directory that is removed as empty under a put is made again; no put is lost."""

    def come_and_go(name: str) -> None:
        for _ in range(60):
            put(store, f"deep/er/{name}", b"x")
            assert read(store, f"deep/er/{name}") == b"x"
            store.delete_object(f"deep/er/{name}")

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(come_and_go, ["a", "b", "c"]))
    assert visible(root) == []


def test_a_reader_sees_one_version_or_the_other(any_store: DirStore) -> None:
    """While an object is replaced again and again, what is said of it and its bytes are never mixed up."""
    versions = [bytes([letter]) * size for letter, size in ((97, 50_000), (98, 70_000))]
    put(any_store, "file", versions[0])
    done = threading.Event()

    def write() -> None:
        for number in range(150):
            put(any_store, "file", versions[number % 2])
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    looks = 0
    while not done.is_set():
        body = any_store.get_object("file", 0, 100_000)
        info = any_store.head_object("file")
        assert body in versions
        assert info is not None
        assert info.digest in [xxhash.xxh3_128_digest(version) for version in versions]
        looks += 1
    thread.join()
    assert looks > 0


def test_no_descriptor_is_left_open(store: DirStore, root: Path) -> None:
    """Verbs that succeed and verbs that fail close what they opened."""
    (root / "link").symlink_to("/")

    def work() -> None:
        put(store, "a/b", b"x")
        read(store, "a/b")
        upload_id = store.create_multipart_upload("a", meta_of(b"x"))
        part = store.upload_part("a", upload_id, 1, b"x")
        with pytest.raises(PartsRefused):
            store.complete_multipart_upload("a", upload_id, [part, part], meta_of(b"x"))
        store.complete_multipart_upload("a", upload_id, [part], meta_of(b"x"))
        store.copy_object("a", "c", meta_of(b"x"), "")
        for key in ("link/x", "f" * 300, "f" * 300 + "/x"):
            with pytest.raises(StoreRefused):
                put(store, key, b"x")
        with pytest.raises(UploadGone):
            store.list_parts("other", upload_id)
        for key in ("a", "a/b", "c", "absent"):
            store.delete_object(key)
            store.head_object(key)

    work()
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        work()
    assert sorted(os.listdir("/proc/self/fd")) == before


# ---- is it the right directory -------------------------------------------------------------------------


def test_the_root_is_never_made(tmp_path: Path) -> None:
    """A directory that is missing may be one that is not mounted."""
    store = DirStore(DirSettings(str(tmp_path / "missing")))
    for verb in (lambda: put(store, "file", b"x"), lambda: store.head_object("file")):
        with pytest.raises(StoreUnavailable, match="not there"):
            verb()
    assert not (tmp_path / "missing").exists()


def test_a_root_that_is_a_file_is_not_there(tmp_path: Path) -> None:
    """It is no directory, but may become one."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnavailable, match="not there"):
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
    with pytest.raises(StoreUnavailable, match="another store"):
        store.head_object("file")
    with pytest.raises(StoreUnavailable, match="another store"):
        put(store, "file", b"ours")
    assert (root / "file").read_bytes() == b"theirs"


def test_an_identity_that_is_remembered_is_demanded(store: DirStore, root: Path) -> None:
    """Whoever knows the identity from an earlier process is safe from the first verb on."""
    put(store, "file", b"x")
    knowing = DirStore(DirSettings(str(root)), Instance(lambda store_id: store.instance))
    assert read(knowing, "file") == b"x"
    with pytest.raises(StoreUnavailable, match="another store"):
        DirStore(DirSettings(str(root)), Instance(lambda store_id: "0" * 32)).head_object("file")
    (root / ".syncd" / "store.json").unlink()
    with pytest.raises(StoreUnavailable, match="not mounted"):
        DirStore(DirSettings(str(root)), Instance(lambda store_id: store.instance)).head_object("file")


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
    """The marker is made once, whoever is first: threads of one store, and stores of several processes."""
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
    os.utime(staging / "half", ns=(0, MTIME_NS))  # the mtime of somebody's file says nothing
    (staging / "upload").mkdir()
    (staging / "upload" / "00001").write_bytes(b"part")
    DirStore(DirSettings(str(root))).head_object("file")
    assert sorted(staged(root)) == ["half", "upload"]
    DirStore(DirSettings(str(root)), now_ns=lambda: time.time_ns() + 2 * DAY_NS).head_object("file")
    assert staged(root) == []


# ---- what the disk can do ------------------------------------------------------------------------------


@contextmanager
def mounted(kind: str, where: Path, options: str) -> Iterator[None]:
    """A file system of its own at `where`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(kind.encode(), os.fsencode(where), kind.encode(), 0, options.encode()):
        pytest.skip(f"cannot mount {kind}: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        assert libc.umount2(os.fsencode(where), 2) == 0  # MNT_DETACH


@needs_root
def test_a_full_disk_is_said_and_left_clean(root: Path) -> None:
    """What did not fit is not there, not even in part; what was there stays; with more room, it fits."""
    with mounted("tmpfs", root, "size=1m"):
        store = DirStore(DirSettings(str(root)))
        put(store, "small", b"x" * 100_000)
        body = os.urandom(600_000)
        put(store, "filler", body)
        with pytest.raises(StoreUnavailable, match="free some space") as failure:
            put(store, "small", body)
        assert failure.value.outcome_unknown is False
        upload_id = store.create_multipart_upload("big", meta_of(body))
        with pytest.raises(StoreUnavailable, match="free some space"):
            store.upload_part("big", upload_id, 1, body)
        with pytest.raises(StoreUnavailable, match="free some space"):
            store.copy_object("filler", "copy", meta_of(body), "")
        assert store.list_parts("big", upload_id) == []
        assert visible(root) == ["filler", "small"]
        assert staged(root) == []
        assert read(store, "small") == b"x" * 100_000
        store.delete_object("filler")
        put(store, "small", body)
        assert read(store, "small") == body


@needs_root
def test_a_store_that_is_unmounted_and_comes_back(root: Path) -> None:
    """While it is away nothing is written below its mount point; when it is back, work goes on."""
    with mounted("tmpfs", root, "size=1m"):
        store = DirStore(DirSettings(str(root)))
        put(store, "file", b"x")
    with pytest.raises(StoreUnavailable, match="not mounted"):
        put(store, "file", b"y")
    assert list(root.iterdir()) == []


@needs_root
def test_a_store_that_is_read_only_says_so(root: Path) -> None:
    """Nobody's keys are to blame, and it concerns every object."""
    with mounted("tmpfs", root, "size=1m"):
        store = DirStore(DirSettings(str(root)))
        put(store, "file", b"x")
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.mount(None, os.fsencode(root), None, 32 | 1, None) == 0  # MS_REMOUNT | MS_RDONLY
        assert read(store, "file") == b"x"
        with pytest.raises(AccessRefused, match="written to") as refusal:
            put(store, "file", b"y")
        assert refusal.value.credentials is False


@needs_root
def test_another_file_system_inside_the_store_is_refused(store: DirStore, root: Path) -> None:
    """A rename cannot reach it, so an object there is refused with the reason."""
    (root / "inner").mkdir()
    with mounted("tmpfs", root / "inner", "size=1m"):
        with pytest.raises(StoreRefused, match="another file system"):
            put(store, "inner/file", b"x")
        assert list((root / "inner").iterdir()) == []
    assert staged(root) == []


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's privileges, if we have them."""
    if os.getuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_root() -> Iterator[Path]:
    """A store's directory that belongs to nobody, below directories that everybody may enter."""
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        root = Path(directory) / "mirror"
        root.mkdir()
        if os.getuid() == 0:
            os.chown(root, NOBODY, NOBODY)
        yield root
        for path in (root, root / ".syncd", root / "a"):
            path.chmod(0o700)


def test_missing_permissions_are_said(open_root: Path) -> None:
    """For the store as a whole where its own directory is shut, for one object where a directory below is."""
    store = DirStore(DirSettings(str(open_root)))
    with as_nobody():
        put(store, "a/b", b"x")
        (open_root / "a").chmod(0o500)
        with pytest.raises(StoreRefused, match="permission") as refusal:
            put(store, "a/c", b"x")
        assert not isinstance(refusal.value, AccessRefused)
        open_root.chmod(0o500)
        with pytest.raises(AccessRefused, match="permission") as shut:
            put(store, "c", b"x")
        assert shut.value.credentials is False
        assert staged(open_root) == []
        (open_root / ".syncd").chmod(0o000)
        with pytest.raises(AccessRefused, match="permission"):
            store.head_object("a/b")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_a_failing_disk_leaves_the_old_object(
    store: DirStore, root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """When the bytes cannot be made durable, they do not get the object's name."""
    put(store, "file", b"old")
    with monkeypatch.context() as patch:

        def fail(fd: int) -> None:
            raise OSError(number, os.strerror(number))

        patch.setattr(os, "fsync", fail)
        with pytest.raises(StoreUnavailable) as failure:
            put(store, "file", b"new")
        assert failure.value.outcome_unknown is True
    assert read(store, "file") == b"old"
    assert staged(root) == []


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StoreUnavailable),
        (errno.EDQUOT, StoreUnavailable),
        (errno.EIO, StoreUnavailable),
        (errno.ESTALE, StoreUnavailable),
        (errno.EMFILE, StoreUnavailable),
        (errno.ENOMEM, StoreUnavailable),
        (errno.ENOENT, StoreUnavailable),
        (errno.EROFS, AccessRefused),
        (errno.EACCES, AccessRefused),
        (errno.EPERM, AccessRefused),
        (errno.ENAMETOOLONG, StoreRefused),
        (errno.EINVAL, StoreRefused),
        (errno.EFBIG, StoreRefused),
        (errno.EXDEV, StoreRefused),
        (errno.ELOOP, StoreRefused),
        (10_000, StoreUnavailable),
    ],
)
def test_every_error_of_the_system_has_one_meaning(number: int, kind: type[StoreError]) -> None:
    """What may be tried again, what concerns one object, and what concerns the store."""
    error = dir_files.translate(OSError(number, "x"), "store the object")
    assert type(error) is kind
    if isinstance(error, AccessRefused):
        assert error.credentials is False
    assert str(error).startswith("cannot store the object: ")


# ---- durability ----------------------------------------------------------------------------------------


def test_nothing_gets_its_name_before_it_is_durable(
    any_store: DirStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes are synced before the rename, and the directory after it and before the verb returns."""
    events: list[tuple[str, int]] = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(fd: int) -> None:
        events.append(("fsync", os.fstat(fd).st_ino))
        real_fsync(fd)

    def rename(source: bytes, target: bytes, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        events.append(("rename", os.stat(source, dir_fd=src_dir_fd).st_ino))
        real_rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        events.append(("named in", os.fstat(dst_dir_fd).st_ino))

    any_store.head_object("nothing")
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    put(any_store, "new/directory/file", b"content")
    upload_id = any_store.create_multipart_upload("big", meta_of(b"x"))
    part = any_store.upload_part("big", upload_id, 1, b"x")
    any_store.complete_multipart_upload("big", upload_id, [part], meta_of(b"x"))
    any_store.copy_object("big", "copy", meta_of(b"x"), "")
    given = {os.stat(root / name).st_ino for name in ("new/directory/file", "big", "copy")}
    renamed = [inode for what, inode in events if what == "rename"]
    assert given <= set(renamed)
    for index, (what, inode) in enumerate(events):
        if what == "rename" and inode in given:
            assert ("fsync", inode) in events[:index]
        if what == "named in" and inode != (root / ".syncd" / "tmp").stat().st_ino:
            assert ("fsync", inode) in events[index:]
    for made in (root, root / "new"):
        assert ("fsync", made.stat().st_ino) in events


# ---- uploads -------------------------------------------------------------------------------------------


def test_the_list_of_parts_knows_their_digests(store: DirStore) -> None:
    """A part that was acknowledged without our record of it need not be sent again to be known."""
    upload_id = store.create_multipart_upload("big", meta_of(b""))
    store.upload_part("big", upload_id, 1, b"content")
    assert [part.digest for part in store.list_parts("big", upload_id)] == [
        xxhash.xxh3_128_digest(b"content")
    ]


def test_a_part_that_was_damaged_is_not_the_part_that_was_sent(store: DirStore, root: Path) -> None:
    """Cut off or appended to, it has another ETag, and completing with the old one is refused."""
    upload_id = store.create_multipart_upload("big", meta_of(b""))
    part = store.upload_part("big", upload_id, 1, b"content" * 100)
    path = root / ".syncd" / "uploads" / upload_id / "00001"
    whole = path.read_bytes()
    for damaged in (whole[:-5], whole + b"x", whole[:17]):
        path.write_bytes(damaged)
        assert store.list_parts("big", upload_id)[0].etag != part.etag
        with pytest.raises(PartsRefused):
            store.complete_multipart_upload("big", upload_id, [part], meta_of(b""))
    path.write_bytes(whole[:3])
    with pytest.raises(StoreUnavailable):
        store.list_parts("big", upload_id)
    assert store.head_object("big") is None
    assert store.upload_part("big", upload_id, 1, b"content" * 100).etag == part.etag
    store.complete_multipart_upload("big", upload_id, [part], meta_of(b""))


def test_what_is_no_upload_hides_none(store: DirStore, root: Path) -> None:
    """Strange things among the uploads are passed over, and those with a damaged manifest are gone."""
    good = store.create_multipart_upload("good", meta_of(b""))
    bad = store.create_multipart_upload("bad", meta_of(b""))
    uploads = root / ".syncd" / "uploads"
    (uploads / bad / "manifest.json").write_bytes(b'{"key": "bad"')
    (uploads / "README").write_bytes(b"hello")
    (uploads / ("f" * 32)).write_bytes(b"")
    (uploads / ("e" * 32)).mkdir()
    assert [upload.upload_id for upload in store.list_multipart_uploads("")] == [good]
    with pytest.raises(UploadGone):
        store.upload_part("bad", bad, 1, b"x")


def test_when_an_upload_began_is_kept(root: Path) -> None:
    """Orphans are judged by their age."""
    store = DirStore(DirSettings(str(root)), now_ns=lambda: MTIME_NS)
    store.create_multipart_upload("big", meta_of(b""))
    assert [upload.initiated_ns for upload in store.list_multipart_uploads("")] == [MTIME_NS]


@pytest.mark.parametrize("number", [errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, 0])
def test_bytes_are_copied_also_without_help_of_the_kernel(
    store: DirStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Where copy_file_range is missing, or stops after the first bytes, the rest is read and written."""
    body = os.urandom(3_000_000)
    real = os.copy_file_range

    def limited(source: int, target: int, count: int, offset_src: int) -> int:
        if offset_src > 0:
            if number:
                raise OSError(number, os.strerror(number))
            return 0
        return real(source, target, min(count, 1000), offset_src=offset_src)

    monkeypatch.setattr(os, "copy_file_range", limited)
    upload_id = store.create_multipart_upload("big", meta_of(body))
    parts = [store.upload_part("big", upload_id, n + 1, body[n << 20 : n + 1 << 20]) for n in range(3)]
    store.complete_multipart_upload("big", upload_id, parts, meta_of(body))
    assert read(store, "big") == body
    store.copy_object("big", "copy", meta_of(body), "")
    assert read(store, "copy") == body
    upload_id = store.create_multipart_upload("part", meta_of(body))
    part = store.upload_part_copy("part", upload_id, 1, "big", 5, 2_000_004, "")
    assert part.digest == xxhash.xxh3_128_digest(body[5:2_000_005])


# ---- the meter --------------------------------------------------------------------------------------------


class Told:
    """Writes down what meter and heartbeat are told, in order."""

    def __init__(self) -> None:
        self.all: list[object] = []

    def store(self, root: Path) -> DirStore:
        add = self.all.append
        return DirStore(
            DirSettings(str(root)),
            meter=Meter(lambda: add("request"), add),
            heartbeat=Heartbeat(lambda: add("rest"), lambda: add("step")),
        )


def test_a_verb_is_metered_and_its_thread_may_rest(root: Path) -> None:
    """One request, the bytes of a body before they go, no sign of life while the disk is slow."""
    told = Told()
    metered = told.store(root)
    put(metered, "a", b"12345")
    assert told.all == ["request", 5, "rest", "step"]
    told.all.clear()
    with pytest.raises(StoreRefused):
        metered.get_object("nothing", 0, 0)
    assert told.all == ["request", "rest", "step"]


def test_every_verb_is_one_request(root: Path) -> None:
    """And only bodies are bytes."""
    told = Told()
    metered = told.store(root)
    put(metered, "a", b"12345")
    metered.head_object("a")
    metered.get_object("a", 1, 2)
    metered.copy_object("a", "b", meta_of(b"12345"), "")
    upload_id = metered.create_multipart_upload("c", meta_of(b"12341234"))
    parts = [metered.upload_part("c", upload_id, 1, b"1234")]
    parts.append(metered.upload_part_copy("c", upload_id, 2, "a", 0, 3, ""))
    metered.list_parts("c", upload_id)
    list(metered.list_multipart_uploads(""))
    metered.complete_multipart_upload("c", upload_id, parts, meta_of(b"12341234"))
    metered.abort_multipart_upload("c", upload_id)
    metered.delete_object("a")
    assert told.all.count("request") == told.all.count("step") == 12
    assert [entry for entry in told.all if isinstance(entry, int)] == [5, 4]


def test_a_stop_while_bytes_are_held_back_writes_nothing(root: Path) -> None:
    """The meter slows a sender down by waiting, and a shutdown ends the wait."""

    def stopped(size: int) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        put(DirStore(DirSettings(str(root)), meter=Meter(sent=stopped)), "a", b"12345")
    assert DirStore(DirSettings(str(root))).head_object("a") is None
