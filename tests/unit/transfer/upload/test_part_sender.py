"""The parts of one upload: which are there, and how the others are sent."""

from __future__ import annotations

import hashlib
import mmap
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.core.errors import (
    FileChanged,
    FilePaused,
    PartCorrupt,
    StoreRefused,
    StoreUnavailable,
)
from syncd.core.model import FileRef
from syncd.sources import mounts
from syncd.sources.files import OpenFile
from tests.support.faults import Call
from tests.support.rig import PART, Rig
from tests.support.store import SMALL_LIMITS, FakeStore
from tests.unit.transfer.multipart import CONTENT, PARTS, interrupted, sent_parts


def test_parts_go_in_parallel_within_the_bound(tmp_path: Path) -> None:
    """As many parts as allowed are in flight together, and never more."""
    rig = Rig(tmp_path, concurrency=3)
    together = threading.Barrier(3, timeout=20)
    rig.fake.before("upload_part", lambda call: together.wait() if call.nth <= 6 else None)
    rig.write("big", CONTENT)

    rig.sync("big")

    assert rig.fake.max_in_flight == 3
    rig.close()


def test_memory_is_bounded_but_a_part_larger_than_the_bound_still_goes(tmp_path: Path) -> None:
    """With room for two parts only two are held; with room for less than one, one goes after the other."""
    for allowance, most in ((2 * PART, 2 * PART), (PART // 2, PART)):
        rig = Rig(tmp_path / str(allowance) if (tmp_path / str(allowance)).mkdir() is None else tmp_path)
        rig.plain(memory_limit=allowance)
        rig.restart()
        rig.write("big", CONTENT)
        rig.sync("big")
        assert rig.fake.objects["p/big"].data == CONTENT
        assert rig.fake.max_bytes_in_flight <= most
        rig.close()


def test_resume_pages_through_the_list_of_parts(tmp_path: Path) -> None:
    """More parts than one page of the list are all recognised."""
    rig = Rig(tmp_path, store=FakeStore(SMALL_LIMITS, page_size=2))
    interrupted(rig, after=7)
    rig.restart()

    rig.sync("big")

    assert sent_parts(rig.fake) == [8]
    rig.close()


def test_parts_one_and_three_without_two_give_the_right_object(rig: Rig) -> None:
    """Offsets come from part numbers and the recorded part size, never from a running sum."""
    interrupted(rig, after=3)
    (upload,) = rig.fake.uploads.values()
    for number in set(upload.parts) - {1, 3}:
        del upload.parts[number]
    rig.restart()

    rig.sync("big")

    assert 2 in sent_parts(rig.fake)
    assert rig.fake.objects["p/big"].data == CONTENT


def test_a_part_that_was_sent_but_not_recorded_is_known_by_its_md5(tmp_path: Path) -> None:
    """We died between answer and record: the ETag is the MD5 of the local bytes, so the part is kept."""

    class Amnesia:
        """A state that dies at the first part that it should remember."""

        def __init__(self, state: object) -> None:
            self._state = state

        def __getattr__(self, name: str) -> object:
            if name == "add_part":
                return self._die
            found = getattr(self._state, name)
            return Amnesia(found) if name == "checkpoints" else found

        def _die(self, *args: object) -> None:
            raise KeyboardInterrupt

    rig = Rig(tmp_path, concurrency=1, wrap_state=Amnesia)
    rig.write("big", CONTENT)
    with pytest.raises(KeyboardInterrupt):
        rig.sync("big")
    there = {number for upload in rig.fake.uploads.values() for number in upload.parts}
    assert there
    rig.fake.reset_counters()
    rig.restart()

    rig.sync("big")

    assert not there & set(sent_parts(rig.fake))
    assert rig.fake.objects["p/big"].data == CONTENT
    rig.close()


def test_a_foreign_part_is_not_trusted(rig: Rig) -> None:
    """A part that the store lists with another ETag than ours is sent again."""
    interrupted(rig, after=3)
    (upload,) = rig.fake.uploads.values()
    first = upload.parts[1]
    first.data = b"XXXXXXXX"
    first.etag = hashlib.md5(first.data).hexdigest()
    rig.restart()

    rig.sync("big")

    assert 1 in sent_parts(rig.fake)
    assert rig.fake.objects["p/big"].data == CONTENT


def test_a_lost_answer_to_a_part_sends_it_again_under_its_number(rig: Rig) -> None:
    """Sending the same number again replaces; the object is right."""
    rig.write("big", CONTENT)
    rig.fake.lose_answer("upload_part", when=lambda call: call.number == 2)
    with pytest.raises(StoreUnavailable):
        rig.sync("big")

    rig.sync("big")

    assert rig.fake.objects["p/big"].data == CONTENT


def test_a_server_that_refuses_a_part_it_has_is_asked_for_its_list(rig: Rig) -> None:
    """One server answers 501 when a part is sent again: the listed part with our MD5 is ours."""
    interrupted(rig, after=0)
    rig.fake.fail("upload_part", StoreRefused("no", status=501, code="NotImplemented"), after_effect=True)

    rig.sync("big")

    assert rig.fake.objects["p/big"].data == CONTENT


def test_etags_are_opaque(tmp_path: Path) -> None:
    """A store whose ETags are the MD5 of nothing works, resume included."""
    rig = Rig(tmp_path, store=FakeStore(SMALL_LIMITS, random_etags=True))
    interrupted(rig, after=3)
    kept = {number for upload in rig.fake.uploads.values() for number in upload.parts}
    rig.restart()

    rig.sync("big")

    assert set(sent_parts(rig.fake)) == set(range(1, PARTS + 1)) - kept
    assert rig.fake.objects["p/big"].data == CONTENT
    rig.close()


def test_a_corrupt_part_reaches_the_caller_and_the_next_try_succeeds(rig: Rig) -> None:
    """A digest that the store refused is an error of one request; the upload goes on from there."""
    rig.write("big", CONTENT)
    rig.fake.fail("upload_part", PartCorrupt("BadDigest"), when=lambda call: call.number == 4)
    with pytest.raises(PartCorrupt):
        rig.sync("big")

    rig.sync("big")

    assert rig.fake.objects["p/big"].data == CONTENT


def test_a_pause_stops_an_upload_between_two_parts_and_loses_none(tmp_path: Path) -> None:
    """What the store has stays there; the upload continues when the pause is over."""
    rig = Rig(tmp_path, concurrency=1)
    held: list[FileRef] = []
    rig.progress.is_held = lambda ref: ref in held
    rig.fake.before("upload_part", lambda call: held.append(rig.ref("big")) if call.nth == 3 else None)
    rig.write("big", CONTENT)

    with pytest.raises(FilePaused):
        rig.sync("big")

    assert sent_parts(rig.fake) == [1, 2, 3]
    held.clear()
    rig.sync("big")
    assert sorted(sent_parts(rig.fake)) == list(range(1, PARTS + 1))
    assert rig.fake.objects["p/big"].data == CONTENT
    rig.close()


# ---- holes ------------------------------------------------------------------------------------------------

BLOCK = 64 << 10
SPARSE = {5: b"written", 12: b"as well"}
"""What is in a file of 18 blocks and a bit, and in which of them."""
SPARSE_SIZE = 18 * BLOCK + 100


@pytest.fixture
def sparse(tmp_path: Path) -> Iterator[Rig]:
    """A file of holes and two blocks with content, to be sent in parts of a block."""
    limits = replace(SMALL_LIMITS, max_part_size=BLOCK)
    rig = Rig(tmp_path, store=FakeStore(limits), part_size=BLOCK, concurrency=1)
    if mounts.type_of(tmp_path.stat().st_dev) not in ("ext4", "tmpfs", "xfs"):
        rig.close()
        pytest.skip("the file system is not believed about holes")
    with (rig.folder / "big").open("wb") as file:
        file.truncate(SPARSE_SIZE)
        for block, text in SPARSE.items():
            os.pwrite(file.fileno(), text, block * BLOCK)
    yield rig
    rig.close()


def test_of_a_sparse_file_only_what_was_written_is_read(sparse: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for its fingerprint, and once to be sent."""
    reads: list[int] = []
    plain = OpenFile.read_into

    def read_into(self: OpenFile, offset: int, view: memoryview) -> None:
        reads.append(offset // BLOCK)
        plain(self, offset, view)

    monkeypatch.setattr(OpenFile, "read_into", read_into)
    content = (sparse.folder / "big").read_bytes()

    sparse.sync("big")

    assert sparse.fake.objects["p/big"].data == content
    assert len(sent_parts(sparse.fake)) == 19
    assert reads == [5, 12, 5, 12]


@pytest.mark.parametrize("verb", ["create_multipart_upload", "upload_part"])
@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("block", [0, 3, 17])
def test_a_hole_that_is_filled_while_it_is_sent_is_a_change(
    sparse: Rig, verb: str, mapped: bool, block: int
) -> None:
    """Whether its part was sent already or not: nothing is made of two states of the file."""

    def fill(call: Call) -> None:
        if call.nth != 2 - (verb == "create_multipart_upload"):
            return
        with (sparse.folder / "big").open("r+b") as file:
            if not mapped:
                os.pwrite(file.fileno(), b"new", block * BLOCK)
                return
            with mmap.mmap(file.fileno(), SPARSE_SIZE) as memory:
                memory[block * BLOCK : block * BLOCK + 3] = b"new"

    sparse.fake.before(verb, fill)
    with pytest.raises(FileChanged):
        sparse.sync("big")
    assert sparse.fake.objects == {}

    sparse.sync("big")
    assert sparse.fake.objects["p/big"].data == (sparse.folder / "big").read_bytes()
    assert sparse.fake.objects["p/big"].data.count(b"new") == 1
