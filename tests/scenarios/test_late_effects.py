"""A request without an answer is repeated with success, and carried out minutes later, over newer content."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import StoreUnavailable
from syncd.core.model import ObjectMeta, OnDelete
from syncd.core.plan import LATE_EFFECT_NS
from syncd.sources.fingerprint import of_bytes
from syncd.storage.base import Clock
from syncd.storage.retry import RetryingStore
from tests.support.rig import Rig

BIG = bytes(range(30))
BIG2 = BIG[::-1]


class Late(Rig):
    """A rig with retry, whose clocks the test moves ahead."""

    under_way: AbstractContextManager[None]

    def open(self) -> None:
        self._wrap_store = lambda store: RetryingStore(
            store, Clock(time.time, lambda seconds: None, lambda: 0.5), unsettled=self._unsettled
        )
        super().open()
        self.ahead_ns = 0
        self.now_ns = lambda: time.time_ns() + self.ahead_ns
        self.state.unsettled._monotonic = lambda: time.monotonic() + self.ahead_ns / 1e9

    def _unsettled(self, key: str, creates: bool) -> None:
        self.state.unsettled.add(self.store.store_id, key, creates=creates)

    def lose(self, verb: str) -> None:
        """The next request of this kind is on its way, and its answer is lost; the repeat has one."""
        self.fake.fail(verb, StoreUnavailable("the answer was lost", outcome_unknown=True))

    def arrives(self, content: bytes | None) -> None:
        """What was on its way is carried out now."""
        if content is None:
            self.fake.delete_object("p/a")
        else:
            self.fake.put_object("p/a", content, ObjectMeta(of_bytes(content), 0))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Late]:
    rig = Late(tmp_path, on_delete=OnDelete.DELETE)
    yield rig
    rig.close()


def _new(rig: Late) -> bytes:
    rig.lose("put_object")
    rig.write("a", b"old")
    rig.sync("a")
    return b"old"


def _changed(rig: Late) -> bytes:
    rig.write("a", b"before")
    rig.sync("a")
    return _new(rig)


def _copied(rig: Late) -> bytes:
    rig.write("b", b"the same")
    rig.sync("b")
    rig.lose("copy_object")
    rig.write("a", b"the same")
    rig.sync("a")
    return b"the same"


def _completed(rig: Late) -> bytes:
    rig.lose("complete_multipart_upload")
    rig.write("a", BIG)
    rig.sync("a")
    return BIG


def _killed(rig: Late) -> bytes:
    """The process ends while a request is under way, and what becomes of it is unknown."""
    rig.write("a", b"before")
    rig.sync("a")
    assert rig.state.under_way is not None
    rig.under_way = rig.state.under_way.note(rig.store.store_id, "p/a", creates=True)
    rig.under_way.__enter__()
    rig.restart()
    return b"old"


def _deleted(rig: Late) -> None:
    rig.write("a", b"old")
    rig.sync("a")
    (rig.folder / "a").unlink()
    rig.lose("delete_object")
    rig.sync("a", delete_allowed=True)
    assert rig.state.recorded(rig.ref("a")) is None


@pytest.mark.parametrize("newer", [b"new", BIG2], ids=["small", "big"])
@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("lost", [_new, _changed, _copied, _completed, _deleted, _killed])
def test_a_late_effect_behind_a_repeat_is_made_up_for(
    rig: Late, lost: Callable[[Late], Any], restarted: bool, newer: bytes
) -> None:
    """The file is looked at again when the time is over, and its object is right then, and trusted."""
    late = lost(rig)
    if restarted:
        rig.restart()
    rig.write("a", newer)
    again = rig.sync("a").doubt_seconds
    assert again is not None
    assert again * 1e9 > LATE_EFFECT_NS / 2

    rig.arrives(late)
    rig.ahead_ns += round(again * 1e9)
    assert rig.sync("a", event=False).doubt_seconds is None

    assert rig.fake.objects["p/a"].data == newer
    row = rig.state.recorded(rig.ref("a"))
    assert row is not None
    assert not row.in_doubt


@pytest.mark.parametrize("restarted", [False, True])
def test_an_object_that_comes_back_behind_its_deletion_is_deleted_again(rig: Late, restarted: bool) -> None:
    """Its record stays until no lost request can make it any more."""
    late = _new(rig)
    (rig.folder / "a").unlink()
    again = rig.sync("a", delete_allowed=True).doubt_seconds
    assert again is not None
    assert "p/a" not in rig.fake.objects
    if restarted:
        rig.restart()

    rig.arrives(late)
    rig.ahead_ns += round(again * 1e9)
    assert rig.sync("a", delete_allowed=True).doubt_seconds is None

    assert "p/a" not in rig.fake.objects
    assert rig.state.recorded(rig.ref("a")) is None


def test_without_a_lost_answer_nothing_is_asked(rig: Late) -> None:
    """One request for a new file, one for a change; a deletion looks at the object first."""
    heads: list[object] = []
    rig.fake.before("head_object", heads.append)
    for content in (b"one", b"two"):
        rig.write("a", content)
        assert rig.sync("a").doubt_seconds is None
    assert (rig.fake.calls["put_object"], heads) == (2, [])
    (rig.folder / "a").unlink()
    assert rig.sync("a", delete_allowed=True).doubt_seconds is None
    assert (rig.fake.calls["delete_object"], len(heads)) == (1, 1)
