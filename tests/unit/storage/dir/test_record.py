"""Records of objects: what was changed by hand is not ours."""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import xxhash
from msgspec.structs import replace

from syncd.core.errors import (
    PreconditionFailed,
)
from syncd.core.model import Attributes
from syncd.storage.dir.store import DirStore
from tests.unit.storage.dir.dir_rig import MTIME_NS, meta_of, put, read


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
    """Digest, size and ETag are those of the bytes that are there; token and writer are gone."""
    etag = put(any_store, "file", b"Content")
    change(root / "file")
    info = any_store.head_object("file")
    assert info is not None
    assert (info.etag == etag, info.token, info.instance) == (False, None, None)
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


def test_what_other_programs_attached_stays_in_a_copy_onto_itself(store: DirStore, root: Path) -> None:
    """Not what syncd had attached itself: that is as it is given now. Other copies have neither."""
    path, names = root / "file", (("user.new", b"1"),)
    path.write_bytes(b"content")
    os.setxattr(path, "user.theirs", b"kept")
    for attributes in (Attributes(xattrs=(("user.old", b"1"),)), Attributes(xattrs=names)):
        info = store.head_object("file")
        assert info is not None
        store.copy_object("file", "file", replace(meta_of(b"content"), attributes=attributes), info.etag)
    assert os.getxattr(path, "user.theirs") == b"kept"
    assert {*os.listxattr(path)} == {"user.theirs", "user.new", "user.syncd"}
    store.copy_object("file", "copy", meta_of(b"content"), info.etag)
    assert os.listxattr(root / "copy") == ["user.syncd"]


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


def test_a_copy_has_what_may_be_seen_of_the_attributes(store: DirStore, root: Path) -> None:
    """No owner, who could change copy and record alike, and no setuid: that would be about us."""
    wanted = Attributes(
        0o6755, 4242, 4243, "alice", xattrs=(("security.capability", b"x"), ("user.colour", b"red"))
    )
    meta = replace(meta_of(b"#!"), mode=0o755, attributes=wanted)
    store.put_object("file", b"#!", meta)
    path = root / "file"
    found = path.stat()
    assert (found.st_uid, modes.S_IMODE(found.st_mode) & 0o7711) == (os.geteuid(), 0o711)
    assert os.getxattr(path, "user.colour") == b"red"
    assert "security.capability" not in os.listxattr(path)
    info = store.head_object("file")
    assert info is not None
    assert info.attributes == wanted


def test_who_may_not_read_a_copy_may_not_execute_it(store: DirStore, root: Path) -> None:
    """The folders above the original were closed."""
    store.put_object("file", b"#!", replace(meta_of(b"#!"), mode=0o700, attributes=Attributes(0o755)))
    assert modes.S_IMODE((root / "file").stat().st_mode) == 0o700


def test_attributes_that_fill_the_inode_lie_beside_the_object(any_store: DirStore) -> None:
    """ext4 takes 4 KiB of them in all."""
    most = Attributes(0o644, xattrs=tuple((f"user.{name}", bytes(3000)) for name in "abcd"))
    any_store.put_object("file", b"x", replace(meta_of(b"x"), attributes=most))
    info = any_store.head_object("file")
    assert info is not None
    assert (info.attributes, info.foreign) == (most, False)
