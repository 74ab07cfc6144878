"""What was last seen under a key is what an upload replaces, where the store has conditions.

Another program's object is replaced as well, but looked at first; the ordinary overwrite stays one request.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.core.errors import PreconditionFailed, StoreRefused, StoreUnavailable
from syncd.core.model import OVERTAKEN, ObjectMeta, OnDelete
from syncd.sources.fingerprint import of_bytes
from syncd.storage.base import CONDITIONS, HONOURED, IGNORED, Clock
from syncd.storage.retry import RetryingStore
from tests.support.rig import Rig
from tests.support.store import SMALL_LIMITS, FakeStore

OLD = {"small": b"old", "large": b"the old content, in parts"}
NEW = {"small": b"new", "large": b"the new content, in more parts"}
MAKES = {"small": "put_object", "large": "complete_multipart_upload"}
sizes = pytest.mark.parametrize("size", ["small", "large"])


def changed(rig: Rig, size: str) -> FakeStore:
    """The old content is in the store, the new one in the folder."""
    rig.write("f", OLD[size])
    rig.sync("f")
    rig.write("f", NEW[size])
    return rig.fake.reset_counters()


def in_a_lost_time(rig: Rig, key: str, content: bytes) -> None:
    """This machine uploads under the key, and the state does not know it any more."""
    rig.fake.put_object(key, content, ObjectMeta(of_bytes(content), 0, instance=rig.instance))
    rig.fake.reset_counters()


@sizes
def test_an_ordinary_overwrite_costs_no_request_more(rig: Rig, size: str) -> None:
    """The condition travels with the request that makes the object."""
    store = changed(rig, size)
    rig.sync("f")
    assert store.objects["p/f"].data == NEW[size]
    assert size == "large" or store.objects["p/f"].meta.replaces  # an upload keeps the metadata of its begin
    assert (store.calls[MAKES[size]], store.calls["head_object"]) == (1, 0)


@sizes
@pytest.mark.parametrize("left", ["another program's object", "nothing"])
def test_what_is_there_instead_is_looked_at_and_then_replaced(
    rig: Rig, size: str, left: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One look, one more request, and the log names the file."""
    store = changed(rig, size)
    if left == "nothing":
        del store.objects["p/f"]
    else:
        store.without_metadata("p/f", b"theirs")

    rig.sync("f")

    assert store.objects["p/f"].data == NEW[size]
    assert (store.calls[MAKES[size]], store.calls["head_object"]) == (2, 1)
    assert "docs:f: its object was" in caplog.text


def test_a_copy_replaces_no_more_than_a_put_does(rig: Rig) -> None:
    """It has no condition, so what it would replace is looked at: another machine's object stays."""
    rig.write("twin", NEW["small"])
    rig.sync("twin")
    store = changed(rig, "small")
    theirs = b"of another machine"
    store.put_object("p/f", theirs, ObjectMeta(of_bytes(theirs), 0, instance="another"))

    with pytest.raises(StoreRefused, match="another machine"):
        rig.sync("f")

    assert store.objects["p/f"].data == theirs


@sizes
def test_what_comes_after_the_look_is_not_replaced_unseen(rig: Rig, size: str) -> None:
    """The second try has a condition of its own; the file is tried again later."""
    store = changed(rig, size)
    store.without_metadata("p/f", b"theirs")
    store.after("head_object", lambda call: store.without_metadata("p/f", b"newer still"))

    with pytest.raises(PreconditionFailed):
        rig.sync("f")

    assert store.objects["p/f"].data == b"newer still"
    store.heal()
    rig.sync("f")
    assert store.objects["p/f"].data == NEW[size]


@sizes
def test_a_try_whose_answer_was_lost_is_recognised(
    tmp_path: Path, size: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its repeat meets the object that the first try made, and takes it for what it is."""
    clock = Clock(lambda: 0.0, lambda seconds: None, lambda: 0.5)
    rig = Rig(tmp_path, wrap_store=lambda store: RetryingStore(store, clock))
    store = changed(rig, size)
    store.lose_answer(MAKES[size])

    rig.sync("f")

    assert store.objects["p/f"].data == NEW[size]
    assert store.calls[MAKES[size]] == 2
    assert "its object was" not in caplog.text
    rig.close()


@sizes
@pytest.mark.parametrize(
    "refusal",
    [
        StoreRefused("no", status=403, code="AccessDenied"),
        StoreRefused("what is this", status=501, code="NotImplemented"),
        PreconditionFailed("although it is that object", status=412),
    ],
    ids=["denied", "unknown", "never met"],
)
def test_where_conditions_do_not_work_the_file_goes_without(
    rig: Rig, size: str, refusal: StoreRefused | PreconditionFailed
) -> None:
    """No file waits for a permission or a server that it never needed; the next one does not try."""
    store = changed(rig, size)
    store.fail(MAKES[size], refusal, times=1)

    rig.sync("f")

    assert store.objects["p/f"].data == NEW[size]
    assert store.objects["p/f"].meta.replaces is None or size == "large"
    store.reset_counters()
    rig.write("f", OLD[size])
    rig.sync("f")
    assert store.calls[MAKES[size]] == 1
    assert not rig.uploader.shortcuts.works("replace objects on a condition")


@pytest.mark.parametrize(
    ("documented", "learned", "asked"),
    [(False, "", False), (False, HONOURED, True), (True, IGNORED, False), (False, IGNORED, False)],
)
def test_a_store_is_asked_for_conditions_that_it_is_known_to_honour(
    tmp_path: Path, documented: bool, learned: str, asked: bool
) -> None:
    """By its documents, or by what `syncd check` tried out, which counts for more; from the next put on."""
    store = FakeStore(replace(SMALL_LIMITS, has_conditions=documented))
    rig = Rig(tmp_path, store=store)
    changed(rig, "small")
    store.without_metadata("p/f", b"theirs")
    if learned:
        rig.state.learn(store.store_id, CONDITIONS, learned)
        rig.uploader.look_up()
    rig.sync("f")
    assert store.objects["p/f"].data == NEW["small"]
    assert (store.objects["p/f"].meta.replaces is not None) == asked
    assert (store.calls["put_object"], store.calls["head_object"]) == ((2, 1) if asked else (1, 0))
    rig.close()


def test_a_row_in_doubt_sets_no_condition(rig: Rig) -> None:
    """Its object may be what a lost request of ours made."""
    store = changed(rig, "small")
    store.fail("put_object", StoreUnavailable("lost", outcome_unknown=True), times=1)
    with pytest.raises(StoreUnavailable):
        rig.sync("f")
    rig.sync("f")
    assert store.objects["p/f"].meta.replaces is None
    assert (store.calls["put_object"], store.calls["head_object"]) == (2, 0)


def test_what_was_seen_while_reconciling_is_the_condition(rig: Rig) -> None:
    """An outdated object of a migrant is replaced, and only that one."""
    rig.know(reconciling=True)
    rig.fake.without_metadata("p/f", b"outdated")
    etag = rig.fake.objects["p/f"].etag
    rig.write("f", b"new")
    rig.write("g", b"new too")
    rig.sync("f")
    rig.sync("g")
    assert rig.fake.objects["p/f"].meta.replaces == etag
    assert rig.fake.objects["p/g"].meta.replaces == ""


@pytest.mark.parametrize("what", ["overwrite", "delete"])
def test_an_object_of_syncd_that_the_state_does_not_know_puts_all_rows_in_doubt(
    tmp_path: Path, what: str
) -> None:
    """The state was taken back to an earlier time: the next scan compares every object, once."""
    rig = Rig(tmp_path, on_delete=OnDelete.DELETE)
    rig.write("other", b"other")
    rig.sync("other")
    store = changed(rig, "small")
    in_a_lost_time(rig, "p/f", b"of a time that was lost")
    in_a_lost_time(rig, "p/other", b"another one of that time")
    if what == "delete":
        (rig.folder / "f").unlink()

    rig.sync("f", delete_allowed=True)

    row = rig.state.recorded(rig.ref("other"))
    assert row is not None
    assert (row.life, row.racy) == (OVERTAKEN, True)
    assert store.objects["p/f"].data == (b"new" if what == "overwrite" else b"of a time that was lost")
    rig.sync("other", event=False)
    assert store.objects["p/other"].data == b"other"
    row = rig.state.recorded(rig.ref("other"))
    assert row is not None
    assert row.life == rig.state.life
    rig.close()


@sizes
def test_another_machines_object_is_not_replaced(rig: Rig, size: str) -> None:
    """Found by the condition, without a question before; the operator decides."""
    store = changed(rig, size)
    theirs = ObjectMeta(of_bytes(b"theirs"), 0, instance="another machine's docs")
    store.put_object("p/f", b"theirs", theirs)
    for _ in range(3):
        with pytest.raises(StoreRefused, match="another machine"):
            rig.sync("f")
    assert store.objects["p/f"].data == b"theirs"
    rig.engine.foreigners.take_over("docs")
    rig.sync("f")
    assert store.objects["p/f"].data == NEW[size]


def test_an_object_of_another_program_puts_no_other_row_in_doubt(rig: Rig) -> None:
    """It says nothing about the state."""
    rig.write("other", b"other")
    rig.sync("other")
    store = changed(rig, "small")
    store.without_metadata("p/f", b"theirs")
    rig.sync("f")
    row = rig.state.recorded(rig.ref("other"))
    assert row is not None
    assert row.life == rig.state.life
