"""Multipart uploads in a directory."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import xxhash

from syncd.core.errors import (
    PartsRefused,
    UploadGone,
)
from syncd.storage.digests import zeros
from syncd.storage.dir.store import DirStore
from syncd.storage.settings import DirSettings
from tests.unit.storage.dir.dir_rig import MTIME_NS, meta_of, read


def test_the_list_of_parts_knows_their_digests(store: DirStore) -> None:
    """A part that was acknowledged without our record of it need not be sent again to be known."""
    upload_id = store.create_multipart_upload("big", meta_of(b""))
    store.upload_part("big", upload_id, 1, b"content")
    assert [part.digest for part in store.list_parts("big", upload_id)] == [
        xxhash.xxh3_128_digest(b"content")
    ]


def test_a_part_that_was_damaged_is_not_the_part_that_was_sent(store: DirStore, root: Path) -> None:
    """Cut off or appended to, it has another ETag, or is not listed, as far as it goes; completing with it is
    refused, and it can be sent again."""
    upload_id = store.create_multipart_upload("big", meta_of(b""))
    part = store.upload_part("big", upload_id, 1, b"content" * 100)
    path = root / ".syncd" / "uploads" / upload_id / "00001"
    whole = path.read_bytes()
    other = store.upload_part("big", upload_id, 2, b"other")
    for damaged in (whole[:-5], whole + b"x", whole[:17], whole[:3], b""):
        path.write_bytes(damaged)
        *first, second = store.list_parts("big", upload_id)
        assert second.etag == other.etag
        assert all(each.etag != part.etag for each in first)
        with pytest.raises(PartsRefused):
            store.complete_multipart_upload("big", upload_id, [part], meta_of(b""))
    assert store.head_object("big") is None
    assert store.upload_part("big", upload_id, 1, b"content" * 100).etag == part.etag
    store.complete_multipart_upload("big", upload_id, [part], meta_of(b""))


def test_a_hole_takes_no_room_and_is_a_part_like_any(store: DirStore, root: Path) -> None:
    """Sent or copied, replaced by content or in its place, an object of it and of content is what was sent; a
    hole that is lost is a part that is missing."""
    size, content = 5 << 20, os.urandom(5 << 20)
    body = bytes(size) + content + content + bytes(size + 100)
    upload_id = store.create_multipart_upload("big", meta_of(body))
    for number, first in enumerate((content, zeros(size), zeros(size), content), 1):
        store.upload_part("big", upload_id, number, first)
    sent = [
        store.upload_part("big", upload_id, number, again)
        for number, again in enumerate((zeros(size), content, content, zeros(size), zeros(100)), 1)
    ]
    assert [(part.number, part.size, part.etag) for part in store.list_parts("big", upload_id)] == [
        (part.number, part.size, part.etag) for part in sent
    ]
    directory = root / ".syncd" / "uploads" / upload_id
    assert sum(path.stat().st_blocks * 512 for path in directory.iterdir()) < 2 * size + 100_000
    hole = directory / "00004.hole"
    hole.rename(root / "lost")
    with pytest.raises(PartsRefused, match="part 4 is missing"):
        store.complete_multipart_upload("big", upload_id, sent, meta_of(body))
    (root / "lost").rename(hole)
    os.truncate(hole, 0)  # as after a loss of power
    assert [part.size for part in store.list_parts("big", upload_id)] == [size, size, size, 0, 100]
    with pytest.raises(PartsRefused, match="part 4"):
        store.complete_multipart_upload("big", upload_id, sent, meta_of(body))
    assert store.upload_part("big", upload_id, 4, zeros(size)) == sent[3]
    receipt = store.complete_multipart_upload("big", upload_id, sent, meta_of(body))
    assert read(store, "big") == body
    assert (root / "big").stat().st_blocks * 512 < 2 * size + 100_000

    upload_id = store.create_multipart_upload("copy", meta_of(body))
    copied = [
        store.upload_part_copy("copy", upload_id, number, "big", first, min(first + size, len(body)) - 1, "")
        for number, first in enumerate(range(0, len(body), size), 1)
    ]
    assert [part.etag for part in copied] == [part.etag for part in sent]
    assert [part.digest for part in copied] == [bytes.fromhex(part.etag) for part in sent]
    copy = store.complete_multipart_upload("copy", upload_id, copied, meta_of(body))
    assert (copy.etag, read(store, "copy")) == (receipt.etag, body)


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
