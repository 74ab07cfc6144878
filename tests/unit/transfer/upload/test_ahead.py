"""Tests for sending a large new file before its fingerprint is known: what it costs, what it must not do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.core.errors import FileChanged, StoreRefused, StoreUnavailable
from syncd.sources.files import OpenFile
from syncd.sources.fingerprint import of_bytes
from syncd.transfer.reuse import Listing
from tests.support.faults import Call
from tests.support.rig import PART, Rig
from tests.support.store import SMALL_LIMITS, FakeStore
from tests.unit.transfer.multipart import CONTENT, PARTS, interrupted, sent_parts

LIMITS = replace(SMALL_LIMITS, completes_with_meta=True)
OTHER = CONTENT[::-1]
KEY = "p/big"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A store that takes the metadata of an object with its completion."""
    rig = Rig(tmp_path, store=FakeStore(LIMITS))
    yield rig
    rig.close()


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Offset and size of all that is read of files from now on."""
    found: list[tuple[int, int]] = []
    plain = OpenFile.read_into

    def read_into(self: OpenFile, offset: int, view: memoryview) -> None:
        found.append((offset, len(view)))
        plain(self, offset, view)

    monkeypatch.setattr(OpenFile, "read_into", read_into)
    return found


def read_before_first_part(rig: Rig, readings: list[tuple[int, int]]) -> list[int]:
    """How many bytes were read before the first part was sent."""
    found: list[int] = []
    rig.fake.before("upload_part", lambda call: found.append(sum(size for _, size in readings)))
    return found


def test_parts_go_out_as_they_are_read(rig: Rig, readings: list[tuple[int, int]]) -> None:
    """The first part goes before the second is read; all is read twice; no request more than ever."""
    rig.plain(concurrency=1)
    rig.restart()
    read = read_before_first_part(rig, readings)
    ref = rig.write("big", CONTENT)

    outcome = rig.sync("big")

    assert read[0] == PART
    assert sum(size for _, size in readings) == 2 * len(CONTENT)
    assert rig.fake.objects[KEY].data == CONTENT
    assert rig.fake.objects[KEY].meta.fingerprint == of_bytes(CONTENT)
    assert rig.fake.calls == {
        "create_multipart_upload": 1,
        "upload_part": PARTS,
        "complete_multipart_upload": 1,
    }
    assert (outcome.bytes_sent, outcome.saved) == (len(CONTENT), {})
    recorded = rig.state.recorded(ref)
    assert recorded is not None
    assert recorded.fingerprint == of_bytes(CONTENT)
    grid = rig.state.part_digests(ref)
    rig.write("twin", CONTENT)
    rig.sync("twin")
    rig.state.flush()
    assert rig.state.part_digests(rig.ref("twin")) == grid, "as where the fingerprint comes first"


def listing(rig: Rig) -> Listing:
    return Listing(rig.store.list_objects("p/"), rig.slots.heartbeat, time.monotonic)


def _same_size(rig: Rig) -> None:
    rig.write("other", OTHER)
    rig.sync("other")


def _kept_object(rig: Rig) -> None:
    _same_size(rig)
    (rig.folder / "other").unlink()
    rig.sync("other")


def _record(rig: Rig) -> None:
    rig.write("big", OTHER + b"longer")
    rig.sync("big")


def _lost_records(rig: Rig) -> None:
    rig.know(reconciling=True)


def _listed_object(rig: Rig) -> None:
    rig.fake.without_metadata(KEY, OTHER)
    rig.know(reconciling=True, listing=listing(rig))


def _unfinished(rig: Rig) -> None:
    interrupted(rig, after=0)


@pytest.mark.parametrize(
    "prepare",
    [_same_size, _kept_object, _record, _lost_records, _listed_object, _unfinished],
    ids=lambda each: each.__name__[1:],
)
def test_what_may_spare_sending_is_asked_first(
    rig: Rig, readings: list[tuple[int, int]], prepare: Callable[[Rig], None]
) -> None:
    """A record, content of this size, an object that may be there, an upload that goes on: the fingerprint
    comes first."""
    prepare(rig)
    rig.write("big", CONTENT)
    readings.clear()
    read = read_before_first_part(rig, readings)

    rig.sync("big")

    assert read[0] >= len(CONTENT)
    assert rig.fake.objects[KEY].data == CONTENT


def test_a_listing_without_the_key_is_enough(rig: Rig, readings: list[tuple[int, int]]) -> None:
    """In the first pass of all, which compares the folder with the store."""
    rig.know(reconciling=True, listing=listing(rig))
    read = read_before_first_part(rig, readings)
    rig.write("big", CONTENT)

    rig.sync("big")

    assert read[0] < len(CONTENT)
    assert rig.fake.calls["head_object"] == 0


@pytest.mark.parametrize("content", [CONTENT[: 3 * PART], CONTENT], ids=["few parts", "early metadata"])
def test_elsewhere_the_fingerprint_comes_first(
    tmp_path: Path, readings: list[tuple[int, int]], content: bytes
) -> None:
    """Of a file of few parts, and in a store that wants the metadata at once."""
    rig = Rig(tmp_path, store=FakeStore(SMALL_LIMITS if content is CONTENT else LIMITS))
    read = read_before_first_part(rig, readings)
    rig.write("big", content)

    rig.sync("big")

    assert read[0] >= len(content)
    assert rig.fake.objects[KEY].meta.fingerprint == of_bytes(content)
    rig.close()


@pytest.mark.parametrize("known", [1, 2, 3, 5])
def test_known_blocks_are_copied(rig: Rig, known: int) -> None:
    """A file that shares its block of this number with a recorded one of another size has it copied."""
    offset = (known - 1) * PART
    rig.write("other", OTHER[:offset] + CONTENT[offset : offset + PART] + OTHER[:PART])
    rig.sync("other")
    rig.fake.reset_counters()
    rig.write("big", CONTENT)

    rig.sync("big")

    assert rig.fake.objects[KEY].data == CONTENT
    assert rig.fake.calls["upload_part_copy"] == 1
    assert sent_parts(rig.fake) == [number for number in range(1, PARTS + 1) if number != known]


def changing_at(rig: Rig, number: int, content: bytes) -> None:
    """The file gets another content, in place, while the part of this number is sent; parts go one by one."""
    rig.plain(concurrency=1)
    rig.restart()

    def change(call: Call) -> None:
        if call.number == number:
            with (rig.folder / "big").open("r+b") as file:
                file.write(content)

    rig.fake.before("upload_part", change)


def test_a_change_that_no_stat_shows(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that was sent and one that was not read yet change as through a memory map: no object is made,
    for the file never held what was sent. The next try sends only the part that is another one."""
    rig.write("big", CONTENT)
    changed = b"\xff" + CONTENT[1:60] + b"\xfe"
    changing_at(rig, 2, changed)
    with monkeypatch.context() as patch:
        patch.setattr(OpenFile, "stat", lambda self: self.opened)
        with pytest.raises(FileChanged, match="part 1 was changed while the file was sent"):
            rig.sync("big")
    assert rig.fake.objects == {}
    rig.fake.reset_counters()

    rig.sync("big")

    assert rig.fake.objects[KEY].data == changed
    assert rig.fake.objects[KEY].meta.fingerprint == of_bytes(changed)
    assert sent_parts(rig.fake)[0] == 1
    assert set(sent_parts(rig.fake)) <= {1, PARTS}, "the last one may not have begun"


def test_a_change_ends_the_sending_at_once(rig: Rig) -> None:
    """What was sent before and is still right counts for the next try."""
    rig.write("big", CONTENT)
    changed = CONTENT[:-1] + b"!"
    changing_at(rig, 3, changed)
    with pytest.raises(FileChanged, match="changed while it was sent"):
        rig.sync("big")
    sent = sent_parts(rig.fake)
    assert len(sent) < PARTS
    rig.fake.reset_counters()

    rig.sync("big")

    assert rig.fake.objects[KEY].data == changed
    assert sent_parts(rig.fake) == [number for number in range(1, PARTS + 1) if number not in sent]


@pytest.mark.parametrize("content", [CONTENT + b"more", CONTENT[:30]], ids=["longer", "shorter"])
def test_a_change_of_size_begins_another_upload(rig: Rig, content: bytes) -> None:
    """Its parts lie elsewhere."""
    rig.write("big", CONTENT)
    rig.fake.before("upload_part", lambda call: call.nth > 1 or (rig.folder / "big").write_bytes(content))
    with pytest.raises(FileChanged):
        rig.sync("big")

    rig.sync("big")

    assert rig.fake.objects[KEY].data == content
    assert rig.fake.uploads == {}


def test_an_upload_that_the_store_forgets_is_begun_again(rig: Rig) -> None:
    """In the same step, once the fingerprint is known."""
    rig.write("big", CONTENT)
    rig.fake.before("upload_part", lambda call: rig.fake.uploads.clear() if call.nth == 3 else None)

    rig.sync("big")

    assert rig.fake.objects[KEY].data == CONTENT
    assert rig.fake.calls["create_multipart_upload"] == 2


def test_a_part_that_is_refused_goes_twice(rig: Rig) -> None:
    """As where the fingerprint comes first: then another upload is begun, and no third one for hours."""
    rig.fake.fail(
        "upload_part", StoreRefused("no", status=422), times=None, when=lambda call: call.number == 1
    )
    rig.write("big", CONTENT)
    for _ in range(4):
        with pytest.raises(StoreRefused):
            rig.sync("big")

    assert sent_parts(rig.fake).count(2) <= 2
    assert rig.fake.calls["create_multipart_upload"] == 2


def test_the_answer_to_complete_is_lost_and_the_file_changes(rig: Rig) -> None:
    """The checkpoint says by then what the object holds: it is not taken for one of the new content."""
    rig.fake.fail("head_object", StoreUnavailable("cut"))
    rig.fake.lose_answer("complete_multipart_upload")
    rig.write("big", CONTENT)
    with pytest.raises(StoreUnavailable):
        rig.sync("big")
    assert rig.fake.objects[KEY].data == CONTENT
    rig.write("big", OTHER)

    rig.sync("big")

    assert rig.fake.objects[KEY].data == OTHER
