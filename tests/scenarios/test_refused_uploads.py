"""An upload that the store refuses, for itself or as any other: how often it is tried, and what is sent.

Scenarios: each refusal of each call, bound to one upload; what has nothing to do with an upload; a refusal
now and then; a store that refuses every upload; parts that were copied; what cannot be aborted. Each try is
a new process.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.core.errors import (
    AccessRefused,
    PartCorrupt,
    PartsRefused,
    PreconditionFailed,
    StoreError,
    StoreFailed,
    StoreRefused,
    StoreUnavailable,
    UploadGone,
)
from syncd.core.model import Fingerprint, ObjectMeta
from syncd.sources.fingerprint import of_bytes
from tests.support.rig import PART, Rig
from tests.support.store import Call, FakeStore
from tests.unit.transfer.multipart import CONTENT, PARTS, interrupted, sent_parts

KEEPS = 3
"""Parts that are there before the trouble begins."""
REFUSALS: list[StoreError] = [
    StoreRefused("odd", status=400, code="InvalidRequest"),
    StoreRefused("denied", status=403, code="AccessDenied"),
    StoreRefused("not allowed", status=405),
    StoreRefused("state", status=409, code="InvalidPartState"),
    StoreRefused("cannot", status=501, code="NotImplemented"),
    PreconditionFailed("another", status=412),
    StoreFailed("broken", status=500, outcome_unknown=True),
    PartsRefused("a part is missing", status=400, code="InvalidPart"),
    PartCorrupt("other bytes", status=400, code="BadDigest"),
    UploadGone("forgotten", status=404),
]
NO_FAULT_OF_THE_UPLOAD: list[StoreError] = [
    AccessRefused("the token has expired", status=400, code="ExpiredToken"),
    AccessRefused("the quota is used up", status=403, credentials=False),
    StoreUnavailable("the clock", status=403, code="RequestTimeTooSkewed"),
    StoreUnavailable("slow down", status=503, code="SlowDown"),
    StoreUnavailable("too many requests", status=429),
    StoreUnavailable("cut", status=408),
    StoreUnavailable("another request is under way", status=409, code="OperationAborted"),
    StoreUnavailable("a gateway", status=504, outcome_unknown=True),
    StoreUnavailable("reset", outcome_unknown=True),
]
CALLS = ["list_parts", "upload_part", "complete_multipart_upload"]
Refuse = Callable[[str, StoreError], str]


@pytest.fixture
def refuse(rig: Rig) -> Refuse:
    """Leave an upload of `big` unfinished, and let the store refuse one call of it; returns its id."""

    def begin(verb: str, error: StoreError) -> str:
        interrupted(rig, after=KEEPS)
        (upload_id,) = rig.fake.uploads
        rig.fake.fail(verb, error, times=None, when=lambda call: call.upload_id == upload_id)
        return upload_id

    return begin


def tries(rig: Rig, most: int) -> StoreError | None:
    """So many tries of `big`, each by a new process; how the last one failed, None: it did not."""
    failure: StoreError | None = None
    for _ in range(most):
        rig.restart()
        try:
            rig.sync("big")
        except StoreError as error:
            failure = error
        else:
            return None
    return failure


@pytest.mark.parametrize("error", REFUSALS, ids=str)
@pytest.mark.parametrize("verb", CALLS)
def test_an_upload_that_is_refused_for_itself_is_begun_once_more(
    rig: Rig, refuse: Refuse, verb: str, error: StoreError
) -> None:
    """After the second try that met the same; nothing of it is left, and no part is sent more than twice."""
    refuse(verb, error)

    assert tries(rig, 3) is None

    assert rig.fake.objects["p/big"].data == CONTENT
    assert rig.fake.uploads == {} or isinstance(error, UploadGone)
    assert rig.state.checkpoints.all() == []
    assert rig.fake.bytes_received <= 2 * len(CONTENT) + 3 * PART * (verb == "upload_part")


@pytest.mark.parametrize("error", NO_FAULT_OF_THE_UPLOAD, ids=str)
@pytest.mark.parametrize("verb", CALLS)
def test_what_has_nothing_to_do_with_an_upload_does_not_end_it(
    rig: Rig, refuse: Refuse, verb: str, error: StoreError
) -> None:
    """However often it is met: when it is over, the upload goes on, and sends what is missing."""
    upload_id = refuse(verb, error)

    assert tries(rig, 4) is not None

    assert list(rig.fake.uploads) == [upload_id]
    rig.fake.heal()
    assert tries(rig, 1) is None
    assert rig.fake.calls["create_multipart_upload"] == 0
    assert not {1, 2, 3} & set(sent_parts(rig.fake))


@pytest.mark.parametrize("verb", CALLS)
def test_a_store_that_answers_nothing_ends_no_upload(rig: Rig, refuse: Refuse, verb: str) -> None:
    """As long as a question about nothing in particular fails, the upload is not to blame."""
    upload_id = refuse(verb, StoreFailed("broken", status=500, outcome_unknown=True))
    rig.fake.fail("get_object", StoreFailed("broken", status=500), times=None)

    assert tries(rig, 4) is not None

    assert list(rig.fake.uploads) == [upload_id]


@pytest.mark.parametrize(
    "listing",
    [
        StoreRefused("no", status=403, code="AccessDenied"),
        StoreFailed("has no end", status=200),
        StoreUnavailable("the list cannot be read", status=200, outcome_unknown=True),
        None,
    ],
    ids=["which may not be read", "without end", "which is none", "without parts"],
)
def test_a_list_of_parts_that_tells_nothing_costs_no_content(
    rig: Rig, listing: StoreError | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside an upload that cannot be completed, where it would go once more: it goes twice in all."""
    rig.write("big", CONTENT)
    if listing is None:
        monkeypatch.setattr(FakeStore, "list_parts", lambda *_: [])
    else:
        rig.fake.fail("list_parts", listing, times=None)
    rig.fake.fail("complete_multipart_upload", StoreFailed("broken", status=500), times=None)

    assert tries(rig, 6) is not None

    assert rig.fake.bytes_received == 2 * len(CONTENT)


def test_an_upload_that_makes_progress_is_not_ended(rig: Rig) -> None:
    """Every try has one part acknowledged, and meets a failure at the next: that goes on."""
    rig.plain(concurrency=1)
    interrupted(rig, after=1)
    accepts = [0]

    def is_refused(call: Call) -> bool:
        accepts[0] -= 1
        return accepts[0] < 0

    rig.fake.fail("upload_part", lambda call: StoreFailed("broken", status=500), times=None, when=is_refused)
    rig.fake.fail("complete_multipart_upload", StoreFailed("broken", status=500))
    for _ in range(PARTS):
        accepts[0] = 1
        failure = tries(rig, 1)

    assert failure is None
    assert rig.fake.calls["create_multipart_upload"] == 0


def test_different_failures_end_no_upload(rig: Rig, refuse: Refuse) -> None:
    """One call fails in this try, another one in the next: nothing repeats."""
    refuse("upload_part", StoreFailed("broken", status=500))
    for verb in ("complete_multipart_upload", "list_parts", "complete_multipart_upload"):
        tries(rig, 1)
        rig.fake.heal()
        rig.fake.fail(verb, StoreFailed("broken", status=500), times=None)
    tries(rig, 1)

    assert rig.fake.calls["create_multipart_upload"] == 0


@pytest.mark.parametrize(
    "error", [PartsRefused("the parts are invalid", status=400), UploadGone("gone")], ids=str
)
def test_a_store_that_refuses_every_upload_gets_the_content_twice(rig: Rig, error: StoreError) -> None:
    """Then the file fails with the reason; a day later, or when it has changed, there is another upload."""
    rig.write("big", CONTENT)
    rig.fake.fail("complete_multipart_upload", error, times=None)

    failure = tries(rig, 10)

    assert isinstance(failure, StoreRefused)
    assert str(error.args[0]) in str(failure)
    assert rig.fake.bytes_received == 2 * len(CONTENT)
    (checkpoint,) = rig.state.checkpoints.all()
    rig.state.checkpoints.drop(checkpoint.id)
    rig.state.checkpoints.begin(replace(checkpoint, created_ns=checkpoint.created_ns - 24 * 3600 * 10**9))
    tries(rig, 5)
    assert rig.fake.bytes_received == 3 * len(CONTENT)
    rig.write("big", CONTENT[::-1])
    tries(rig, 5)
    assert rig.fake.bytes_received == 5 * len(CONTENT)
    rig.state.checkpoints.pardon(rig.ref("big"))
    tries(rig, 5)
    assert rig.fake.bytes_received == 6 * len(CONTENT)


def test_parts_that_were_copied_are_sent_before_the_upload_is_given_up(rig: Rig) -> None:
    """A store whose part copy makes something else refuses to complete: the upload is good, but for these."""
    rig.write("big", CONTENT)
    rig.sync("big")
    rig.write("big", CONTENT + b"more")
    copied: set[int] = set()
    rig.fake.after("upload_part_copy", lambda call: copied.add(call.number))
    rig.fake.before("upload_part", lambda call: copied.discard(call.number))

    def check(call: Call) -> None:
        if copied:
            raise PartsRefused("a part is not what it should be", status=400, code="InvalidPart")

    rig.fake.before("complete_multipart_upload", check)
    rig.fake.reset_counters()

    outcome = rig.sync("big")

    assert rig.fake.objects["p/big"].data == CONTENT + b"more"
    assert rig.fake.calls["create_multipart_upload"] == 1
    assert sent_parts(rig.fake) == list(range(1, PARTS + 2))
    assert outcome.bytes_saved == 0


def test_an_object_is_known_by_its_parts_where_all_answers_are_lost(rig: Rig) -> None:
    """The store keeps no metadata, and each answer to complete is lost: the ETag is that of the parts."""

    def drop_metadata(call: Call) -> None:
        if call.key in rig.fake.objects:
            rig.fake.objects[call.key].meta = ObjectMeta(Fingerprint(b"", 0), 0)

    rig.fake.after("complete_multipart_upload", drop_metadata)
    rig.fake.lose_answer("complete_multipart_upload", times=None)
    rig.write("big", CONTENT)

    assert tries(rig, 1) is None
    assert rig.fake.bytes_received == len(CONTENT)
    rig.write("big", CONTENT[::-1])
    rig.fake.after("complete_multipart_upload", lambda call: rig.fake.tamper_etag("p/big"))
    assert isinstance(tries(rig, 9), StoreRefused)
    assert rig.fake.bytes_received <= 3 * len(CONTENT)


# ---- what cannot be aborted ------------------------------------------------------------------------------

NOT_ABORTED: list[StoreError] = [
    StoreFailed("broken", status=500),
    StoreRefused("denied", status=403, code="AccessDenied"),
    AccessRefused("an answer of another", status=403, credentials=False),
    StoreUnavailable("reset", outcome_unknown=True),
]


def change(rig: Rig) -> None:
    rig.write("big", CONTENT[::-1])


def shrink(rig: Rig) -> None:
    rig.write("big", b"small")


def remove(rig: Rig) -> None:
    (rig.folder / "big").unlink()


@pytest.mark.parametrize("error", NOT_ABORTED, ids=str)
@pytest.mark.parametrize("happens", [change, shrink, remove])
def test_nothing_waits_for_an_upload_that_cannot_be_aborted(
    rig: Rig, happens: Callable[[Rig], None], error: StoreError
) -> None:
    """The new content is there, or the old object is deleted; the upload is aborted when that can be done."""
    rig.write("big", b"first")
    rig.sync("big")
    interrupted(rig, after=KEEPS)
    happens(rig)
    rig.fake.fail("abort_multipart_upload", error, times=None)
    rig.restart()

    rig.sync("big", delete_allowed=True)

    path = rig.folder / "big"
    assert rig.state.checkpoints.all() == []
    assert len(rig.fake.uploads) == 1
    if path.exists():
        assert rig.fake.objects["p/big"].data == path.read_bytes()
    assert rig.engine.clear_up() == pytest.approx(3600, abs=60)
    assert rig.engine.clear_up() is None
    rig.restart()
    assert rig.engine.clear_up() is not None
    assert len(rig.fake.uploads) == 1
    rig.fake.heal()
    rig.restart()
    assert rig.engine.clear_up() is None
    assert rig.fake.uploads == {}
    assert rig.state.checkpoints.leftovers(rig.fake.store_id) == []
    rig.fake.reset_counters()
    rig.engine.clear_up()
    assert rig.fake.calls.total() == 0


@pytest.mark.parametrize("error", NOT_ABORTED, ids=str)
def test_nothing_waits_for_an_upload_whose_id_was_lost(tmp_path: Path, error: StoreError) -> None:
    """The list of uploads fails: the file is sent, and what was lost is aborted later; nothing else is.

    Only the store's clock counts, and that is not ours.
    """
    now_ns = [10**18]
    rig = Rig(tmp_path)
    rig.fake._now_ns = lambda: now_ns[0]
    rig.write("big", CONTENT)
    rig.fake.lose_answer("create_multipart_upload")
    rig.fake.fail("list_multipart_uploads", error, times=None)
    rig.sync("big")
    assert rig.fake.objects["p/big"].data == CONTENT
    (lost,) = rig.fake.uploads
    rig.fake.heal()
    now_ns[0] += 7200 * 10**9
    theirs = rig.fake.create_multipart_upload("p/big", ObjectMeta(of_bytes(b""), 0))
    rig.write("big", CONTENT[::-1])
    rig.fake.fail("upload_part", StoreUnavailable("cut"))
    with suppress(StoreUnavailable):
        rig.sync("big")
    (ours,) = rig.state.checkpoints.all()
    rig.restart()

    rig.engine.clear_up()

    assert set(rig.fake.uploads) == {theirs, ours.upload_id}
    assert lost not in rig.fake.uploads
    assert rig.state.checkpoints.leftovers(rig.fake.store_id) == []
    rig.close()


@pytest.mark.parametrize("dies", [False, True])
@pytest.mark.parametrize("minutes", [1, 14])
def test_a_create_that_is_carried_out_after_the_listing_is_found(rig: Rig, minutes: int, dies: bool) -> None:
    """It is looked for once more when no late request can come any more: with one listing."""
    now_ns = [10**18]
    rig.fake._now_ns = lambda: now_ns[0]
    rig.write("big", CONTENT)
    rig.fake.fail("create_multipart_upload", StoreUnavailable("lost", outcome_unknown=True), times=1 + dies)
    with suppress(StoreUnavailable):
        rig.sync("big")
    rig.restart()
    rig.sync("big")
    now_ns[0] += minutes * 60 * 10**9
    rig.fake.create_multipart_upload("p/big", ObjectMeta(of_bytes(CONTENT), 0))
    now_ns[0] += 3600 * 10**9
    rig.restart()
    rig.fake.reset_counters()

    rig.engine.clear_up()

    assert rig.fake.uploads == {}
    assert rig.fake.calls == {"list_multipart_uploads": 1, "list_parts": 1, "abort_multipart_upload": 1}
    assert rig.state.checkpoints.leftovers(rig.fake.store_id) == []
    assert rig.fake.objects["p/big"].data == CONTENT


def test_an_upload_that_is_being_begun_is_not_taken_for_a_lost_one(rig: Rig) -> None:
    """Its id is not known yet, either: the lost one waits until it is."""
    interrupted(rig, after=KEEPS)
    (ours,) = rig.state.checkpoints.all()
    rig.state.checkpoints.drop(ours.id)
    rig.state.checkpoints.leave(rig.uploader.leftovers._of(replace(ours, upload_id=None)))
    rig.state.checkpoints.begin(replace(ours, upload_id=None))
    rig.restart()

    rig.engine.clear_up()

    assert len(rig.fake.uploads) == 1
    assert len(rig.state.checkpoints.leftovers(rig.fake.store_id)) == 1


def test_an_upload_whose_object_came_about_by_a_copy_is_aborted(rig: Rig) -> None:
    """Neither the copy nor the completion is answered; the first made the object, the second did nothing."""
    rig.write("donor", CONTENT)
    rig.sync("donor")
    rig.write("big", CONTENT)
    rig.fake.lose_answer("copy_object")
    rig.fake.fail("complete_multipart_upload", StoreUnavailable("cut", outcome_unknown=True))

    rig.sync("big")

    assert rig.fake.objects["p/big"].data == CONTENT
    assert rig.fake.calls["complete_multipart_upload"] == 2
    assert rig.fake.uploads == {}
    assert rig.state.checkpoints.all() == []
