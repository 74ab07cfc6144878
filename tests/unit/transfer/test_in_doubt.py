"""A row whose object may be another one is not believed: the store is asked before content counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from syncd.core.errors import (
    AccessRefused,
    StateError,
    Stopped,
    StoreError,
    StoreFailed,
    StoreRefused,
    StoreUnavailable,
)
from syncd.core.model import Checkpoint, ObjectMeta, OnDelete, Recorded
from syncd.core.plan import Refresh, Upload
from syncd.sources.files import file_stat
from syncd.sources.fingerprint import of_bytes
from tests.support.rig import PART, Rig
from tests.support.store import Call

BIG = bytes(range(3 * PART))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path, on_delete=OnDelete.DELETE)
    yield rig
    rig.close()


def _row(rig: Rig) -> Recorded:
    row = rig.state.recorded(rig.ref("a"))
    assert row is not None
    return row


def _sent(rig: Rig, content: bytes = b"hello") -> None:
    rig.write("a", content)
    rig.sync("a")


def _lose_a_delete(rig: Rig) -> None:
    """The object goes, as its file went, and the answer does not come."""
    (rig.folder / "a").unlink(missing_ok=True)
    rig.fake.lose_answer("delete_object")
    with pytest.raises(StoreUnavailable):
        rig.sync("a", delete_allowed=True)
    assert "p/a" not in rig.fake.objects


@pytest.mark.parametrize("restarted", [False, True])
def test_a_file_that_comes_back_after_a_delete_without_answer_is_sent(rig: Rig, restarted: bool) -> None:
    """It has the very content of its row, but the object is gone: not even a restart forgets that."""
    _sent(rig)
    _lose_a_delete(rig)
    if restarted:
        rig.restart()

    rig.write("a", b"hello")
    outcome = rig.sync("a", event=False)

    assert outcome.action == Upload("its object is not what was recorded")
    assert rig.fake.objects["p/a"].data == b"hello"
    assert outcome.doubt_seconds is not None  # the delete may be carried out yet


def test_a_file_that_comes_back_with_its_old_stat_is_looked_at(rig: Rig) -> None:
    """A disk that was away gives back the very inode: a row in doubt is not firm, whatever the stat says."""
    _sent(rig)
    elsewhere = rig.folder.parent / "a"
    (rig.folder / "a").rename(elsewhere)
    _lose_a_delete(rig)
    elsewhere.rename(rig.folder / "a")
    doubted = replace(_row(rig), stat=file_stat((rig.folder / "a").stat()))
    rig.state.commit(rig.ref("a"), doubted)

    rig.sync("a", event=False)

    assert rig.fake.objects["p/a"].data == b"hello"


def test_an_object_that_is_still_there_is_not_sent_again(rig: Rig) -> None:
    """The delete never arrived: one question, and once more when it cannot arrive any more."""
    _sent(rig)
    (rig.folder / "a").unlink()
    rig.fake.fail("delete_object", StoreUnavailable("lost", outcome_unknown=True))
    with pytest.raises(StoreUnavailable):
        rig.sync("a", delete_allowed=True)
    assert _row(rig).etag == ""
    rig.write("a", b"hello")
    received = rig.fake.bytes_received

    outcome = rig.sync("a")

    assert isinstance(outcome.action, Refresh)
    assert rig.fake.bytes_received == received
    assert outcome.doubt_seconds is not None


@pytest.mark.parametrize("restarted", [False, True])
def test_a_file_that_is_put_back_after_a_put_without_answer_is_sent(rig: Rig, restarted: bool) -> None:
    """The store has a content that is out of date, and row and file agree about another one."""
    _sent(rig)
    rig.write("a", b"other")
    rig.fake.lose_answer("put_object")
    with pytest.raises(StoreUnavailable):
        rig.sync("a")
    if restarted:
        rig.restart()

    rig.write("a", b"hello")
    rig.sync("a")

    assert rig.fake.objects["p/a"].data == b"hello"


def test_a_put_that_was_stopped_leaves_a_doubt(rig: Rig) -> None:
    """Who is told to stop while the answer is awaited does not know either."""
    _sent(rig)
    rig.write("a", b"other")
    rig.fake.fail("put_object", Stopped(), after_effect=True)
    with pytest.raises(Stopped):
        rig.sync("a")
    rig.restart()

    rig.write("a", b"hello")
    rig.sync("a")

    assert rig.fake.objects["p/a"].data == b"hello"


def test_a_put_whose_record_failed_leaves_a_doubt(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The object is new, the state could not be told: this process remembers."""
    _sent(rig)
    rig.write("a", b"other")
    with monkeypatch.context() as patch:
        patch.setattr(rig.state, "commit", _failing)
        with pytest.raises(StateError):
            rig.sync("a")

    rig.write("a", b"hello")
    rig.sync("a")

    assert rig.fake.objects["p/a"].data == b"hello"


def _failing(*_: Any, **__: Any) -> None:
    raise StateError("the disk is full")


def test_an_upload_that_may_have_been_completed_leaves_a_doubt(rig: Rig) -> None:
    """The checkpoint says so, after a restart, too; and the upload is aborted before the store is asked."""
    _sent(rig, BIG)
    rig.write("a", BIG[::-1])
    rig.fake.fail("head_object", StoreUnavailable("away"))
    rig.fake.lose_answer("complete_multipart_upload")
    with pytest.raises(StoreUnavailable):
        rig.sync("a")
    rig.restart()
    rig.write("a", BIG)
    rig.fake.reset_counters()

    rig.sync("a")

    assert rig.fake.objects["p/a"].data == BIG
    verbs = [call.verb for call in rig.fake.log]
    assert verbs.index("abort_multipart_upload") < verbs.index("head_object")
    assert rig.state.checkpoints.all() == []


@pytest.mark.parametrize("is_same", [True, False])
def test_an_upload_of_the_very_content_goes_on(rig: Rig, is_same: bool) -> None:
    """Also one of a record in doubt, such as a repair that a death ended. One of another content, made to
    have the same fingerprint, is aborted before the store is asked: it could come after the answer.
    """
    ref = rig.write("big", bytes(range(3 * PART)))
    rig.sync("big")
    row = rig.state.recorded(ref)
    assert row is not None
    rig.state.doubt(ref, row)
    begun = rig.state.checkpoints.begin(
        Checkpoint(
            0, ref, row.store_id, row.key, row.fingerprint, row.stat, PART, "token", 1,
            witness=row.witness if is_same else bytes(16),
        )
    )  # fmt: skip
    upload = rig.fake.create_multipart_upload("p/big", ObjectMeta(row.fingerprint, 0))
    rig.state.checkpoints.set_upload_id(begun.id, upload)
    rig.restart()
    first = iter([False])  # before the file is read
    unavailable = StoreUnavailable("no answer")
    rig.fake.fail("head_object", unavailable, times=None, when=lambda call: next(first, True))
    with pytest.raises(StoreUnavailable):
        rig.sync("big")
    assert bool(rig.fake.uploads) is is_same


def test_an_answer_that_is_certain_leaves_no_doubt(rig: Rig) -> None:
    """Refused or not reached: the object is what it was, and no question follows."""
    _sent(rig)
    rig.write("a", b"other")
    rig.fake.fail("put_object", StoreRefused("no", status=403, code="AccessDenied"), times=None)
    with pytest.raises(StoreRefused):
        rig.sync("a")

    assert _row(rig).etag == rig.fake.objects["p/a"].etag


def test_where_nobody_may_ask_a_file_in_doubt_is_sent(rig: Rig) -> None:
    """Keys that may not look get "forbidden": that is no proof that the object is there."""
    _sent(rig)
    _lose_a_delete(rig)
    rig.write("a", b"hello")
    rig.fake.fail("head_object", StoreRefused("forbidden", status=403, code="AccessDenied"))

    rig.sync("a")

    assert rig.fake.objects["p/a"].data == b"hello"


def test_keys_that_are_wrong_are_no_answer_about_an_object(rig: Rig) -> None:
    """A store that refuses the keys is paused, as for every other request."""
    _sent(rig)
    _lose_a_delete(rig)
    rig.write("a", b"hello")
    rig.fake.fail("head_object", AccessRefused("who?", status=403, code="InvalidAccessKeyId"), times=2)

    with pytest.raises(AccessRefused):
        rig.sync("a")


REFUSALS = [
    AccessRefused("the token has expired", status=400, code="ExpiredToken"),
    AccessRefused("wrong key", status=403, code="InvalidAccessKeyId"),
    AccessRefused("no such bucket", status=404, code="NoSuchBucket", credentials=False),
    StoreFailed("broken", status=500, outcome_unknown=True),
    StoreUnavailable("slow down", status=503),
    StoreUnavailable("down"),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
@pytest.mark.parametrize("object_", ["small, of another program", "large, of another program", "in doubt"])
def test_however_many_first_requests_are_refused_nothing_that_is_there_is_sent(
    rig: Rig, object_: str, refusal: StoreError
) -> None:
    """The store may begin to answer between any two of them. A refused HEAD has no body to say why."""

    def refuse(call: Call) -> StoreError:
        is_mute = call.verb == "head_object" and refusal.status == 403
        return AccessRefused("forbidden", status=403) if is_mute else refusal

    rig.know(reconciling=True)
    for refused in range(1, 6):
        if object_ == "in doubt":
            _sent(rig)
            rig.state.doubt(rig.ref("a"), _row(rig))
        else:
            ref = rig.write("a", (BIG if object_.startswith("large") else b"hello") + bytes([refused]))
            rig.fake.without_metadata("p/a", (rig.folder / "a").read_bytes())
            rig.state.forget(ref)
        rig.fake.reset_counters()
        rig.fake.fail("*", refuse, times=refused)
        for _ in range(refused):
            with suppress(StoreError):
                rig.sync("a")
        rig.sync("a")
        verbs = [call.verb for call in rig.fake.log]
        assert set(verbs) <= {"head_object", "get_object"}, (refused, verbs)
        assert len(verbs) > refused
        assert _row(rig).fingerprint == of_bytes((rig.folder / "a").read_bytes())


def test_only_rows_of_the_process_that_died_are_asked_for(rig: Rig) -> None:
    """After a death a changed stat costs one question, and one that was recorded since then costs none."""
    _sent(rig)
    rig.restart()
    rig.know(reconciling=True)
    heads: list[Call] = []
    rig.fake.before("head_object", heads.append)
    rig.write("a", b"hello")
    rig.sync("a")
    assert len(heads) == 1

    (rig.folder / "a").chmod(0o600)
    rig.sync("a")

    assert len(heads) == 1


def test_a_death_is_remembered_until_all_was_compared(rig: Rig) -> None:
    """A clean start in between does not make up for it."""
    first = rig.reconcile()
    first.begin()
    first.probe()
    rig.state.close(clean=False)
    rig.open()
    rig.reconcile().begin()
    rig.restart()

    rig.reconcile().begin()

    assert rig.engine.sources["docs"].reconciling
