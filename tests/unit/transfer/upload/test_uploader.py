"""Multipart uploads: parts, resume, restart, and every answer that can get lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.core.errors import FileChanged, QuotaExceeded, StoreRefused, StoreUnavailable
from syncd.core.model import ObjectMeta
from syncd.core.plan import Nothing, Upload
from syncd.sources.fingerprint import of_bytes
from tests.support.rig import PART, Rig
from tests.support.store import SMALL_LIMITS, Call, FakeStore
from tests.unit.transfer.multipart import CONTENT, PARTS, interrupted, sent_parts


def test_a_large_file_goes_in_parts_and_leaves_nothing_behind(rig: Rig) -> None:
    """All parts arrive, the object is the file, and neither checkpoint nor upload is left."""
    ref = rig.write("big", CONTENT)

    outcome = rig.sync("big")

    assert outcome.action == Upload("new")
    assert outcome.bytes_sent == len(CONTENT)
    assert rig.fake.objects["p/big"].data == CONTENT
    assert rig.fake.objects["p/big"].meta.fingerprint == of_bytes(CONTENT)
    assert sent_parts(rig.fake) == list(range(1, PARTS + 1))
    assert rig.state.checkpoints.find(ref) is None
    assert rig.fake.uploads == {}


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 1, 20 * PART])
def test_every_boundary_size_arrives(rig: Rig, size: int) -> None:
    """Zero bytes, exactly one part, exact multiples, and the last part of all."""
    content = bytes(i % 251 for i in range(size))
    rig.write("file", content)

    rig.sync("file")

    assert rig.fake.objects["p/file"].data == content
    assert (rig.fake.calls["put_object"] == 1) == (size <= PART)


def test_the_part_size_grows_with_the_file(rig: Rig) -> None:
    """A file of more parts than the store allows gets larger parts, and arrives."""
    content = bytes(i % 249 for i in range(21 * PART))
    rig.write("file", content)

    rig.sync("file")

    assert rig.fake.objects["p/file"].data == content
    assert len(sent_parts(rig.fake)) <= SMALL_LIMITS.max_parts


def test_the_intent_is_recorded_before_the_store_hears_of_it(rig: Rig) -> None:
    """When create is called, a checkpoint without upload id is already in the state."""
    ref = rig.write("big", CONTENT)
    seen: list[str | bool | None] = []

    def look(call: Call) -> None:
        checkpoint = rig.state.checkpoints.find(ref)
        seen.append(checkpoint is not None and checkpoint.upload_id)

    rig.fake.before("create_multipart_upload", look)
    rig.sync("big")

    assert seen == [None]


def test_the_upload_id_is_recorded_before_the_first_part(rig: Rig) -> None:
    """No part is sent under an id that a restart would not know."""
    ref = rig.write("big", CONTENT)
    seen: list[str | None] = []

    def look(call: Call) -> None:
        checkpoint = rig.state.checkpoints.find(ref)
        seen.append(checkpoint.upload_id if checkpoint else None)

    rig.fake.before("upload_part", look)
    rig.sync("big")

    assert set(seen) == {"1"} or (len(set(seen)) == 1 and None not in seen)


def test_resume_sends_only_what_is_missing(rig: Rig) -> None:
    """After a restart of the process the store is asked, and only missing parts are sent."""
    interrupted(rig, after=3)
    kept = {number for upload in rig.fake.uploads.values() for number in upload.parts}
    rig.restart()

    outcome = rig.sync("big")

    assert sent_parts(rig.fake) == sorted(set(range(1, PARTS + 1)) - kept)
    assert rig.fake.calls["create_multipart_upload"] == 0
    assert rig.fake.objects["p/big"].data == CONTENT
    assert outcome.bytes_saved == sum(PART for _ in kept)


def test_same_name_and_size_with_other_content_restarts_and_aborts(rig: Rig) -> None:
    """The tutorial's key would have mixed two files here: ours contains the content."""
    interrupted(rig, after=3)
    other = CONTENT[::-1]
    rig.write("big", other)
    rig.restart()

    rig.sync("big")

    assert rig.fake.objects["p/big"].data == other
    assert sent_parts(rig.fake) == list(range(1, PARTS + 1))
    assert rig.fake.uploads == {}


def test_a_changed_part_size_resumes_or_restarts_but_is_right(rig: Rig) -> None:
    """A part size that changed in the configuration never mixes two grids."""
    interrupted(rig, after=3)
    rig.plain(part_size=12)
    rig.restart()

    rig.sync("big")

    assert rig.fake.objects["p/big"].data == CONTENT
    assert rig.fake.uploads == {}


def test_an_upload_that_the_store_forgot_is_begun_anew(rig: Rig) -> None:
    """Expired or aborted by another program: a restart, with a named reason, and the object arrives."""
    interrupted(rig, after=3)
    rig.fake.uploads.clear()
    rig.restart()

    rig.sync("big")

    assert rig.fake.objects["p/big"].data == CONTENT
    assert rig.fake.calls["create_multipart_upload"] == 1


def test_an_upload_that_vanishes_in_the_middle_is_begun_anew(rig: Rig) -> None:
    """The operator aborts behind our back while parts are sent."""
    rig.write("big", CONTENT)

    def abort(call: Call) -> None:
        if call.nth == 3:
            rig.fake.uploads.clear()

    rig.fake.before("upload_part", abort)
    rig.sync("big")

    assert rig.fake.objects["p/big"].data == CONTENT


def test_a_lost_answer_to_create_is_made_up_for_at_once(rig: Rig) -> None:
    """The upload that we never heard of is aborted, and another one is asked for: no orphan, no failure."""
    rig.write("big", CONTENT)
    rig.fake.lose_answer("create_multipart_upload")

    rig.sync("big")

    assert rig.fake.objects["p/big"].data == CONTENT
    assert rig.fake.calls["abort_multipart_upload"] == 1
    assert rig.fake.uploads == {}


def test_lost_answers_to_create_leave_no_orphan(rig: Rig) -> None:
    """Two in a row are a failure; what the second may have left is aborted at the next try."""
    rig.write("big", CONTENT)
    rig.fake.lose_answer("create_multipart_upload", times=2)
    with pytest.raises(StoreUnavailable):
        rig.sync("big")
    assert len(rig.fake.uploads) == 1

    rig.sync("big")

    assert rig.fake.objects["p/big"].data == CONTENT
    assert rig.fake.uploads == {}


def test_anothers_upload_of_the_same_key_is_not_swept(rig: Rig) -> None:
    """Only uploads begun after our intent are taken for ours."""
    meta = ObjectMeta(of_bytes(b""), 0)
    foreign = rig.fake.create_multipart_upload("p/big", meta)
    rig.fake.uploads[foreign].initiated_ns = 1  # long ago
    rig.write("big", CONTENT)
    rig.fake.fail("create_multipart_upload", StoreUnavailable("lost", outcome_unknown=True), times=2)
    with pytest.raises(StoreUnavailable):
        rig.sync("big")

    rig.sync("big")

    assert set(rig.fake.uploads) == {foreign}


@pytest.mark.parametrize("denied", [False, True])
def test_anothers_upload_that_began_with_ours_is_not_swept_if_it_has_parts(rig: Rig, denied: bool) -> None:
    """No part of ours can be in an upload whose id was lost. Keys that may not look leave it, too."""
    foreign = rig.fake.create_multipart_upload("p/big", ObjectMeta(of_bytes(b""), 0))
    rig.fake.upload_part("p/big", foreign, 2, b"another's")
    if denied:
        rig.fake.fail("list_parts", StoreRefused("denied", status=403), times=None)
    rig.write("big", CONTENT)
    rig.fake.lose_answer("create_multipart_upload")

    rig.sync("big")

    assert foreign in rig.fake.uploads
    assert len(rig.fake.uploads) == 1 + denied
    assert rig.fake.objects["p/big"].data == CONTENT


def test_a_lost_answer_to_complete_is_recognised_by_the_token(rig: Rig) -> None:
    """The object is there and carries our token: nothing is sent again."""
    rig.write("big", CONTENT)
    rig.fake.lose_answer("complete_multipart_upload")

    outcome = rig.sync("big")

    assert isinstance(outcome.action, Upload)
    assert sent_parts(rig.fake) == list(range(1, PARTS + 1))
    assert rig.state.recorded(rig.ref("big")) is not None


def test_after_a_death_behind_complete_the_object_is_accepted(rig: Rig) -> None:
    """We died before the answer to complete: the store knows the upload no more, but has the object."""
    rig.write("big", CONTENT)
    rig.fake.after("complete_multipart_upload", _die)
    with pytest.raises(KeyboardInterrupt):
        rig.sync("big")
    rig.fake.heal()
    rig.fake.reset_counters()
    rig.restart()

    rig.sync("big")

    assert sent_parts(rig.fake) == []
    assert rig.fake.objects["p/big"].data == CONTENT
    assert rig.state.recorded(rig.ref("big")) is not None


def _die(call: Call) -> None:
    raise KeyboardInterrupt


def test_anothers_object_after_a_lost_complete_is_not_taken_for_ours(rig: Rig) -> None:
    """Same size, another token: our upload is gone, and the file is sent."""
    interrupted(rig, after=3)
    other = CONTENT[::-1]
    rig.fake.put_object("p/big", other, ObjectMeta(of_bytes(other), 0, token="another"))
    rig.fake.uploads.clear()
    rig.restart()

    rig.sync("big")

    assert rig.fake.objects["p/big"].data == CONTENT


def test_parts_that_are_too_small_teach_the_store_s_minimum(rig: Rig) -> None:
    """EntityTooSmall at complete: once again with larger parts, and the limit is remembered."""
    rig.write("big", CONTENT)
    strict = replace(SMALL_LIMITS, min_part_size=PART + 4)
    lenient = rig.fake.limits

    class Strict(FakeStore):
        """Says one limit and has another, like documents that disagree."""

    store = Strict(strict)
    type(store).limits = property(lambda self: lenient)  # type: ignore[method-assign, assignment]
    rig.store = store
    rig.restart()

    rig.sync("big")

    assert store.objects["p/big"].data == CONTENT
    assert store.uploads == {}
    assert store.calls["create_multipart_upload"] == 2
    rig.write("big2", CONTENT[::-1])
    rig.sync("big2")
    assert store.calls["create_multipart_upload"] == 3


@pytest.mark.parametrize("stage", ["create_multipart_upload", "upload_part", "list_parts"])
def test_a_file_that_changes_at_any_stage_is_never_completed_as_a_mixture(rig: Rig, stage: str) -> None:
    """Same size, restored mtime: nothing is completed, and the next step sends the new state."""
    other = CONTENT[::-1]
    if stage == "list_parts":
        interrupted(rig, after=3)
    rig.write("big", CONTENT)
    before = (rig.folder / "big").stat()

    def change(call: Call) -> None:
        import os

        if call.nth == 1:
            with (rig.folder / "big").open("r+b") as file:
                file.write(other)
            os.utime(rig.folder / "big", ns=(before.st_atime_ns, before.st_mtime_ns))

    rig.fake.before(stage, change)
    with pytest.raises(FileChanged):
        rig.sync("big")
    assert "p/big" not in rig.fake.objects
    rig.fake.heal()
    rig.sync("big")
    assert rig.fake.objects["p/big"].data == other
    assert rig.fake.uploads == {}


def test_a_file_that_shrinks_while_it_is_sent_is_given_up(rig: Rig) -> None:
    """A short read is an error at once, not a request that hangs."""
    rig.write("big", CONTENT)
    rig.fake.before("create_multipart_upload", lambda call: (rig.folder / "big").write_bytes(CONTENT[:10]))
    with pytest.raises(FileChanged):
        rig.sync("big")
    assert "p/big" not in rig.fake.objects


def test_the_upload_of_a_file_that_is_excluded_by_now_ends(rig: Rig) -> None:
    """After a restart with another pattern: aborted, not continued; its object, if any, stays."""
    rig.write("big", b"before")
    rig.sync("big")
    interrupted(rig, after=3)
    rig.know(wants=lambda path: path != "big")

    outcome = rig.sync("big")

    assert outcome.action == Nothing("excluded")
    assert (rig.fake.uploads, rig.state.checkpoints.all()) == ({}, [])
    assert rig.fake.objects["p/big"].data == b"before"


def test_excluding_a_file_stops_its_upload_under_way(rig: Rig) -> None:
    """Before its next part; the next step aborts what has arrived."""
    rig.write("big", CONTENT)
    wanted = [True]
    rig.know(wants=lambda path: wanted[0])
    rig.fake.before("upload_part", lambda call: wanted.clear() or wanted.append(False))

    with pytest.raises(FileChanged, match="excludes it since"):
        rig.sync("big")

    assert len(sent_parts(rig.fake)) < PARTS
    assert rig.sync("big").action == Nothing("excluded")
    assert rig.fake.uploads == {}


def test_an_unfinished_upload_of_a_vanished_file_is_aborted(rig: Rig) -> None:
    """No process will ever finish it: abort it, forget it."""
    interrupted(rig, after=3)
    (rig.folder / "big").unlink()
    rig.restart()

    rig.sync("big")

    assert rig.fake.uploads == {}
    assert rig.state.checkpoints.all() == []


def test_an_unfinished_upload_is_aborted_when_the_file_became_small(rig: Rig) -> None:
    """The file fits one request now: the put replaces the upload, which is aborted."""
    interrupted(rig, after=3)
    rig.write("big", b"tiny")
    rig.restart()

    rig.sync("big")

    assert rig.fake.objects["p/big"].data == b"tiny"
    assert rig.fake.uploads == {}
    assert rig.state.checkpoints.all() == []


def test_an_object_that_is_not_its_parts_is_made_again(tmp_path: Path) -> None:
    """A store that tells another CRC-32 of the whole than the parts have: the upload restarts."""
    limits = replace(SMALL_LIMITS, computes_crc32=True)
    rig = Rig(tmp_path, store=FakeStore(limits, computes_crc32=True))
    store = rig.fake
    broken: list[Call] = []

    def break_once(call: Call) -> None:
        if not broken:
            broken.append(call)
            store.tamper("p/big", CONTENT[::-1])

    store.after("complete_multipart_upload", break_once)
    rig.write("big", CONTENT)

    rig.sync("big")

    assert broken
    assert store.objects["p/big"].data == CONTENT
    assert store.calls["complete_multipart_upload"] == 2
    assert store.uploads == {}
    rig.close()


def test_a_store_without_a_checksum_of_the_whole_is_not_asked_for_one(rig: Rig) -> None:
    """An upload in parts costs no request more than its parts, a beginning and an end."""
    rig.write("big", CONTENT)

    rig.sync("big")

    assert rig.fake.calls["head_object"] == 0


def test_an_upload_that_cannot_be_joined_on_a_full_disk_gives_way(rig: Rig) -> None:
    """All its parts are there, and the whole has no room beside them: they would keep the disk full."""
    rig.write("big", CONTENT)
    rig.fake.fail("complete_multipart_upload", QuotaExceeded("no space left", code="ENOSPC"))
    with pytest.raises(QuotaExceeded, match="no space"):
        rig.sync("big")
    assert (rig.fake.uploads, rig.state.checkpoints.all()) == ({}, [])
    rig.sync("big")
    assert rig.fake.objects["p/big"].data == CONTENT


def test_on_a_full_disk_the_upload_that_holds_most_gives_way(rig: Rig) -> None:
    """Whichever meets it: the largest is given up, and the smaller one goes on with the parts that it has."""
    interrupted(rig, after=6)
    rig.write("other", CONTENT[: 3 * PART])
    full = QuotaExceeded("no space left", code="ENOSPC")
    rig.fake.fail(
        "upload_part", full, times=None, when=lambda call: call.key == "p/other" and call.number > 1
    )
    with pytest.raises(QuotaExceeded, match="no space"):
        rig.sync("other")
    assert [each.ref.path for each in rig.state.checkpoints.all()] == ["other"]
    assert {upload.key for upload in rig.fake.uploads.values()} == {"p/other"}
    rig.fake.heal()
    rig.fake.reset_counters()
    rig.sync("other")
    assert 1 not in sent_parts(rig.fake)
    assert rig.fake.objects["p/other"].data == CONTENT[: 3 * PART]
    rig.sync("big")
    assert rig.fake.objects["p/big"].data == CONTENT
