"""`syncd check --thorough` on conditions: tried out, remembered, and tried again."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from syncd.cli import common
from syncd.cli.check import conditions
from syncd.core.errors import StoreError, StoreRefused, StoreUnavailable
from syncd.state.state import State
from syncd.storage.base import CONDITIONS, HONOURED, IGNORED
from tests.support.store import SMALL_LIMITS, FakeStore


@pytest.mark.parametrize("documented", [False, True])
@pytest.mark.parametrize("ignores", [False, True])
def test_what_a_store_does_with_conditions_is_remembered_where_it_is_news(
    tmp_path: Path, documented: bool, ignores: bool
) -> None:
    """And corrected when the store does something else since. Nothing is left in the store."""
    with closing(State.open(str(tmp_path), now_ns=time.time_ns)):
        pass
    store = FakeStore(replace(SMALL_LIMITS, has_conditions=documented), ignores_conditions=ignores)
    told: list[tuple[bool | None, str]] = []

    def known() -> str:
        conditions.examine(
            store, "m", "p/", str(tmp_path), lambda name, passed, detail: told.append((passed, detail))
        )
        assert (store.objects, store.uploads) == ({}, {})
        return common.learned(str(tmp_path), store.store_id, name=CONDITIONS)

    found = IGNORED if ignores else HONOURED
    assert known() == ("" if ignores is not documented else found)
    assert told == [(None if ignores else True, told[0][1])]
    store._ignores_conditions = not ignores
    other = HONOURED if ignores else IGNORED
    assert known() == other
    store._ignores_conditions = ignores
    assert known() == found


@pytest.mark.parametrize(
    ("verb", "error"),
    [
        ("put_object", StoreRefused("no", status=501)),
        ("put_object", StoreUnavailable("down")),
        ("complete_multipart_upload", StoreRefused("no", status=403)),
    ],
)
def test_a_question_about_conditions_that_fails_changes_nothing(
    tmp_path: Path, verb: str, error: StoreError
) -> None:
    """It is a remark, and what was known stays."""
    with closing(State.open(str(tmp_path), now_ns=time.time_ns)) as state:
        state.learn(FakeStore().store_id, CONDITIONS, HONOURED)
    store = FakeStore(SMALL_LIMITS).fail(verb, error, times=None)
    told: list[tuple[bool | None, str]] = []
    conditions.examine(
        store, "m", "p/", str(tmp_path), lambda name, passed, detail: told.append((passed, detail))
    )
    assert [(passed, "could not find out" in detail) for passed, detail in told] == [(None, True)]
    assert common.learned(str(tmp_path), store.store_id, name=CONDITIONS) == HONOURED
    assert (store.objects, store.uploads) == ({}, {})
