"""What only the `dir` store has: a directory that people see, change, unmount, fill up and booby-trap."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import xxhash
from msgspec.structs import replace

from syncd.core.errors import (
    PartsRefused,
    PreconditionFailed,
    Stopped,
    StoreRefused,
    UploadGone,
)
from syncd.core.model import ObjectMeta
from syncd.storage.base import Heartbeat, Meter
from syncd.storage.dir import store as dir_store
from syncd.storage.dir.store import DirStore
from syncd.storage.settings import DirSettings
from tests.support.odd_file_system import Oddities, odd
from tests.unit.storage.dir.dir_rig import MTIME_NS, meta_of, put, read, staged, visible


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
    """What is unfinished, and who began it, is shown to no other."""
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
    assert visible(root) == ["a"]
    assert read(store, "a") == b"one"
    put(store, "a", b"two")
    assert visible(root) == ["a"]
    assert read(store, "a") == b"two"


def test_objects_and_directories_of_one_name_made_at_once(store: DirStore) -> None:
    """Whichever is first: both are there in the end, with their own content."""

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
        body = any_store.get_object("file", 0, 100_000).body
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
        put(store, "a/b" + "f" * 247, b"too long to move aside")
        put(store, "f" * 300 + "/x", b"x")
        read(store, "a/b")
        upload_id = store.create_multipart_upload("a", meta_of(b"x"))
        part = store.upload_part("a", upload_id, 1, b"x")
        with pytest.raises(PartsRefused):
            store.complete_multipart_upload("a", upload_id, [part, part], meta_of(b"x"))
        store.complete_multipart_upload("a", upload_id, [part], meta_of(b"x"))
        store.copy_object("a", "c", meta_of(b"x"), "")
        for key in ("link/x", "a/b" + "f" * 247 + "/x", "a//x"):
            with pytest.raises(StoreRefused):
                put(store, key, b"x")
        with pytest.raises(UploadGone):
            store.list_parts("other", upload_id)
        _rot(root / "c", 0)
        with pytest.raises(PreconditionFailed):
            store.copy_object("c", "d", meta_of(b"x"), "")
        for key in ("a", "a/b", "c", "absent"):
            store.delete_object(key)
            store.head_object(key)

    work()
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        work()
    assert sorted(os.listdir("/proc/self/fd")) == before


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


# ---- permissions ----------------------------------------------------------------------------------------


@pytest.fixture(params=[0o000, 0o022, 0o027, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def _put_whole(store: DirStore, body: bytes, meta: ObjectMeta) -> None:
    store.put_object("a/b", body, meta)


def _put_copy(store: DirStore, body: bytes, meta: ObjectMeta) -> None:
    store.put_object("public", body, replace(meta, mode=0o666))
    store.copy_object("public", "a/b", meta, "")


def _put_parts(store: DirStore, body: bytes, meta: ObjectMeta) -> None:
    upload = store.create_multipart_upload("a/b", replace(meta, mode=0o666))
    part = store.upload_part("a/b", upload, 1, body)
    store.complete_multipart_upload("a/b", upload, [part], meta)


@pytest.mark.parametrize("mode", [0o000, 0o400, 0o600, 0o640, 0o644, 0o664, 0o666, 0o755, 0o4777])
@pytest.mark.parametrize("carry", [_put_whole, _put_copy, _put_parts])
def test_an_object_has_no_permission_for_others_that_its_file_does_not_have(
    any_store: DirStore,
    root: Path,
    umask: int,
    mode: int,
    carry: Callable[[DirStore, bytes, ObjectMeta], None],
) -> None:
    created: list[int] = []
    opened = os.open

    def noted(path: bytes, flags: int, given: int = 0o777, **more: int) -> int:
        if flags & os.O_CREAT:
            created.append(given)
        return opened(path, flags, given, **more)

    with pytest.MonkeyPatch.context() as patch:
        any_store.put_object("old", b"", meta_of(b""))
        patch.setattr(os, "open", noted)
        carry(any_store, b"secret", replace(meta_of(b"secret"), mode=mode))
    assert stat.S_IMODE((root / "a/b").stat().st_mode) == 0o600 | mode & 0o066 & ~umask
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o777 & ~umask
    assert not any(given & 0o077 & ~mode for given in created[-1:])  # from its first moment
    assert not any(path.stat().st_mode & 0o077 for path in (root / ".syncd").rglob("*"))


@pytest.fixture
def open_mount() -> Iterator[Path]:
    """A file system without permissions, to which a way leads for everybody."""
    with tempfile.TemporaryDirectory() as above:
        os.chmod(above, 0o755)
        with odd(Path(above) / "mnt", Oddities(modes=False, attributes=False)) as at:
            yield at


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o604, 0o644])
def test_a_private_file_is_refused_where_all_can_read(open_mount: Path, mode: int) -> None:
    """Nor do parts of it lie there. A file that all may read is stored."""
    store = DirStore(DirSettings(str(open_mount)))
    meta = replace(meta_of(b"secret"), mode=mode)
    if mode == 0o644:
        store.put_object("a", b"secret", meta)
        assert read(store, "a") == b"secret"
        store.abort_multipart_upload("a", store.create_multipart_upload("a", meta))
        return
    for verb in (
        lambda: store.put_object("a", b"secret", meta),
        lambda: store.create_multipart_upload("a", meta),
    ):
        with pytest.raises(StoreRefused, match=r"other users read this private file.*umask=077"):
            verb()
    assert visible(open_mount) == []
    assert staged(open_mount) == []


def test_the_operator_hears_that_private_files_fail(open_mount: Path) -> None:
    """Before the first one does; on an ordinary file system there is nothing to say."""
    remarks = DirStore(DirSettings(str(open_mount))).remarks()
    assert ["umask=077" in remark for remark in remarks] == [True]
    assert staged(open_mount) == []
    os.chmod(open_mount.parent, 0o700)
    assert DirStore(DirSettings(str(open_mount))).remarks() == []


@pytest.mark.parametrize("closed", ["", "."])
def test_a_closed_directory_above_is_enough(open_mount: Path, closed: str) -> None:
    """Wherever it is."""
    os.chmod(open_mount.parent, 0o700)
    store = DirStore(DirSettings(str(open_mount / closed)))
    put(store, "a", b"secret")
    assert read(store, "a") == b"secret"


@pytest.mark.parametrize(
    ("mode", "expected"), [(0o640, 0o600), (0o644, 0o644), (0o604, 0o600), (0o664, 0o644)]
)
def test_another_group_gets_no_more_than_all(
    store: DirStore, root: Path, umask: int, mode: int, expected: int
) -> None:
    """The store's directory gives its own group to what is made in it: that one has other members."""
    os.chown(root, -1, 12345)
    os.chmod(root, 0o2755)
    store.put_object("a", b"x", replace(meta_of(b"x"), mode=mode))
    found = (root / "a").stat()
    assert found.st_gid == 12345
    assert stat.S_IMODE(found.st_mode) == expected & ~umask


# ---- rot ------------------------------------------------------------------------------------------------


def _rot(path: Path, at: int) -> None:
    """Change one byte, and neither size nor times."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _put_in_parts(store: DirStore, key: str, body: bytes) -> None:
    upload, half = store.create_multipart_upload(key, meta_of(body)), len(body) // 2
    parts = [store.upload_part(key, upload, 1, body[:half]), store.upload_part(key, upload, 2, body[half:])]
    store.complete_multipart_upload(key, upload, parts, meta_of(body))


@pytest.mark.parametrize("share", [True, False], ids=["kernel", "read-and-write"])
@pytest.mark.parametrize("at", [0, 4096, 9_999])
@pytest.mark.parametrize("carry", [put, _put_in_parts])
def test_rot_is_not_copied(
    any_store: DirStore,
    root: Path,
    carry: Callable[[DirStore, str, bytes], object],
    at: int,
    share: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not share:
        monkeypatch.setattr(os, "copy_file_range", lambda *_, **__: 0)
    body = os.urandom(10_000)
    carry(any_store, "good", body)
    info = any_store.head_object("good")
    assert info is not None
    any_store.copy_object("good", "copy", meta_of(body), info.etag)
    assert read(any_store, "copy") == body
    _rot(root / "good", at)
    with pytest.raises(PreconditionFailed, match="damaged"):
        any_store.copy_object("good", "copy of rot", meta_of(body), info.etag)
    assert visible(root) == ["copy", "good"]
    assert staged(root) == []


def test_a_copied_part_is_named_by_what_it_holds(any_store: DirStore, root: Path) -> None:
    """So that the caller sees that it is not what was wanted."""
    body = os.urandom(8000)
    put(any_store, "good", body)
    _rot(root / "good", 5000)
    info = any_store.head_object("good")
    assert info is not None
    upload = any_store.create_multipart_upload("new", meta_of(body))
    part = any_store.upload_part_copy("new", upload, 1, "good", 4000, 7999, info.etag)
    held = (root / "good").read_bytes()[4000:]
    assert part.digest == xxhash.xxh3_128_digest(held) != xxhash.xxh3_128_digest(body[4000:])


def test_a_part_that_rotted_is_not_joined(any_store: DirStore, root: Path) -> None:
    body = os.urandom(8000)
    upload = any_store.create_multipart_upload("new", meta_of(body))
    parts = [any_store.upload_part("new", upload, n + 1, body[n * 4000 : n * 4000 + 4000]) for n in range(2)]
    _rot(root / ".syncd" / "uploads" / upload / "00002", 17)
    with pytest.raises(PartsRefused, match="part 2 is damaged"):
        any_store.complete_multipart_upload("new", upload, parts, meta_of(body))
    assert visible(root) == []
    parts[1] = any_store.upload_part("new", upload, 2, body[4000:])
    any_store.complete_multipart_upload("new", upload, parts, meta_of(body))
    assert read(any_store, "new") == body


def test_a_range_of_a_file_without_a_record_is_given_without_hashing_it(store: DirStore, root: Path) -> None:
    """What another program put there has no ETag for a range; a request for one by its ETag is refused."""
    put(store, "ours", b"0123456789")
    (root / "theirs").write_bytes(b"abcdefghij")
    (root / "theirs").chmod(0o640)
    info = store.get_object("theirs", 2, 4).info
    assert (info.size, info.etag, info.digest, info.foreign, info.mode) == (10, "", None, True, 0o640)
    head = store.head_object("theirs")
    assert head is not None
    assert head.mode == 0o640
    with pytest.raises(PreconditionFailed):
        store.get_object("theirs", 2, 4, head.etag)
    etag = store.get_object("ours", 0, 0).info.etag
    (root / "ours").write_bytes(b"9876543210")
    with pytest.raises(PreconditionFailed):
        store.get_object("ours", 0, 4, etag)
    assert store.get_object("ours", 0, 4).body == b"98765"


def test_the_mode_of_a_file_comes_back(store: DirStore) -> None:
    """With HEAD and with the content, as it was recorded."""
    store.put_object("a", b"x", replace(meta_of(b"x"), mode=0o751))
    head = store.head_object("a")
    assert head is not None
    assert (head.mode, store.get_object("a", 0, 0).info.mode) == (0o751, 0o751)


@pytest.mark.parametrize(
    ("size", "allocated", "shares", "fits"),
    [
        (0.0, 0, False, True),
        (0.4, -1, False, True),
        (0.7, -1, False, False),
        (0.7, -1, True, True),
        (2.0, -1, True, False),
        (2.0, 4096, False, True),
    ],
)
def test_a_file_that_cannot_fit_is_refused_before_its_first_part(
    store: DirStore,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: float,
    allocated: int,
    *,
    shares: bool,
    fits: bool,
) -> None:
    """It would only fill the disk, in parts or when they are joined, unless the two share their blocks. What
    counts is what it takes up: holes stay holes in the store.
    """
    monkeypatch.setattr(dir_store, "_shares_blocks", lambda store: shares)
    put(store, "a", b"")
    disk = os.statvfs(root)
    meta = meta_of(b"")
    meta = replace(
        meta,
        fingerprint=meta.fingerprint._replace(size=int(disk.f_bavail * disk.f_frsize * size)),
        allocated=allocated if allocated >= 0 else None,
    )
    if fits:
        store.create_multipart_upload("big", meta)
        return
    with pytest.raises(StoreRefused, match="left") as refused:
        store.create_multipart_upload("big", meta)
    assert refused.value.code == "ENOSPC"
    assert list(store.list_multipart_uploads("")) == []


def test_whether_copies_share_blocks_is_asked(store: DirStore, root: Path) -> None:
    """With files that do not stay; on this file system the answer is the one of `cp --reflink`."""
    put(store, "a", b"")
    (root / "b").write_bytes(b"b")
    copied = subprocess.run(
        ["cp", "--reflink=always", str(root / "b"), str(root / "c")], capture_output=True, check=False
    )
    with store._opened("ask") as opened:
        assert dir_store._shares_blocks(opened) is (copied.returncode == 0)
    assert list((root / ".syncd/tmp").iterdir()) == []
