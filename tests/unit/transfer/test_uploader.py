"""Multipart uploads: parts, resume, restart, and every answer that can get lost."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from syncd.core.errors import (
    FileChanged,
    PartCorrupt,
    PartsRefused,
    StoreRefused,
    StoreUnavailable,
    UploadGone,
)
from syncd.core.model import ObjectMeta, Upload
from syncd.sources.fingerprint import of_bytes
from tests.support.rig import PART, Rig
from tests.support.store import SMALL_LIMITS, Call, FakeStore

CONTENT = bytes(range(256))[:61]  # seven full parts and a short one
PARTS = 8


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def sent_parts(store: FakeStore) -> list[int]:
    return sorted(call.number for call in store.log if call.verb == "upload_part")


def test_a_large_file_goes_in_parts_and_leaves_nothing_behind(rig: Rig) -> None:
    """All parts arrive, the object is the file, and neither checkpoint nor upload is left."""
    ref = rig.write("big", CONTENT)

    outcome = rig.sync("big")

    assert outcome.action == Upload("new")
    assert outcome.bytes_sent == len(CONTENT)
    assert rig.fake.objects["p/big"].data == CONTENT
    assert rig.fake.objects["p/big"].meta.fingerprint == of_bytes(CONTENT)
    assert sent_parts(rig.fake) == list(range(1, PARTS + 1))
    assert rig.state.checkpoint_for(ref) is None
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
        checkpoint = rig.state.checkpoint_for(ref)
        seen.append(checkpoint is not None and checkpoint.upload_id)

    rig.fake.before("create_multipart_upload", look)
    rig.sync("big")

    assert seen == [None]


def test_the_upload_id_is_recorded_before_the_first_part(rig: Rig) -> None:
    """No part is sent under an id that a restart would not know."""
    ref = rig.write("big", CONTENT)
    seen: list[str | None] = []

    def look(call: Call) -> None:
        checkpoint = rig.state.checkpoint_for(ref)
        seen.append(checkpoint.upload_id if checkpoint else None)

    rig.fake.before("upload_part", look)
    rig.sync("big")

    assert set(seen) == {"1"} or (len(set(seen)) == 1 and None not in seen)


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


def interrupted(rig: Rig, *, after: int) -> None:
    """Leave an upload of `big` with parts up to number `after` acknowledged, as a cut connection would."""
    rig.write("big", CONTENT)
    rig.fake.fail("upload_part", StoreUnavailable("cut"), times=None, when=lambda call: call.number > after)
    with pytest.raises(StoreUnavailable):
        rig.sync("big")
    rig.fake.heal()
    rig.fake.reset_counters()


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
            return getattr(self._state, name)

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
    """Expired or aborted by somebody: a restart, with a named reason, and the object arrives."""
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
    rig.fake.put_object("p/big", other, ObjectMeta(of_bytes(other), 0, token="somebody else"))
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


def test_parts_refused_for_another_reason_restart_the_upload(rig: Rig) -> None:
    """A stale ETag at complete: the upload is abandoned and sent anew."""
    rig.write("big", CONTENT)
    rig.fake.fail("complete_multipart_upload", PartsRefused("InvalidPart"))

    rig.sync("big")

    assert rig.fake.objects["p/big"].data == CONTENT
    assert rig.fake.uploads == {}


def test_restarts_are_bounded(rig: Rig) -> None:
    """A store that forgets every upload does not keep us busy for ever."""
    rig.write("big", CONTENT)
    rig.fake.fail("complete_multipart_upload", UploadGone("gone"), times=None)
    with pytest.raises(StoreUnavailable, match="too often"):
        rig.sync("big")
    assert rig.fake.calls["create_multipart_upload"] == 3


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


def test_an_unfinished_upload_of_a_vanished_file_is_aborted(rig: Rig) -> None:
    """Nobody will ever finish it: abort it, forget it."""
    interrupted(rig, after=3)
    (rig.folder / "big").unlink()
    rig.restart()

    rig.sync("big")

    assert rig.fake.uploads == {}
    assert rig.state.checkpoints() == []


def test_an_unfinished_upload_is_aborted_when_the_file_became_small(rig: Rig) -> None:
    """The file fits one request now: the put replaces the upload, which is aborted."""
    interrupted(rig, after=3)
    rig.write("big", b"tiny")
    rig.restart()

    rig.sync("big")

    assert rig.fake.objects["p/big"].data == b"tiny"
    assert rig.fake.uploads == {}
    assert rig.state.checkpoints() == []


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


# ---- the unchanged parts of a changed file --------------------------------------------------------------


def changed(rig: Rig, content: bytes) -> FakeStore:
    """`big` is in the store; then its content becomes `content`."""
    rig.write("big", CONTENT)
    rig.sync("big")
    rig.write("big", content)
    rig.fake.reset_counters()
    return rig.fake


def test_only_the_changed_part_of_a_file_is_sent(rig: Rig) -> None:
    """A change in the middle: the store copies the other parts from the object that it has."""
    other = bytearray(CONTENT)
    other[2 * PART] ^= 1
    store = changed(rig, bytes(other))

    outcome = rig.sync("big")

    assert sent_parts(store) == [3]
    assert store.objects["p/big"].data == bytes(other)
    assert outcome.bytes_sent == PART


def test_only_the_tail_of_an_appended_file_is_sent(rig: Rig) -> None:
    """A log that grew: everything but its last parts is copied."""
    longer = CONTENT + b"and more of it"
    store = changed(rig, longer)

    rig.sync("big")

    assert min(sent_parts(store)) == PARTS
    assert store.objects["p/big"].data == longer


def test_a_copy_of_a_part_that_cannot_be_proven_is_sent(tmp_path: Path) -> None:
    """ETags that are the MD5 of nothing prove nothing: then every part is sent."""
    rig = Rig(tmp_path, store=FakeStore(SMALL_LIMITS, random_etags=True))
    store = changed(rig, CONTENT + b"more")

    rig.sync("big")

    assert sent_parts(store) == list(range(1, PARTS + 2))
    assert store.objects["p/big"].data == CONTENT + b"more"
    rig.close()


def test_a_store_that_cannot_copy_parts_gets_them_sent(rig: Rig) -> None:
    """NotImplemented is asked for once or twice, not a failure."""
    store = changed(rig, CONTENT + b"more")
    store.fail("upload_part_copy", StoreRefused("no", status=501, code="NotImplemented"), times=None)

    rig.sync("big")

    assert store.objects["p/big"].data == CONTENT + b"more"
    assert store.calls["upload_part_copy"] <= 3


def test_an_object_replaced_behind_our_back_lends_no_part(tmp_path: Path) -> None:
    """Somebody else's object under our key, on a server that ignores conditions: nothing of it is taken."""
    rig = Rig(tmp_path, store=FakeStore(SMALL_LIMITS, ignores_conditions=True))
    store = changed(rig, CONTENT + b"more")
    other = CONTENT[::-1]
    store.put_object("p/big", other, ObjectMeta(of_bytes(other), 0))

    rig.sync("big")

    assert store.objects["p/big"].data == CONTENT + b"more"
    rig.close()


def test_a_twin_too_large_to_copy_whole_is_copied_in_parts(tmp_path: Path) -> None:
    """Beyond the largest single copy the parts are copied, and no byte is sent."""
    rig = Rig(tmp_path, store=FakeStore(replace(SMALL_LIMITS, max_put_size=PART)))
    rig.write("big", CONTENT)
    rig.sync("big")
    (rig.folder / "big").rename(rig.folder / "renamed")
    rig.fake.reset_counters()

    rig.sync("renamed")

    assert sent_parts(rig.fake) == []
    assert rig.fake.objects["p/renamed"].data == CONTENT
    rig.close()
