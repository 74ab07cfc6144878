"""What the disk can do, and what its errors mean."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.errors import (
    AccessRefused,
    QuotaExceeded,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)
from syncd.storage.dir import files as dir_files
from syncd.storage.dir.store import DirStore
from syncd.storage.settings import DirSettings
from tests.unit.storage.dir.dir_rig import meta_of, put, read, staged, visible

NOBODY = 65534
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="mounting a file system takes root")


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
        with pytest.raises(QuotaExceeded, match="free some space"):
            put(store, "small", body)
        with pytest.raises(StoreRefused, match="free some space"):
            store.create_multipart_upload("big", meta_of(body))
        upload_id = store.create_multipart_upload("big", meta_of(b"believed to be small"))
        with pytest.raises(QuotaExceeded, match="free some space"):
            store.upload_part("big", upload_id, 1, body)
        with pytest.raises(StoreRefused, match="free some space"):
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
    """No keys are to blame, and it concerns every object."""
    with mounted("tmpfs", root, "size=1m"):
        store = DirStore(DirSettings(str(root)))
        put(store, "file", b"x")
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.mount(None, os.fsencode(root), None, 32 | 1, None) == 0  # MS_REMOUNT | MS_RDONLY
        assert read(store, "file") == b"x"
        with pytest.raises(AccessRefused, match="mount it read-write") as refusal:
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
    """A store's directory of the user `nobody`, below directories that all users may enter."""
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
        (errno.ENOSPC, QuotaExceeded),
        (errno.EDQUOT, QuotaExceeded),
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


# ---- holes ----------------------------------------------------------------------------------------------

BLOCK = 4096
blocks = st.lists(
    st.sampled_from([bytes(BLOCK), b"x" * BLOCK, b"\0" * (BLOCK - 1) + b"x", b"x" + b"\0" * (BLOCK - 1)]),
    max_size=9,
)
tails = st.sampled_from([b"", b"\0", b"y", bytes(BLOCK - 1)])


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with TemporaryDirectory() as directory:
        yield Path(directory)


@contextmanager
def new_file(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


@given(blocks, tails, st.integers(0, 3))
def test_what_is_written_with_holes_reads_the_same(
    place: Path, blocks: list[bytes], tail: bytes, before: int
) -> None:
    body = b"".join(blocks) + tail
    with new_file(place / "sparse") as fd:
        dir_files.write_whole(fd, b"b" * before)
        dir_files.write_sparse(fd, memoryview(body))
        dir_files.write_whole(fd, b"end")
    assert (place / "sparse").read_bytes() == b"b" * before + body + b"end"


@given(blocks, tails)
def test_a_block_of_zeros_takes_no_space(place: Path, blocks: list[bytes], tail: bytes) -> None:
    with new_file(place / "sparse") as fd:
        dir_files.write_sparse(fd, b"".join(blocks) + tail)
        os.fsync(fd)
        taken = os.fstat(fd).st_blocks * 512
        assert os.fstat(fd).st_size == len(blocks) * BLOCK + len(tail)
    # ext4 counts the block in which it lists more than four extents.
    assert taken <= (sum(any(block) for block in blocks) + bool(tail) + 1) * BLOCK


@given(blocks, tails, st.data(), st.sampled_from(["kernel", "read and write", "no holes known"]))
def test_a_copy_of_any_range_is_that_range_and_has_its_holes(
    place: Path, blocks: list[bytes], tail: bytes, data: st.DataObject, way: str
) -> None:
    body = b"".join(blocks) + tail
    first = data.draw(st.integers(0, len(body)))
    last = data.draw(st.integers(first, len(body)))
    seek = os.lseek

    def no_holes(fd: int, offset: int, how: int) -> int:
        if how in (os.SEEK_DATA, os.SEEK_HOLE):
            raise OSError(errno.EINVAL, "")
        return seek(fd, offset, how)

    with (
        pytest.MonkeyPatch.context() as patch,
        new_file(place / "from") as source,
        new_file(place / "to") as target,
    ):
        if way == "read and write":
            patch.setattr(os, "copy_file_range", lambda *_, **__: 0)
        if way == "no holes known":
            patch.setattr(os, "lseek", no_holes)
        dir_files.write_sparse(source, body)
        dir_files.write_whole(target, b"before")
        dir_files.copy_range(source, first, target, last - first)
        dir_files.write_whole(target, b"end")
    assert (place / "to").read_bytes() == b"before" + body[first:last] + b"end"


def test_a_source_that_ends_in_a_hole_too_soon_is_noticed(tmp_path: Path) -> None:
    with new_file(tmp_path / "from") as source, new_file(tmp_path / "to") as target:
        os.ftruncate(source, 10_000)
        with pytest.raises(StoreUnavailable, match="shorter"):
            dir_files.copy_range(source, 0, target, 10_001)


def test_a_sparse_object_stays_sparse_however_it_comes(any_store: DirStore, root: Path) -> None:
    part = bytes(1 << 20) + b"x" * BLOCK + bytes(1 << 20)
    put(any_store, "put", part)
    any_store.copy_object("put", "copied", meta_of(part), "")
    whole = part + part
    upload = any_store.create_multipart_upload("parts", meta_of(whole))
    sent = any_store.upload_part("parts", upload, 1, part)
    copied = any_store.upload_part_copy("parts", upload, 2, "put", 0, len(part) - 1, "")
    any_store.complete_multipart_upload("parts", upload, [sent, copied], meta_of(whole))
    for name, body in (("put", part), ("copied", part), ("parts", whole)):
        assert read(any_store, name) == body
        assert (root / name).stat().st_blocks * 512 <= 8 * BLOCK
